"""Drawn preference pairs: the right answer against one that is right for another picture."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from vitrail.contracts.errors import DataError
from vitrail.data.dialects import to_conversation
from vitrail.data.sources.opening import open_source
from vitrail.synthetic.config import KINDS, DrawnConfig
from vitrail.synthetic.source import DrawnSource


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_same_picture_and_question_with_a_wrong_answer_beside_the_right_one(split: str) -> None:
    config = DrawnConfig(split=split, rows=90, pairs=True, caption=False)
    pairs, plain = DrawnSource(config), DrawnSource(DrawnConfig(split=split, rows=90, caption=False))
    for index in range(90):
        pair, row = pairs.row(index), plain.row(index)
        assert [*pair.fields["prompt"], *pair.fields["chosen"]] == row.fields["messages"]
        assert np.array_equal(pair.fields["images"][0], row.fields["images"][0])
        assert pair.fields["kind"] == row.fields["kind"]
        (rejected,) = pair.fields["rejected"]
        assert rejected["role"] == "assistant"
        assert rejected["content"] != pair.fields["chosen"][0]["content"]
        assert rejected == DrawnSource(config).row(index).fields["rejected"][0], "a pure function of the index"
    source, dialect = open_source(config)
    conversation = to_conversation(source.row(3), dialect)
    assert conversation.rejected
    assert conversation.shared == len(conversation.messages) - 1


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("box", "number", "word")])
def test_wrong_answers_are_as_likely_as_right_ones(kind: str) -> None:
    """Of each answer as many are rejected as chosen, but for chance: words alone do not tell which is which."""
    source = DrawnSource(DrawnConfig(split="test", rows=240, kinds=(kind,), pairs=True))
    rows = [source.row(index).fields for index in range(240)]
    chosen, rejected = (Counter(row[name][0]["content"] for row in rows) for name in ("chosen", "rejected"))
    assert set(chosen.values()) == {20}
    assert rejected.keys() == chosen.keys()
    assert all(5 <= count <= 40 for count in rejected.values()), rejected


def test_a_caption_is_no_answer_to_compare() -> None:
    for index in range(20):
        row = DrawnSource(DrawnConfig(rows=20, pairs=True)).row(index)
        assert row.fields["kind"] != "caption"
        said = [turn["content"] for turn in row.fields["prompt"]]
        assert row.fields["caption"] not in said
    for settings in ({"easy_first": 5}, {"questions": 0}):
        with pytest.raises(DataError, match="pairs compare answers"):
            DrawnConfig(pairs=True, **settings)  # type: ignore[arg-type]
