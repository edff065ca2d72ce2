"""Held-out pairs: ranked right is what the two answers' losses say."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from vitrail.contracts.errors import DataError
from vitrail.data.dialects import to_conversation
from vitrail.data.dialects.pairs import chosen_and_rejected
from vitrail.data.encode import Encode
from vitrail.evaluation.pairs import ranked_right
from vitrail.inference.chat_model import ChatModel
from vitrail.models.assembled import MultimodalModel
from vitrail.synthetic.config import DrawnConfig
from vitrail.synthetic.source import DrawnSource

Make = Callable[..., MultimodalModel]
ROWS = 12


def test_the_likelier_answer_is_the_chosen_one(tiny_model: Make, tiny_encode: Encode) -> None:
    source = DrawnSource(DrawnConfig(rows=ROWS, pairs=True, questions=2))
    model = ChatModel(tiny_model().eval(), tiny_encode, "cpu")
    seen: list[None] = []
    found = ranked_right(model, source, "preference", lambda: seen.append(None))
    assert len(seen) == ROWS
    right = 0
    for index in range(ROWS):
        losses = [model.loss(model.encode(one))[0] for one in chosen_and_rejected(to_conversation(source.row(index)))]
        right += losses[0] < losses[1]
    assert found["right"]["value"] == right / ROWS
    assert 0 < right < ROWS, "or nothing is shown"
    assert found["withheld"]["n"] == ROWS


def test_a_model_without_an_opinion(tiny_model: Make, tiny_encode: Encode) -> None:
    """Every token as likely as any other: the shorter answer wins, and the picture changes nothing."""
    model = tiny_model().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    found = ranked_right(
        ChatModel(model, tiny_encode, "cpu"), DrawnSource(DrawnConfig(rows=ROWS, pairs=True)), "preference"
    )
    assert found["right"] == found["withheld"]


def test_rows_that_are_no_pairs(tiny_model: Make, tiny_encode: Encode) -> None:
    with pytest.raises(DataError, match="drawn data, row 0: no preference pair"):
        ranked_right(ChatModel(tiny_model(), tiny_encode, "cpu"), DrawnSource(DrawnConfig(rows=2)), "tags")
