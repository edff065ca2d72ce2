"""Does the model rank answers as people do? Held-out preference pairs, with the picture and without it.

Costs two passes a pair and way of looking; nothing is generated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vitrail.contracts.protocols import Source
from vitrail.data.config import Reading
from vitrail.data.dialects import to_conversation
from vitrail.data.dialects.pairs import chosen_and_rejected
from vitrail.inference.chat_model import ChatModel
from vitrail.metrics.intervals import wilson


def ranked_right(
    model: ChatModel, source: Source, reading: Reading, on_row: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Share of pairs whose chosen answer is likelier than the rejected one, as `Score.to_json`.

    By what is seen: `right` (the row's media) and `withheld` (none). An answer's likelihood is that of its tokens
    together, the end of the turn among them; longer ones are less likely. Raises DataError for a row that is no pair.
    """
    right = {"right": 0, "withheld": 0}
    for index in range(len(source)):
        pair = chosen_and_rejected(to_conversation(source.row(index), reading))
        for name, asked in (("right", model), ("withheld", model.without_media())):
            # Both begin with the same prompt: what is learnt of it weighs the same in either.
            chosen, rejected = (asked.loss(asked.encode(conversation))[0] for conversation in pair)
            right[name] += chosen < rejected
        on_row()
    return {name: wilson(count, len(source)).to_json() for name, count in right.items()}
