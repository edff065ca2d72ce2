"""Does the model look at the picture? Loss of the held-out answers with the right one, another row's, and none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Conversation, ImagePart
from vitrail.contracts.protocols import Source
from vitrail.data.config import DialectName
from vitrail.data.dialects import to_conversation
from vitrail.inference.chat_model import ChatModel
from vitrail.metrics.intervals import bootstrap

SHUFFLE_SEED = 0


def held_out_losses(
    model: ChatModel, source: Source, dialect: DialectName, on_row: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Mean loss of a row's answer tokens, nats, as `Score.to_json`, for `right`, `shuffled` and `withheld` pictures.

    Shuffled: each row gets the pictures of another row with as many. Raises DataError for fewer than two rows.
    """
    rows = [to_conversation(source.row(index), dialect) for index in range(len(source))]
    if len(rows) < 2:
        raise DataError(f"{source.name}: comparing with shuffled pictures needs at least two held-out rows")
    shuffled = [with_pictures_of(row, other) for row, other in zip(rows, others(rows), strict=True)]
    values: dict[str, list[float]] = {"right": [], "shuffled": [], "withheld": []}
    for right, wrong in zip(rows, shuffled, strict=True):
        for name, asked, shown in (
            ("right", model, right),
            ("shuffled", model, wrong),
            ("withheld", model.withholding(), right),
        ):
            total, weight = asked.loss(asked.encode.conversation(shown))
            values[name].append(total / weight)
        on_row()
    return {name: bootstrap(losses, SHUFFLE_SEED).to_json() for name, losses in values.items()}


def others(rows: Sequence[Conversation]) -> list[Conversation]:
    """For each row another one: a seeded permutation without fixed points (one cycle)."""
    order = np.random.default_rng(SHUFFLE_SEED).permutation(len(rows)).tolist()
    after = dict(zip(order, [*order[1:], order[0]], strict=True))
    return [rows[after[index]] for index in range(len(rows))]


def with_pictures_of(row: Conversation, other: Conversation) -> Conversation:
    """The words of `row` with the pictures of `other`, repeated if `other` has fewer; itself when `other` has none."""
    pictures = other.pictures
    if not pictures:
        return row
    number = iter(range(len(row.pictures)))
    messages = tuple(
        replace(
            message,
            parts=tuple(
                pictures[next(number) % len(pictures)] if isinstance(part, ImagePart) else part
                for part in message.parts
            ),
        )
        for message in row.messages
    )
    return replace(row, messages=messages)
