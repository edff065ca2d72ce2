"""Another row's pictures in the place of its own, to which a model that looks answers otherwise. Nothing is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Conversation, MediaPart, Part
from vitrail.data.encode import with_parts

SHUFFLE_SEED = 0


def others(rows: Sequence[Conversation]) -> list[Conversation]:
    """For each row one that shows something else: what comes after its own in a seeded order of all that is shown.

    Many data sets have several questions about one picture, each a row: they all get the same other one. Raises
    DataError when all rows show the same.
    """
    shown = [tuple(part.identity for part in row.media) for row in rows]
    first = dict(reversed(list(zip(shown, rows, strict=True))))
    if len(first) < 2:
        raise DataError("comparing with shuffled pictures needs two held-out rows with different pictures")
    distinct = list(dict.fromkeys(shown))
    order = np.random.default_rng(SHUFFLE_SEED).permutation(len(distinct)).tolist()
    following = {distinct[one]: distinct[other] for one, other in zip(order, [*order[1:], order[0]], strict=True)}
    return [first[following[pictures]] for pictures in shown]


def with_media_of(row: Conversation, other: Conversation) -> Conversation:
    """The words of `row` with the media of `other`, from the first again if it has fewer.

    Pictures take the place of pictures, and sounds of sounds; where the other row has none of a kind, they stay.
    """
    media = {kind: cycle([part for part in other.media if type(part) is kind]) for kind in map(type, row.media)}

    def swapped(part: Part) -> Part:
        return next(media[type(part)], part) if isinstance(part, MediaPart) else part

    return with_parts(row, swapped)
