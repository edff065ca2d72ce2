"""What a conversation becomes on its way to the model: views, samples, packs, batches.

Labels are shifted exactly once, in `prompts.render`: `labels[t]` is the id to be predicted *at* position t, so no model
and no loss shifts again. Every stream names its segments; packed attention takes them as a required argument.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import isqrt
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from vitrail.contracts.messages import ImagePart

IGNORE = -100
"""The label of a position that carries no loss."""

Outcome = Literal["used", "text_cut", "picture_shrunk", "picture_dropped", "over_share", "too_long", "unreadable"]
"""What becomes of a row on its way to the model; over_share: a synthetic row beyond the share they may have."""


@dataclass(frozen=True)
class View:
    """One picture, or some frames of a video, as the encoder will see it, known from headers before pixels are decoded.

    height, width: size after resizing, px. rows, columns: its patch grid. tokens: places it takes in the text stream.
    tag: text that stands before its tokens; "" for none. shows: numbers of the video's frames that it holds, () for a
    picture. seconds: from one view of a video to the next.
    """

    height: int
    width: int
    rows: int
    columns: int
    tokens: int
    tag: str = ""
    shows: tuple[int, ...] = ()
    seconds: float = 0.0

    @property
    def patches(self) -> int:
        """Patches the encoder works on."""
        return self.rows * self.columns

    @property
    def token_columns(self) -> int:
        """Tokens in a row, where the patches of a square become one token."""
        return self.columns // isqrt(self.patches // self.tokens)


@dataclass(frozen=True)
class MediaSlot:
    """Where a view's tokens stand in a sample, as placeholders, row by row from `start`.

    gap: other tokens between two rows, such as a row break.
    """

    start: int
    picture: int
    view: View
    gap: int = 0

    @property
    def indices(self) -> range | list[int]:
        """Where in the sample each of the view's tokens stands."""
        if not self.gap:
            return range(self.start, self.start + self.view.tokens)
        columns = self.view.token_columns
        return [self.start + token + self.gap * (token // columns) for token in range(self.view.tokens)]

    @property
    def end(self) -> int:
        """The place after the last of them."""
        return self.indices[-1] + 1


@dataclass(frozen=True)
class Sample:
    """One conversation, encoded.

    ids: int64[T]. labels: int64[T], the id to predict at t, or IGNORE. weights: float32[T], 0 where labels are IGNORE.
    slots: where pictures go, in reading order; `slot.picture` indexes `pictures`.
    positions: int64[T], or int64[3, T] for M-RoPE (time, row, column); None for 0, 1, 2 ...
    marks: for each picture the marks in it, as (id, x, y); () where no picture has any.
    written: for each slot the tokens that begin on its places, int64[view tokens, n]; () where that is not asked for.
    outcome, reason: how it was changed to fit, if it was. alter: what is done to its pictures once they are decoded,
    given uint8[H, W, 3] and the number of the picture; None for nothing. Their size stays.
    """

    id: str
    source: str
    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    weights: NDArray[np.float32]
    slots: tuple[MediaSlot, ...] = ()
    pictures: tuple[ImagePart, ...] = ()
    positions: NDArray[np.int64] | None = None
    marks: tuple[tuple[tuple[int, float, float], ...], ...] = ()
    written: tuple[NDArray[np.int64], ...] = ()
    location: str = ""
    outcome: Outcome = "used"
    reason: str = ""
    alter: Callable[[NDArray[np.uint8], int], NDArray[np.uint8]] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def patches(self) -> int:
        """Patches of all its views together."""
        return sum(slot.view.patches for slot in self.slots)


@dataclass(frozen=True)
class Pack:
    """Samples laid end to end, each its own segment."""

    samples: tuple[Sample, ...]

    @property
    def tokens(self) -> int:
        """Real tokens in the pack; padding is the collator's business."""
        return sum(map(len, self.samples))

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
    """ids, labels: int64[T]; weights: float32[T]; segments: one per sample, then one of padding if any.

    positions: int64[T], or int64[3, T] for M-RoPE (time, row, column); they begin anew in every segment.
    """

    ids: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    positions: torch.Tensor
    segments: Segments


@dataclass(frozen=True)
class VisionStream:
    """Patches of every view of the pack.

    patches: float32[P, 3 * patch * patch], normalised (uint8 on the way from process to process); where videos are
    among them, of as many frames as a view has of them, float32[P, 3 * frames * patch * patch]. positions: int64[P, 2],
    row and column within the view.
    segments: one per view. token_index: int64[M], the place in the text stream of each token the projector makes.
    Patches that merge into one token lie together (`media.patches`). marks: int64[P], the id of the character that
    stands on each patch, IGNORE where none is known; None when no picture has marks. written: int64[M, n], the ids of
    the tokens that begin on each place, in their order, then IGNORE; None when that is not asked for.
    """

    patches: torch.Tensor
    positions: torch.Tensor
    segments: Segments
    token_index: torch.Tensor
    marks: torch.Tensor | None = None
    written: torch.Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """One pack as tensors. sample_ids and sources: one per text segment (padding excluded).

    label_weight: the loss weights summed. padding: tokens. links: for each text segment, which segments of the vision
    stream it may see, from and up to.
    """

    text: TextStream
    vision: VisionStream | None
    sample_ids: tuple[str, ...]
    sources: tuple[str, ...]
    label_weight: float
    padding: int = 0
    links: tuple[tuple[int, int], ...] = ()

    @property
    def tokens(self) -> int:
        """Real tokens, padding excluded."""
        return self.text.segments.total - self.padding

    def to(self, device: torch.device | str) -> Batch:
        """A copy whose tensors lie on `device`."""
        return replace(self, text=_move(self.text, device), vision=self.vision and _move(self.vision, device))


S = TypeVar("S", TextStream, VisionStream)


def _move(stream: S, device: torch.device | str) -> S:
    tensors = {name: value.to(device) for name, value in vars(stream).items() if hasattr(value, "to")}
    return replace(stream, **tensors)
