"""Packing one window of samples under two budgets, tokens and picture patches: a function of the window alone.

`best_fit` keeps every sample whole; `fixed_length` fills every pack to its end and cuts the last sample there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vitrail.contracts.samples import Pack, Sample
from vitrail.data.config import PackConfig
from vitrail.data.fitting import cut


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
