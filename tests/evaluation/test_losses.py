"""Losses with the right picture, with a wrong one, and with none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail import build
from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Conversation, ImagePart, Message, Row, TextPart
from vitrail.contracts.samples import Pack
from vitrail.data.collate import collate
from vitrail.data.dialects import to_conversation
from vitrail.data.encode import Encode
from vitrail.evaluation.losses import held_out_losses
from vitrail.evaluation.swapping import others, with_media_of
from vitrail.inference.chat_model import ChatModel
from vitrail.models.assembled import MultimodalModel
from vitrail.synthetic.config import DrawnConfig


def asked(number: int, *pictures: Any) -> Conversation:
    parts = tuple(part for picture in pictures for part in (ImagePart(picture), TextPart(".")))
    said = Message("user", (*parts, TextPart(f"What is {number}?"))), Message("assistant", (TextPart("It."),))
    return Conversation(f"row {number}", said)


class Rows:
    """A source of given rows."""

    name = "rows"

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, index: int) -> Row:
        return Row(f"row {index}", self.rows[index])


def record(*pictures: Any) -> dict[str, Any]:
    said = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "It."}]
    return {"messages": said, "images": list(pictures)} if pictures else {"messages": said}


@given(shown=st.lists(st.integers(0, 3), min_size=2, max_size=12))
def test_another_row_never_shows_the_same(shown: list[int]) -> None:
    """Many data sets ask several questions about one picture, a row each."""
    rows = [asked(number, Path(f"{picture}.png")) for number, picture in enumerate(shown)]
    if len(set(shown)) == 1:
        with pytest.raises(DataError, match="needs two held-out rows with different pictures"):
            others(rows)
        return
    for row, other in zip(rows, others(rows), strict=True):
        assert other.media != row.media


@settings(deadline=None)
@given(count=st.integers(2, 30))
def test_every_row_serves_once_and_always_the_same_one(count: int) -> None:
    rows = [asked(number, np.full((1, 1, 3), number, np.uint8)) for number in range(count)]
    once, again = others(rows), others(rows)
    assert [row.id for row in once] == [row.id for row in again]
    assert sorted(row.id for row in once) == sorted(row.id for row in rows)
    assert all(row.id != other.id for row, other in zip(rows, once, strict=True))


def test_arrays_are_told_apart_by_what_they_show() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    with pytest.raises(DataError, match="different pictures"):
        others([asked(0, picture), asked(1, picture.copy())])
    pair = [asked(0, picture), asked(1, picture + 1)]
    assert [other.id for other in others(pair)] == ["row 1", "row 0"]


def test_the_words_stay_and_the_pictures_change() -> None:
    row, other = asked(0, "a", "b", "c"), asked(1, "x", "y")
    changed = with_media_of(row, other)
    assert [picture.image for picture in changed.media] == ["x", "y", "x"]
    assert [message.text for message in changed.messages] == [message.text for message in row.messages]
    kinds = [[type(part) for part in message.parts] for message in changed.messages]
    assert kinds == [[type(part) for part in message.parts] for message in row.messages]
    assert changed.id == "row 0"


@pytest.fixture(scope="module")
def model(tiny_model: Callable[..., MultimodalModel], tiny_encode: Encode) -> ChatModel:
    return ChatModel(tiny_model().eval(), tiny_encode)


def test_the_three_means_are_of_what_they_say(model: ChatModel) -> None:
    """Each against the model asked by hand."""
    source, dialect = build.build_source(DrawnConfig(split="test", rows=5, size=(64, 128)))
    counted: list[int] = []
    measured = held_out_losses(model, source, dialect, lambda: counted.append(1))
    assert len(counted) == 5
    rows = [to_conversation(source.row(index), dialect) for index in range(5)]

    def mean(model: ChatModel, rows: list[Conversation]) -> float:
        losses = [model.loss(model.encode(row)) for row in rows]
        return float(np.mean([total / weight for total, weight in losses]))

    wrong = [with_media_of(row, other) for row, other in zip(rows, others(rows), strict=True)]
    assert measured["right"]["value"] == pytest.approx(mean(model, rows))
    assert measured["shuffled"]["value"] == pytest.approx(mean(model, wrong))
    assert measured["withheld"]["value"] == pytest.approx(mean(model.without_media(), rows))
    values = [measured[name]["value"] for name in ("right", "shuffled", "withheld")]
    assert len(set(values)) == 3
    assert all(0 < value < 20 for value in values)
    assert all(measured[name]["n"] == 5 for name in measured)


def test_withheld_rows_hold_no_picture_tokens(model: ChatModel) -> None:
    source, dialect = build.build_source(DrawnConfig(split="test", rows=3))
    for index in range(3):
        row = to_conversation(source.row(index), dialect)
        sighted, blind = model.encode(row), model.without_media().encode(row)
        assert len(sighted.slots) == len(sighted.media) == 1
        assert blind.slots == blind.media == ()
        assert len(sighted) - len(blind) == sighted.slots[0].view.tokens
        assert sighted.weights.sum() == blind.weights.sum()
        batch, _ = collate(Pack((blind,)), model.encode.media)
        assert batch is not None
        assert batch.vision is None


def test_rows_without_a_picture_are_left_out(model: ChatModel) -> None:
    """They would only blur the difference."""
    noise = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    counted: list[int] = []
    mixed = Rows([record(), record(noise[0]), record(), record(noise[1])])
    measured = held_out_losses(model, mixed, "tags", lambda: counted.append(1))
    assert len(counted) == 4
    assert measured["right"]["n"] == 2
    only = held_out_losses(model, Rows([record(noise[0]), record(noise[1])]), "tags")
    assert measured["right"]["value"] == pytest.approx(only["right"]["value"])


@pytest.mark.parametrize("pictures", [[], [1], [None, None, 1], [1, 1]])
def test_there_must_be_two_different_pictures(pictures: list[int | None], model: ChatModel) -> None:
    rows = [record() if picture is None else record(np.full((32, 32, 3), picture, np.uint8)) for picture in pictures]
    with pytest.raises(
        DataError, match=r"^rows: comparing with shuffled pictures needs two held-out rows with different"
    ):
        held_out_losses(model, Rows(rows), "tags")
