"""What a conversation becomes on its way to the model: views, samples, packs, batches of named streams.

Labels are shifted exactly once, in `prompts.render`: `labels[t]` is the id to be predicted *at* position t, so no model
and no loss shifts again. Every stream names its segments; packed attention takes them as a required argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from vitrail.contracts.messages import MediaPart

IGNORE = -100
"""The label of a position that carries no loss."""

Outcome = Literal["used", "text_cut", "media_shrunk", "media_dropped", "over_share", "too_long", "unreadable"]
"""What becomes of a row on its way to the model; over_share: a synthetic row beyond the share they may have."""

Spliced = Literal["all", "whole", "none"]
"""Which views have tokens in the text stream: all, those that show a whole picture, or none. Tags of the tiles beside
whole pictures stand in no text either."""

TEXT, TARGET, VISION = "text", "target", "vision"
"""Names of streams: what the language model reads; what an encoder-decoder is to say; pictures and videos."""


def component(stream: str, part: Literal["encoder", "projector"]) -> str:
    """The name of a stream's encoder or projector among a model's components: `encoder`, `audio_encoder`."""
    return part if stream == VISION else f"{stream}_{part}"


@dataclass(frozen=True)
class View:
    """A piece of a medium as its encoder will see it, known from headers before anything is decoded: a tile, a whole
    picture, some frames of a video, a stretch of sound.

    height, width: size after resizing, px; 0 for what has none. rows, columns: the grid that the encoder works on
    (patches; of sound one row of frames). token_rows, token_columns: the grid of the tokens that it becomes.
    tag: text that stands before its tokens; "" for none. shows: numbers of the video's frames that it holds, () for a
    picture. seconds: from one view of a video to the next. whole: whether it shows all of a picture or frame, rather
    than a tile. stream: whose encoder sees it. spliced: whether its tokens stand in the text stream; else the language
    model sees them by cross-attention. tag_beside: whether its tag is seen with them, and stands in no text. padding:
    tokens at its end that show nothing, and that only text attends to which sees no media at all. ids: of text that
    is read in its place, one for each of its tokens, which are added to their embeddings; () where they stand alone.
    """

    height: int
    width: int
    rows: int
    columns: int
    token_rows: int
    token_columns: int
    tag: str = ""
    shows: tuple[int, ...] = ()
    seconds: float = 0.0
    whole: bool = True
    stream: str = VISION
    spliced: bool = True
    ids: tuple[int, ...] = ()
    tag_beside: bool = False
    padding: int = 0

    @property
    def patches(self) -> int:
        """What the encoder works on: patches, or frames of sound."""
        return self.rows * self.columns

    @property
    def tokens(self) -> int:
        """Tokens that the projector makes of it."""
        return self.token_rows * self.token_columns

    def placed(self, stream: str, which: Spliced, *, first: bool) -> View:
        """As one of a stream. which: views are spliced. first: whether no stream before it reads the same media."""
        spliced = first and (which == "all" or (which == "whole" and self.whole))
        return replace(self, stream=stream, spliced=spliced, tag_beside=which == "whole" and not spliced)


@dataclass(frozen=True)
class MediaSlot:
    """Where a view stands in a sample: its placeholders, row by row from `start`; none where it is not spliced.

    media: number of the medium in the sample. gap: other tokens between two rows, such as a row break. tag: of a view
    that is not spliced, the ids of its tag: those from `start` on, or, where it is read beside the view, of no text.
    """

    start: int
    media: int
    view: View
    gap: int = 0
    tag: tuple[int, ...] = ()

    @property
    def indices(self) -> range | list[int]:
        """Where in the sample each of its placeholders stands."""
        if not self.view.spliced:
            return range(self.start, self.start)
        if not self.gap:
            return range(self.start, self.start + self.view.tokens)
        columns = self.view.token_columns
        return [self.start + token + self.gap * (token // columns) for token in range(self.view.tokens)]

    @property
    def end(self) -> int:
        """The index after the last of them."""
        indices = self.indices
        return indices[-1] + 1 if indices else self.start


@dataclass(frozen=True)
class TargetText:
    """What the decoder of an encoder-decoder is to say. ids, labels: int64[T]; weights: float32[T]; labels shifted.

    lengths: of what it says to each segment of the text, () for a single one.
    """

    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    weights: NDArray[np.float32]
    lengths: tuple[int, ...] = ()

    @property
    def segments(self) -> tuple[int, ...]:
        """Lengths of its segments, one at least."""
        return self.lengths or (len(self.ids),)

    def apart(self) -> tuple[TargetText, ...]:
        """Each segment by itself."""
        ends = list(accumulate(self.segments))
        parts = [slice(end - length, end) for end, length in zip(ends, self.segments, strict=True)]
        return tuple(TargetText(self.ids[part], self.labels[part], self.weights[part]) for part in parts)


@dataclass(frozen=True)
class Sample:
    """One row, encoded: a conversation; or several segments, which are the ways it may go on, or, for an
    encoder-decoder, its answers, each with what stands before it.

    ids: int64[T]. labels: int64[T], the id to predict at t, or IGNORE. weights: float32[T], 0 where labels are IGNORE.
    slots: where media stand, in reading order; `slot.media` indexes `media`.
    positions: int64[T], or int64[3, T] for M-RoPE (time, row, column); None for 0, 1, 2 ... in each segment.
    lengths: of its segments, () for a single one. target: what an encoder-decoder is to say; labels are there then.
    targets: by name, what the stage's objective compares with (`contracts.protocols.Needs`).
    tag: what sort of task it is, as the row says; the losses of a stage are kept by it. "" for none.
    location: file and line. outcome, reason: how it was changed to fit, if it was. alter: what is done to its pictures
    once they are decoded, given uint8[H, W, 3] and the number of the medium; None for nothing. Their size stays.
    withheld: the same row without its media, which stands in its place once packs are made; None where nothing is
    withheld. So the blind baseline reads, in every step, the rows that the run has read in it.
    """

    id: str
    source: str
    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    weights: NDArray[np.float32]
    slots: tuple[MediaSlot, ...] = ()
    media: tuple[MediaPart, ...] = ()
    positions: NDArray[np.int64] | None = None
    lengths: tuple[int, ...] = ()
    target: TargetText | None = None
    targets: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    tag: str = ""
    location: str = ""
    outcome: Outcome = "used"
    reason: str = ""
    alter: Callable[[NDArray[np.uint8], int], NDArray[np.uint8]] | None = None
    withheld: Sample | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tokens(self) -> int:
        """What it takes of a pack: tokens that are read, and those that an encoder-decoder says."""
        return len(self.ids) + (0 if self.target is None else len(self.target.ids))

    @property
    def patches(self) -> int:
        """What encoders work on in all its views together."""
        return sum(slot.view.patches for slot in self.slots)

    @property
    def segments(self) -> tuple[int, ...]:
        """Lengths of its segments, one at least."""
        return self.lengths or (len(self.ids),)

    def head(self, end: int) -> Sample:
        """Its first tokens, of a single segment; all its media stand among them."""
        positions = None if self.positions is None else self.positions[..., :end]
        return replace(
            self, ids=self.ids[:end], labels=self.labels[:end], weights=self.weights[:end], positions=positions
        )

    def apart(self) -> tuple[Sample, ...]:
        """Each segment as a sample of its own, for those who look at it alone; targets are left out."""
        if not self.lengths:
            return (self,)
        found, start = [], 0
        said = [None] * len(self.lengths) if self.target is None else self.target.apart()
        for number, length in enumerate(self.lengths):
            part, last = slice(start, start + length), number == len(self.lengths) - 1
            within = [s for s in self.slots if start <= s.start and (s.start < part.stop or last)]
            made = replace(
                self,
                ids=self.ids[part],
                labels=self.labels[part],
                weights=self.weights[part],
                slots=tuple(replace(slot, start=slot.start - start) for slot in within),
                positions=None if self.positions is None else self.positions[..., part],
                lengths=(),
                target=said[number],
                targets={},
            )
            found.append(made)
            start += length
        return tuple(found)


@dataclass(frozen=True)
class Pack:
    """Samples laid end to end."""

    samples: tuple[Sample, ...]

    @property
    def tokens(self) -> int:
        """Real tokens in the pack, read and said; padding is the collator's business."""
        return sum(sample.tokens for sample in self.samples)

    @property
    def patches(self) -> int:
        """Patches of all views in the pack."""
        return sum(sample.patches for sample in self.samples)


