"""A pack to tensors: streams laid end to end, pictures decoded here and nowhere earlier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from vitrail.contracts.errors import MediaError
from vitrail.contracts.messages import VideoPart
from vitrail.contracts.protocols import MediaRule
from vitrail.contracts.samples import IGNORE, Batch, MediaSlot, Pack, Sample, Segments, TextStream, View, VisionStream
from vitrail.data.ledger import Event
from vitrail.media import image, video
from vitrail.media.native import normalise, patchify_frames, resized

Pixels = list[NDArray[np.uint8]]


def collate(pack: Pack, media: MediaRule, pad_to: int = 0) -> tuple[Batch | None, list[Event]]:
    """The batch, and what became of each sample. pad_to: fixed length of the text stream; 0 for none.

    A sample with a picture that turns out damaged is left out and reported; None when nothing is left.
    """
    batch, events = gather(pack, media, pad_to)
    return batch and normalised(batch, media), events


def normalised(batch: Batch, media: MediaRule) -> Batch:
    """A batch as `gather` leaves it, with its patches as the encoder reads them."""
    if batch.vision is None:
        return batch
    bytes_ = batch.vision.patches.numpy()
    patches = np.empty(bytes_.shape, np.float32)
    start = 0
    for length in batch.vision.segments.lengths:  # view by view: what is converted is still in the cache
        part = slice(start, start + length)
        patches[part] = bytes_[part]
        normalise(patches[part], media.mean, media.std)
        start += length
    return replace(batch, vision=replace(batch.vision, patches=torch.from_numpy(patches)))


def gather(pack: Pack, media: MediaRule, pad_to: int = 0) -> tuple[Batch | None, list[Event]]:
    """The same as `collate` but for one thing: patches are bytes yet, a quarter of what travels between processes."""
    samples: list[Sample] = []
    pixels: Pixels = []
    events: list[Event] = []
    for sample in pack.samples:
        try:
            pixels += decode(sample, media)
        except MediaError as error:
            reason = f"{sample.location or sample.id}: {error}"
            events.append(Event(sample.id, sample.source, "unreadable", reason))
            continue
        samples.append(sample)
        events.append(Event(sample.id, sample.source, sample.outcome, sample.reason))
    if not samples:
        return None, events
    text, padding = _text(samples, pad_to)
    batch = Batch(
        text=text,
        vision=_vision(samples, pixels, media) if pixels else None,
        sample_ids=tuple(sample.id for sample in samples),
        sources=tuple(sample.source for sample in samples),
        label_weight=float(sum(sample.weights.sum() for sample in samples)),
        padding=padding,
        links=_links(samples),
    )
    return batch, events


def decode(sample: Sample, media: MediaRule) -> Pixels:
    """Every view of a sample, uint8[h, w, 3], or of a video uint8[frames, h, w, 3], in the order of its slots.

    Raises MediaError.
    """
    pixels: Pixels = []
    for number, picture in enumerate(sample.pictures):
        views = [slot.view for slot in sample.slots if slot.picture == number]
        if isinstance(picture, VideoPart):
            pixels += _frames(picture, views, sample, number)
            continue
        decoded = image.load(picture.image)
        pixels += media.resized(sample.alter(decoded, number) if sample.alter else decoded, views)
    return pixels


def _frames(given: VideoPart, views: Sequence[View], sample: Sample, number: int) -> Pixels:
    """The frames that each view shows, resized. Each is decoded once."""
    found = video.load(given, [frame for view in views for frame in view.shows])

    def shown(frame: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
        return resized(sample.alter(frame, number) if sample.alter else frame, view.width, view.height)

    return [np.stack([shown(found[frame], view) for frame in view.shows]) for view in views]


def _text(samples: Sequence[Sample], pad_to: int) -> tuple[TextStream, int]:
    lengths = [len(sample) for sample in samples]
    padding = max(0, pad_to - sum(lengths))
    if padding:
        lengths.append(padding)
    ids = np.concatenate([*(sample.ids for sample in samples), np.zeros(padding, np.int64)])
    labels = np.concatenate([*(sample.labels for sample in samples), np.full(padding, IGNORE, np.int64)])
    weights = np.concatenate([*(sample.weights for sample in samples), np.zeros(padding, np.float32)])
    positions = [np.arange(len(sample)) if sample.positions is None else sample.positions for sample in samples]
    if padding:
        positions.append(np.broadcast_to(np.arange(padding), (*positions[0].shape[:-1], padding)))
    stream = TextStream(
        ids=torch.from_numpy(ids),
        labels=torch.from_numpy(labels),
        weights=torch.from_numpy(weights),
        positions=torch.from_numpy(np.concatenate(positions, axis=-1)),
        segments=Segments(tuple(lengths)),
    )
    return stream, padding


def _links(samples: Sequence[Sample]) -> tuple[tuple[int, int], ...]:
    """For each sample, which views are its own: from and up to."""
    ends = list(accumulate((len(sample.slots) for sample in samples), initial=0))
    return tuple(pairwise(ends))


def _vision(samples: Sequence[Sample], pixels: Pixels, media: MediaRule) -> VisionStream:
    lengths = tuple(view.shape[-3] * view.shape[-2] // media.patch**2 for view in pixels)
    # Beside a video's pairs of frames a picture is a pair of equal ones; else the stem counts it as such.
    depth = max(len(view) if view.ndim == 4 else 1 for view in pixels)
    patches = np.empty((sum(lengths), 3 * depth * media.patch**2), np.uint8)
    positions, start = [], 0
    for view, length in zip(pixels, lengths, strict=True):
        frames = view if view.ndim == 4 else view[None]
        patches[start : start + length], places = patchify_frames(frames, media.patch, media.merge, depth)
        positions.append(places)
        start += length
    index, offset = [], 0
    marks = [marked(sample, slot) for sample in samples for slot in sample.slots]
    written = [tokens for sample in samples for tokens in sample.written]
    for sample in samples:
        index += [np.asarray(slot.indices) + offset for slot in sample.slots]
        offset += len(sample)
    return VisionStream(
        patches=torch.from_numpy(patches),
        positions=torch.from_numpy(np.concatenate(positions)),
        segments=Segments(lengths),
        token_index=torch.from_numpy(np.concatenate(index)),
        marks=_on_patches(marks, positions) if any(sample.marks for sample in samples) else None,
        written=torch.from_numpy(np.concatenate(written)) if written else None,
    )


def marked(sample: Sample, slot: MediaSlot) -> NDArray[np.int64]:
    """int64[rows, columns]: the id of the character that stands on each patch of a view, IGNORE where none is known.

    Where several stand on one patch, the one nearest to its middle counts.
    """
    view = slot.view
    found = np.full((view.rows, view.columns), IGNORE, np.int64)
    nearest = np.full((view.rows, view.columns), np.inf)
    for number, x, y in sample.marks[slot.picture] if sample.marks else ():
        across, down = x * view.columns, y * view.rows
        row, column = min(view.rows - 1, int(down)), min(view.columns - 1, int(across))
        away = (across - column - 0.5) ** 2 + (down - row - 0.5) ** 2
        if away < nearest[row, column]:
            found[row, column], nearest[row, column] = number, away
    return found


def _on_patches(marks: Sequence[NDArray[np.int64]], positions: Sequence[NDArray[np.int64]]) -> torch.Tensor:
    """Marks of each view in the order of its patches, int64[P]."""
    pairs = zip(marks, positions, strict=True)
    return torch.from_numpy(np.concatenate([grid[place[:, 0], place[:, 1]] for grid, place in pairs]))
