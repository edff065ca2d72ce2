"""Does the model look? Loss of the held-out answers with the right one, another row's, and none.

Rows without a picture have nothing to tell here and are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vitrail.contracts.errors import DataError
from vitrail.contracts.protocols import Source
from vitrail.data.config import Reading
from vitrail.data.dialects import to_conversation
from vitrail.evaluation.swapping import others, with_media_of
from vitrail.inference.chat_model import ChatModel
from vitrail.metrics.intervals import bootstrap

SEED = 0
"""Of the intervals."""


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
    return {name: bootstrap(losses, SEED).to_json() for name, losses in values.items()}
