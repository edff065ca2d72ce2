"""What one folder asks of another without importing it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from vitrail.contracts.errors import DataError
    from vitrail.contracts.messages import Row
    from vitrail.contracts.samples import Segments, View, VisionStream


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


class MediaRule(Protocol):
    """The one place that knows what a picture becomes; the model's description states it, data and prompts get it."""

    patch: int
    merge: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def in_use(self) -> MediaRule:
        """The rule for pictures that are asked about; it may allow more than the one for those that are learnt from."""
        ...

    def views(self, width: int, height: int, most_tokens: int | None = None) -> tuple[View, ...]:
        """The views of a picture of that size (px), from its header alone; of all together at most so many tokens."""
        ...

    def resized(self, image: NDArray[np.uint8], views: Sequence[View]) -> list[NDArray[np.uint8]]:
        """uint8[H, W, 3] to one uint8[h, w, 3] per view; `mean` and `std` normalise it, of values from 0 to 1."""
        ...


class Source(Protocol):
    """Rows by number. `row` must be a pure function of its index, so that a run can be resumed anywhere.

    block: so many neighbours are read together for the price of one (a row group of a parquet file, say); rows are
    shuffled block by block, and then within a window.
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
    """Patches to features, each view on its own."""

    width: int

    def __call__(self, stream: VisionStream) -> torch.Tensor:
        """VisionStream to float[P, width]."""
        ...


class Projector(Protocol):
    """Features to tokens of the backbone's width."""

    def __call__(self, features: torch.Tensor, stream: VisionStream) -> torch.Tensor:
        """float[P, encoder width] to float[M, backbone width], M = len(stream.token_index)."""
        ...


class LayerCache(Protocol):
    """Keys and values of the past, one pair a layer."""

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Appends [1, heads, T, d] and returns everything seen so far. Named as transformers' layers call it."""
        ...


class Backbone(Protocol):
    """The language model: embeddings in, hidden states out."""

    width: int

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """int64[T] to float[T, width]."""
        ...

    def __call__(
        self, embeddings: torch.Tensor, positions: torch.Tensor, segments: Segments, cache: LayerCache | None = None
    ) -> torch.Tensor:
        """float[T, width] to float[T, width], after the last norm."""
        ...

    def head_weight(self) -> torch.Tensor:
        """float[vocabulary, width]."""
        ...
