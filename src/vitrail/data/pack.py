"""Best-fit packing of one window of samples under two budgets: tokens and picture patches."""

from __future__ import annotations

from collections.abc import Sequence

from vitrail.contracts.samples import Pack, Sample


def pack_window(samples: Sequence[Sample], length: int, patches: int) -> list[Pack]:
    """Packs every sample exactly once, longest first, each into the fullest pack that still takes it.

    Packs come out by the earliest sample in them: the result is a function of the window alone. Within a pack samples
    lie by size, since attention takes neighbours of equal length as one batch. Every sample must fit a pack by itself
    (`encode.fit` sees to it).
    """
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []
    order = sorted(range(len(samples)), key=lambda number: (-len(samples[number]), number))
    for number in order:
        tokens, views = len(samples[number]), samples[number].patches
        assert tokens <= length, f"sample {samples[number].id} has more tokens than a pack"
        assert views <= patches, f"sample {samples[number].id} has more patches than a pack"
        fitting = [place for place, (free, free_views) in enumerate(room) if free >= tokens and free_views >= views]
        if fitting:
            best = min(fitting, key=lambda place: room[place])
        else:
            best = len(bins)
            bins.append([])
            room.append((length, patches))
        bins[best].append(number)
        room[best] = room[best][0] - tokens, room[best][1] - views
    by_size = sorted(range(len(samples)), key=lambda number: (samples[number].patches, len(samples[number]), number))
    place = {number: rank for rank, number in enumerate(by_size)}
    return [
        Pack(tuple(samples[number] for number in sorted(members, key=place.__getitem__)))
        for members in sorted(bins, key=min)
    ]
