"""Another row's pictures in the place of its own, to which a model that looks answers otherwise. Nothing is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Conversation, MediaPart, Part
from vitrail.data.encode import with_parts

SHUFFLE_SEED = 0


def others(rows: Sequence[Conversation]) -> list[Conversation]:
    """For each row the one after it in a seeded order, or the next one there that shows something else.

    Many data sets have several questions about one picture, each a row. Raises DataError when all rows show the same.
    """
    order = np.random.default_rng(SHUFFLE_SEED).permutation(len(rows)).tolist()
    shown = [[_identity(part.content) for part in row.media] for row in rows]
    if all(pictures == shown[0] for pictures in shown):
        raise DataError("comparing with shuffled pictures needs two held-out rows with different pictures")
    found: dict[int, Conversation] = {}
    for at, index in enumerate(order):
        following = (*order[at + 1 :], *order[:at])
        found[index] = rows[next(other for other in following if shown[other] != shown[index])]
    return [found[index] for index in range(len(rows))]


def _identity(image: Any) -> object:
    """What tells a picture from another without decoding it."""
    return image.tobytes() if isinstance(image, np.ndarray) else image


def with_media_of(row: Conversation, other: Conversation) -> Conversation:
    """The words of `row` with the media of `other`, from the first again if it has fewer.

    Pictures take the place of pictures, and sounds of sounds; where the other row has none of a kind, they stay.
    """
    media = {kind: cycle([part for part in other.media if type(part) is kind]) for kind in map(type, row.media)}

    def swapped(part: Part) -> Part:
        return next(media[type(part)], part) if isinstance(part, MediaPart) else part

    return with_parts(row, swapped)