@dataclass(frozen=True)
class Segments:
    """Spans laid end to end along a stream; nothing in one may see anything in another."""

    lengths: tuple[int, ...]

    @cached_property
    def total(self) -> int:
        """Length of the stream."""
        return sum(self.lengths)

    @cached_property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """Neighbours of equal length, as (length, how many): they can be computed as one batch."""
        runs: list[tuple[int, int]] = []
        for length in self.lengths:
            if runs and runs[-1][0] == length:
                runs[-1] = (length, runs[-1][1] + 1)
            else:
                runs.append((length, 1))
        return tuple(runs)


@dataclass(frozen=True)
class TextStream:
    """ids, labels: int64[T]; weights: float32[T]; segments: those of the samples, then one of padding if any.

    positions: int64[T], or int64[3, T] for M-RoPE (time, row, column); they begin anew in every segment.
    """

    ids: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    positions: torch.Tensor
    segments: Segments


@dataclass(frozen=True)
class Link:
    """Which text may see a view. segment: of the text stream. start: index in the text stream where the view stands.

    tag: tokens of its tag, where it is not spliced: in the text from `start` on, or beside the view.
    """

    segment: int
    start: int
    tag: int = 0


@dataclass(frozen=True)
class MediaStream:
    """What one encoder reads: every view of the pack that is its own, laid end to end.

    values: float32[P, D], normalised (bytes on the way from process to process): patches, D = 3 * patch * patch, or,
    where videos are among them, 3 * frames * patch * patch; frames of sound, D = bands of the spectrogram.
    positions: int64[P, axes]; of a patch its row and column within the view, of sound the number of the frame.
    segments: one per view. token_index: int64[M], the index in the text stream of each token that is spliced there.
    views, links: one per segment, what it is and which text may see it.
    tags: int64[K], ids of the tags that are read beside their views, view after view; None for none.
    Patches that merge into one token lie together (`media.native`).
    """

    values: torch.Tensor
    positions: torch.Tensor
    segments: Segments
    token_index: torch.Tensor
    views: tuple[View, ...] = ()
    links: tuple[Link, ...] = ()
    tags: torch.Tensor | None = None


