"""Does the model look? Loss of the held-out answers with the right one, another row's, and none.

Rows without a picture have nothing to tell here and are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

import numpy as np

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Conversation, MediaPart, Part
from vitrail.contracts.protocols import Source
from vitrail.data.config import Reading
from vitrail.data.dialects import to_conversation
from vitrail.data.encode import with_parts
from vitrail.inference.chat_model import ChatModel
from vitrail.metrics.intervals import bootstrap

SHUFFLE_SEED = 0


def held_out_losses(
    model: ChatModel, source: Source, reading: Reading, on_row: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Mean loss of a row's answer tokens, nats, as `Score.to_json`, for `right`, `shuffled` and `withheld` pictures.

    Shuffled: each row gets the pictures of another row. on_row: told of every row, also of those left out. Raises
    DataError when there are no two rows with different pictures.
    """
    read = [to_conversation(source.row(index), reading) for index in range(len(source))]
    rows = [row for row in read if row.media]
    for _ in range(len(read) - len(rows)):
        on_row()
    try:
        shuffled = [with_media_of(row, other) for row, other in zip(rows, others(rows), strict=True)]
    except DataError as error:
        raise DataError(f"{source.name}: {error}") from error
    values: dict[str, list[float]] = {"right": [], "shuffled": [], "withheld": []}
    for right, wrong in zip(rows, shuffled, strict=True):
        for name, asked, shown in (
            ("right", model, right),
            ("shuffled", model, wrong),
            ("withheld", model.without_media(), right),
        ):
            total, weight = asked.loss(asked.encode(shown))
            values[name].append(total / weight)
        on_row()
    return {name: bootstrap(losses, SHUFFLE_SEED).to_json() for name, losses in values.items()}


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
