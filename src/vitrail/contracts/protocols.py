"""What one folder asks of another without importing it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from vitrail.contracts.errors import DataError
    from vitrail.contracts.messages import Conversation, MediaPart, Row
    from vitrail.contracts.pages import Page
    from vitrail.contracts.samples import Batch, MediaSlot, MediaStream, Segments, View


class Tokenizer(Protocol):
    """Text to ids and back. Text can never become a special token; those are asked for by name."""

    @property
    def vocabulary(self) -> int:
        """Ids it can make."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of plain text. A special token spelled in `text` stays text."""
        ...

    def starts(self, text: str) -> list[tuple[int, int]]:
        """Ids of plain text, each with the number of the character it begins at."""
        ...

    def special(self, name: str) -> int:
        """Id of the special token `name`. Raises WeightsError when the vocabulary has none such."""
        ...

    def decode(self, ids: Sequence[int], *, show_special: bool = False) -> str:
        """Text of ids; special tokens are left out unless asked for."""
        ...

    def save(self, folder: str) -> None:
        """Writes the tokenizer's files into `folder`."""
        ...


class PictureRule(Protocol):
    """What a single picture becomes, by its size: the views, and their pixels."""

    patch: int
    merge: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def in_use(self) -> PictureRule:
        """The rule for pictures that are asked about; it may allow more than the one for those that are learnt from."""
        ...

    def views(self, width: int, height: int, most_tokens: int | None = None) -> tuple[View, ...]:
        """The views of a picture of that size (px), from its header alone; of all together at most so many tokens."""
        ...

    def resized(self, image: NDArray[np.uint8], views: Sequence[View]) -> list[NDArray[np.uint8]]:
        """uint8[H, W, 3] to one uint8[h, w, 3] per view; `mean` and `std` normalise it, of values from 0 to 1."""
        ...


Alter = Callable[["NDArray[np.uint8]"], "NDArray[np.uint8]"]
"""What is done to a decoded picture, uint8[H, W, 3], before it is resized; its size stays."""


class MediaRule(Protocol):
    """The one place that knows what the media of a stream become: their views, tokens and values.

    The model's description states it, data and prompts get it.
    """

    @property
    def in_use(self) -> MediaRule:
        """The rule for media that are asked about; it may allow more than the one for those that are learnt from."""
        ...

    def reads(self, part: MediaPart) -> bool:
        """Whether media of this kind belong to the stream."""
        ...

    def views(self, part: MediaPart, most_tokens: int | None = None) -> tuple[View, ...]:
        """Its views, from its header alone; of all together at most so many tokens. Raises MediaError."""
        ...

    def decoded(self, part: MediaPart, views: Sequence[View], alter: Alter | None = None) -> list[NDArray[Any]]:
        """What each of its views holds, decoded and resized, not cut up yet. Raises MediaError."""
        ...

    def laid_out(self, views: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[np.int64], tuple[int, ...]]:
        """Decoded views end to end: values [P, D], positions int64[P, axes], and the length of each view in them."""
        ...

    def positions(self, view: View) -> NDArray[np.int64]:
        """Positions of one view's values in the order in which they are laid out, int64[P, axes]."""
        ...

    def normalised(self, values: NDArray[Any], lengths: Sequence[int]) -> NDArray[np.float32]:
        """Values as they are laid out to float32[P, D] as the encoder reads them."""
        ...


@runtime_checkable
class TextReading(Protocol):
    """A media rule that finds text on its media."""

    def text(self, part: MediaPart) -> str:
        """What stands on a medium that it reads. Raises MediaError."""
        ...


class PageReader(Protocol):
    """Pictures of pages to what is written on them; picklable, for workers."""

    @property
    def signature(self) -> str:
        """Names what it makes of pages: the same for the same weights and settings."""
        ...

    def __call__(self, picture: NDArray[np.uint8]) -> Page:
        """uint8[H, W, 3] to its lines, in reading order."""
        ...


class TargetMaker(Protocol):
    """Makes what an objective compares with, sample by sample, while a row is encoded; picklable, for workers."""

    def __call__(
        self,
        media: Sequence[MediaPart],
        slots: Sequence[MediaSlot],
        tokenizer: Tokenizer,
        rules: Mapping[str, MediaRule],
    ) -> Mapping[str, NDArray[Any]]:
        """By name; the arrays of a pack's samples are laid one after the other. `slot.media` indexes `media`."""
        ...


@dataclass(frozen=True)
class Needs:
    """What an objective asks of the data.

    targets: made of every sample. variants: the ways a row may go on that the objective compares, each a conversation
    and a segment of the same sample, of which no turn of the prompt (`Conversation.shared`) is learnt; None for the
    row's conversation alone. Raises DataError for a row without.
    """

    targets: tuple[TargetMaker, ...] = ()
    variants: Callable[[Conversation], tuple[Conversation, ...]] | None = None


class Source(Protocol):
    """Rows by number. `row` must be a pure function of its index, so that a run can be resumed anywhere.

    block: so many neighbours are read together for the price of one (a row group of a parquet file, say); rows are
    shuffled block by block, and then within a window. A source whose blocks are large may have a number `together`: so
    many of them it keeps in memory at once, and rows are drawn from all of these.
    """

    name: str
    block: int

    def __len__(self) -> int: ...

    def row(self, index: int) -> Row:
        """The row at `index`. Raises DataError, naming its place, for one that cannot be read."""
        ...


