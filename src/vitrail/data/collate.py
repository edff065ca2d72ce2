"""Samples to packs, and a pack to tensors: streams laid end to end, media decoded here and nowhere earlier.

One window of samples is packed under two budgets, tokens and picture patches, by a function of the window alone:
`best_fit` keeps every sample whole; `fixed_length` fills every pack to its end and cuts the last sample there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitrail.contracts.errors import MediaError
from vitrail.contracts.protocols import Alter, MediaRule
from vitrail.contracts.samples import (
    IGNORE,
    TARGET,
    TEXT,
    Batch,
    Link,
    MediaSlot,
    MediaStream,
    Pack,
    Sample,
    Segments,
    Stream,
    TargetText,
    TextStream,
)
from vitrail.data.config import PackConfig
from vitrail.data.encode import cut
from vitrail.data.ledger import Event


def pack_window(samples: Sequence[Sample], config: PackConfig) -> list[Pack]:
    """The window's packs, by the recipe's policy. Every sample must fit a pack by itself."""
    if config.policy == "fixed_length":
        return fixed_length(samples, config.length, config.patches)
    return best_fit(samples, config.length, config.patches)


def best_fit(samples: Sequence[Sample], length: int, patches: int) -> list[Pack]:
    """Packs every sample exactly once, longest first, each into the fullest pack that still takes it.

    Packs come out by the earliest sample in them. Within a pack samples lie by size, since attention takes neighbours
    of equal length as one batch.
    """
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []
    order = sorted(range(len(samples)), key=lambda number: (-samples[number].tokens, number))
    for number in order:
        tokens, views = samples[number].tokens, samples[number].patches
        assert tokens <= length, f"sample {samples[number].id} has more tokens than a pack"
        assert views <= patches, f"sample {samples[number].id} has more patches than a pack"
        fitting = [pack for pack, (free, free_views) in enumerate(room) if free >= tokens and free_views >= views]
        if fitting:
            best = min(fitting, key=lambda pack: room[pack])
        else:
            best = len(bins)
            bins.append([])
            room.append((length, patches))
        bins[best].append(number)
        room[best] = room[best][0] - tokens, room[best][1] - views
    return [_by_size([samples[number] for number in sorted(members)]) for members in sorted(bins, key=min)]


def _by_size(samples: Sequence[Sample]) -> Pack:
    return Pack(tuple(sorted(samples, key=lambda sample: (sample.patches, len(sample), sample.tokens))))


def fixed_length(samples: Sequence[Sample], length: int, patches: int) -> list[Pack]:
    """Samples one after the other; the one that reaches over a pack's end is cut there, and its rest is left out.

    Where the cut would fall into a picture, or would leave nothing to learn, the sample opens the next pack instead.
    Source: MiniCPM-V, arXiv 2408.01800, section 4.2.2.
    """
    packs: list[list[Sample]] = []
    room, free_patches = 0, 0
    for sample in samples:
        if sample.tokens <= room and sample.patches <= free_patches:
            kept = sample
        else:
            short = cut(sample, room) if packs and 0 < room < sample.tokens else None
            if short is not None and short.patches <= free_patches:
                reason = f"{sample.location or sample.id}: cut to {room} of {sample.tokens} tokens, to fill a pack"
                kept = replace(short, reason=reason)
            else:
                packs.append([])
                room, free_patches = length, patches
                kept = sample
        packs[-1].append(kept)
        room, free_patches = room - kept.tokens, free_patches - kept.patches
    return [_by_size(pack) for pack in packs]


Rules = Mapping[str, MediaRule]
"""The rule of each media stream, by name."""

Decoded = list[NDArray[Any]]
"""What each slot of a sample shows, in their order."""


def collate(pack: Pack, rules: Rules, pad_to: int = 0) -> tuple[Batch | None, list[Event]]:
    """The batch, and what became of each sample. pad_to: fixed length of the text stream; 0 for none.

    A sample with a medium that turns out damaged is left out and reported; None when nothing is left.
    """
    batch, events = gather(pack, rules, pad_to)
    return batch and normalised(batch, rules), events


def normalised(batch: Batch, rules: Rules) -> Batch:
    """A batch as `gather` leaves it, with its media as the encoders read them."""
    for name, stream in batch.media.items():
        values = rules[name].normalised(stream.values.numpy(), stream.segments.lengths)
        batch = batch.having(name, replace(stream, values=torch.from_numpy(values)))
    return batch


def gather(pack: Pack, rules: Rules, pad_to: int = 0) -> tuple[Batch | None, list[Event]]:
    """The same as `collate` but for one thing: patches are bytes yet, a quarter of what travels between processes.

    Media that are withheld are decoded all the same: a row that cannot be shown is lost to the blind baseline too.
    """
    samples: list[Sample] = []
    decoded: list[Decoded] = []
    events: list[Event] = []
    withheld = 0
    for sample in pack.samples:
        try:
            shown = decode(sample, rules)
        except MediaError as error:
            reason = f"{sample.location or sample.id}: {error}"
            events.append(Event(sample.id, sample.source, "unreadable", reason))
            continue
        kept = sample.withheld or sample
        samples.append(kept)
        decoded.append(shown if kept is sample else [])
        withheld += sample.tokens - kept.tokens
        events.append(Event(sample.id, sample.source, sample.outcome, sample.reason))
    if not samples:
        return None, events
    text, padding = _text(samples, pad_to)
    streams: dict[str, Stream] = {TEXT: text}
    if samples[0].target is not None:
        streams[TARGET] = _target([sample.target for sample in samples], padded=padding > 0)
        padding += padding > 0
    for name, rule in rules.items():
        stream = _media(samples, decoded, name, rule)
        if stream is not None:
            streams[name] = stream
    names = [(sample.id, sample.source, sample.tag) for sample in samples for _ in sample.segments]
    targets = [sample.target or sample for sample in samples]
    batch = Batch(
        streams=streams,
        sample_ids=tuple(name for name, _, _ in names),
        sources=tuple(source for _, source, _ in names),
        tags=tuple(tag for _, _, tag in names),
        label_weight=float(sum(one.weights.sum() for one in targets)),
        padding=padding,
        withheld=withheld,
        targets=_targets(samples),
    )
    return batch, events


def decode(sample: Sample, rules: Rules) -> Decoded:
    """Every view of a sample, in the order of its slots. Raises MediaError.

    A medium that stands in several segments is decoded once.
    """
    shown: dict[tuple[int, str], list[tuple[int, MediaSlot]]] = {}
    for index, slot in enumerate(sample.slots):
        shown.setdefault((slot.media, slot.view.stream), []).append((index, slot))
    found: dict[int, NDArray[Any]] = {}
    known: dict[tuple[int, str], Decoded] = {}
    first = {id(part): number for number, part in reversed(list(enumerate(sample.media)))}
    for (number, stream), slots in shown.items():
        part = sample.media[number]
        key = (first[id(part)], stream)
        if key not in known:
            alter: Alter | None = partial(_altered, sample, key[0]) if sample.alter else None
            known[key] = rules[stream].decoded(part, [slot.view for _, slot in slots], alter)
        for (index, _), view in zip(slots, known[key], strict=True):
            found[index] = view
    return [found[index] for index in range(len(sample.slots))]


def _altered(sample: Sample, number: int, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    assert sample.alter is not None, "only samples that are altered come here"
    return sample.alter(image, number)


def _text(samples: Sequence[Sample], pad_to: int) -> tuple[TextStream, int]:
    lengths = [length for sample in samples for length in sample.segments]
    padding = max(0, pad_to - sum(lengths))
    if padding:
        lengths.append(padding)
    ids = np.concatenate([*(sample.ids for sample in samples), np.zeros(padding, np.int64)])
    labels = np.concatenate([*(sample.labels for sample in samples), np.full(padding, IGNORE, np.int64)])
    weights = np.concatenate([*(sample.weights for sample in samples), np.zeros(padding, np.float32)])
    positions = [_line(sample.segments) if sample.positions is None else sample.positions for sample in samples]
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


def _line(lengths: Sequence[int]) -> NDArray[np.int64]:
    """0, 1, 2 ... in each segment."""
    return np.concatenate([np.arange(length) for length in lengths])


def _target(given: Sequence[TargetText | None], *, padded: bool) -> TextStream:
    """What an encoder-decoder is to say, a segment for each of the text; padded: one more, a token, for its padding."""
    targets = [target for target in given if target is not None]
    assert len(targets) == len(given), "every sample of a pack has a target text, or none has"
    if padded:
        targets.append(TargetText(np.zeros(1, np.int64), np.full(1, IGNORE, np.int64), np.zeros(1, np.float32)))
    lengths = tuple(length for target in targets for length in target.segments)
    return TextStream(
        ids=torch.from_numpy(np.concatenate([target.ids for target in targets])),
        labels=torch.from_numpy(np.concatenate([target.labels for target in targets])),
        weights=torch.from_numpy(np.concatenate([target.weights for target in targets])),
        positions=torch.from_numpy(_line(lengths)),
        segments=Segments(lengths),
    )


def _targets(samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
    """By name; every sample has the same ones, be they empty."""
    names = samples[0].targets.keys()
    return {name: torch.from_numpy(np.concatenate([sample.targets[name] for sample in samples])) for name in names}


def _media(samples: Sequence[Sample], decoded: Sequence[Decoded], name: str, rule: MediaRule) -> MediaStream | None:
    """One stream of the pack; None where nothing in it is of that stream."""
    views, shown, links, index = [], [], [], []
    tags: list[int] = []
    offset = segment = 0
    for sample, pixels in zip(samples, decoded, strict=True):
        ends = list(accumulate(sample.segments))
        for slot, one in zip(sample.slots, pixels, strict=True):
            if slot.view.stream != name:
                continue
            views.append(slot.view)
            shown.append(one)
            # A slot without placeholders may stand at the very end.
            within = next((number for number, end in enumerate(ends) if slot.start < end), len(ends) - 1)
            links.append(Link(segment + within, slot.start + offset, len(slot.tag)))
            if slot.view.spliced:
                index.append(np.asarray(slot.indices) + offset)
            if slot.view.tag_beside:
                tags += slot.tag
        offset += len(sample)
        segment += len(ends)
    if not views:
        return None
    values, positions, lengths = rule.laid_out(shown)
    return MediaStream(
        values=torch.from_numpy(values),
        positions=torch.from_numpy(positions),
        segments=Segments(lengths),
        token_index=torch.from_numpy(np.concatenate(index) if index else np.zeros(0, np.int64)),
        views=tuple(views),
        links=tuple(links),
        tags=torch.tensor(tags) if tags else None,
    )