Stream = TextStream | MediaStream


@dataclass(frozen=True)
class Batch:
    """One pack as tensors: streams by name. sample_ids, sources and tags: one per text segment (padding excluded).

    label_weight: the loss weights summed. padding: tokens, of text and target. withheld: tokens that its rows have and
    the batch has not, for the blind baseline. targets: by name, what the objective
    compares with; each is the targets of the samples, one after the other.
    """

    streams: Mapping[str, Stream]
    sample_ids: tuple[str, ...]
    sources: tuple[str, ...]
    label_weight: float
    padding: int = 0
    withheld: int = 0
    targets: Mapping[str, torch.Tensor] = field(default_factory=dict)
    tags: tuple[str, ...] = ()

    @property
    def text(self) -> TextStream:
        """What the language model reads."""
        return self._text(TEXT)

    @property
    def learnt(self) -> TextStream:
        """The stream that has the labels: the target stream where there is one, else the text."""
        return self._text(TARGET if TARGET in self.streams else TEXT)

    @property
    def media(self) -> Mapping[str, MediaStream]:
        """The media streams, by name."""
        return {name: stream for name, stream in self.streams.items() if isinstance(stream, MediaStream)}

    @property
    def vision(self) -> MediaStream | None:
        """Pictures and videos, where there are any."""
        return self.media.get(VISION)

    @property
    def tokens(self) -> int:
        """Real tokens, read and said; padding excluded."""
        said = self.learnt.segments.total if TARGET in self.streams else 0
        return self.text.segments.total + said - self.padding

    def to(self, device: torch.device | str) -> Batch:
        """A copy whose tensors lie on `device`."""
        streams = {name: _moved(stream, device) for name, stream in self.streams.items()}
        targets = {name: target.to(device) for name, target in self.targets.items()}
        return replace(self, streams=streams, targets=targets)

    def having(self, name: str, stream: Stream) -> Batch:
        """A copy with another stream under that name."""
        return replace(self, streams={**self.streams, name: stream})

    def _text(self, name: str) -> TextStream:
        stream = self.streams[name]
        assert isinstance(stream, TextStream), f"'{name}' is a stream of text"
        return stream


def _moved(stream: Stream, device: torch.device | str) -> Stream:
    tensors = {name: value.to(device) for name, value in vars(stream).items() if hasattr(value, "to")}
    return replace(stream, **tensors)