class StreamedSource(Protocol):
    """Rows in the order in which they arrive, of data that has no length and no way to its middle."""

    name: str

    def rows(self, epoch: int, cursor: Any) -> Iterator[tuple[Row | DataError, Any]]:
        """The rows of one epoch from a cursor on, each with the cursor after it.

        cursor: None for the start, else what came with an earlier row; plain data that JSON can carry. A row that
        cannot be read comes as its error, so that those after it are not lost.
        """
        ...


class Encoder(Protocol):
    """A media stream to features, each view on its own. An `nn.Module`.

    Where it makes one feature of several neighbours in a view it says how many, as `stride`; a projector is then handed
    the stream of the features.
    """

    width: int

    def __call__(self, stream: MediaStream) -> torch.Tensor:
        """MediaStream to float[F, width]; F is P unless the encoder says otherwise."""
        ...


class Projector(Protocol):
    """Features to tokens of the backbone's width. An `nn.Module`."""

    def __call__(self, features: torch.Tensor, stream: MediaStream) -> torch.Tensor:
        """float[F, encoder width] to float[M, backbone width]: the tokens of each view, row by row."""
        ...


class JoiningProjector(Protocol):
    """A projector that takes the tokens of another stream of the same media beside its own features; it is one stream's
    `Projector` that says so by `joins`. An `nn.Module`."""

    joins: str
    """The other stream, which is seen nowhere else."""

    def __call__(self, features: torch.Tensor, stream: MediaStream, beside: torch.Tensor) -> torch.Tensor:
        """beside: the other stream's tokens, float[F, its projector's width], one for each feature."""
        ...


PositionBias = Callable[[int, int], "torch.Tensor"]
"""(queries, keys) to float[H, queries, keys], added to the scores of attention: the queries are the last positions."""


class Cache(Protocol):
    """The past of several sequences; it owns its memory, and attends to it.

    Which sequences a pass of the model covers, and how many new positions of each, is told to it before the pass.
    """

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        scale: float | None = None,
        window: int | None = None,
        bias: PositionBias | None = None,
    ) -> torch.Tensor:
        """Keeps key and value float[K, T, d] of the new positions; what queries float[H, T, d] see of past and present.

        bias: of positions; how many there are is the cache's to know. The T positions are those of the sequences under
        way, one after the other. Returns float[H, T, d].
        """
        ...

    def keep_media(self, layer: int, key: torch.Tensor, value: torch.Tensor, segments: Segments) -> None:
        """Keeps keys and values float[K, S, d] of media, for whoever asks for them under the number `layer`.

        segments: one per sequence of the pass, what its last position sees; empty where it sees none. It is called for
        the same layers in every pass that has media, and for none in a pass without: its sequences have none then.
        """
        ...

    def attend_media(self, layer: int, query: torch.Tensor, *, scale: float | None = None) -> torch.Tensor:
        """What queries float[H, T, d] see of the media of their own sequence; zeros where it has none."""
        ...

    def has_media(self) -> tuple[bool, ...]:
        """Of each of the T positions of the pass, whether its sequence has media that were kept."""
        ...


class Context(Protocol):
    """What fusion hands to the loop of decoder layers, for what happens between them."""

    def before(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        """float[T, D] as it comes to decoder layer `layer`, to the same with what the media add there.

        Once more at the end, behind the last layer and before the last norm, with their number.
        """
        ...


class Fusion(Protocol):
    """Where media meet text. An `nn.Module`."""

    def __call__(
        self, embeddings: torch.Tensor, media: Mapping[str, torch.Tensor], batch: Batch, cache: Cache | None = None
    ) -> tuple[torch.Tensor, Context | None]:
        """float[T, D] text embeddings and the tokens float[M, D] of each stream to what the backbone reads.

        cache: where keys and values of media are kept for the steps that follow.
        """
        ...

    def resumed(self, cache: Cache) -> Context | None:
        """The context of a step that goes on from what the cache has kept."""
        ...


class Backbone(Protocol):
    """The language model: embeddings in, hidden states out. An `nn.Module`."""

    width: int
    vocabulary: int

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """int64[T] to float[T, width]."""
        ...

    def __call__(
        self,
        embeddings: torch.Tensor,
        positions: torch.Tensor,
        segments: Segments,
        *,
        context: Context | None = None,
        cache: Cache | None = None,
    ) -> torch.Tensor:
        """float[T, width] to float[T, width], after the last norm. segments: of these T; the cache knows the past."""
        ...

    def head_weight(self) -> torch.Tensor:
        """float[vocabulary, width]."""
        ...


@runtime_checkable
class EncoderDecoder(Backbone, Protocol):
    """A backbone whose text is read by an encoder, and whose answer a decoder says."""

    start: int
    """The id that the decoder begins with."""

    def decode(
        self,
        embeddings: torch.Tensor,
        segments: Segments,
        states: torch.Tensor,
        state_segments: Segments,
        *,
        cache: Cache | None = None,
    ) -> torch.Tensor:
        """Target embeddings float[U, width] and encoder states float[T, width] to float[U, width].

        Segment i of the target sees segment i of the states. With a cache whose states are kept, `states` is empty.
        """
        ...
