"""Drawn lines of text: pure, held apart by split, and of the sizes the recipe asks for."""

from __future__ import annotations

import numpy as np
import pytest

from vitrail.contracts.errors import DataError
from vitrail.synthetic.config import LinesConfig, split_of
from vitrail.synthetic.lines import LinesSource


def text_of(source: LinesSource, index: int) -> str:
    return str(source.row(index).fields["messages"][1]["content"])


def test_a_row_is_a_function_of_its_index() -> None:
    first, second = LinesSource(LinesConfig(rows=50)), LinesSource(LinesConfig(rows=50))
    second.row(3)
    assert text_of(first, 17) == text_of(second, 17)
    assert np.array_equal(first.row(17).fields["images"][0].image, second.row(17).fields["images"][0].image)
    assert text_of(first, 17) != text_of(LinesSource(LinesConfig(rows=50, seed=1)), 17)


def test_every_token_belongs_to_its_split() -> None:
    for split in ("train", "test"):
        source = LinesSource(LinesConfig(split=split, rows=60))
        assert {split_of(token) for index in range(60) for token in text_of(source, index).split()} == {split}


def test_pictures_are_whole_units_and_hold_ink() -> None:
    source = LinesSource(LinesConfig(rows=40, unit=32, wear=0.0))
    for index in range(40):
        picture = source.row(index).fields["images"][0].image
        assert picture.dtype == np.uint8
        assert (picture.shape[0] % 32, picture.shape[1] % 32, picture.shape[2]) == (0, 0, 3)
        assert picture.std() > 5, f"row {index} shows nothing"


def test_rows_grow_from_letters_to_several_lines() -> None:
    source = LinesSource(LinesConfig(rows=10_000, grow=8_000, lines=3, longest=24))
    early = [text_of(source, index) for index in range(60)]
    late = [text_of(source, index) for index in range(9_000, 9_060)]
    assert max(map(len, early)) <= 6
    assert not any("\n" in text for text in early)
    assert any(text.count("\n") == 2 for text in late)
    assert max(len(line) for text in late for line in text.split("\n")) > 16


def test_a_request_is_put_before_the_answer_only_when_asked_for() -> None:
    asked = LinesSource(LinesConfig(rows=5, ask=True)).row(2).fields["messages"][0]["content"]
    assert asked.startswith("<image>\n")
    assert len(asked) > 10
    assert LinesSource(LinesConfig(rows=5)).row(2).fields["messages"][0]["content"] == "<image>"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"split": "tset"}, "did you mean 'test'"),
        ({"rows": -1}, "rows is -1"),
        ({"lines": 0}, "lines is 0, allowed: 1 or more"),
        ({"wear": 2.0}, "wear is 2.0, allowed: 0 to 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        LinesConfig(**wrong)  # type: ignore[arg-type]
