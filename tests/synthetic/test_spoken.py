"""Spoken words: rows are functions of their number, splits share nothing, sounds say what their row says."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest

from vitrail.contracts.errors import DataError
from vitrail.data.dialects import to_conversation
from vitrail.media.log_mel import log_mel
from vitrail.synthetic.speech.config import KINDS, SpokenConfig
from vitrail.synthetic.speech.source import QUESTIONS, SpokenSource
from vitrail.synthetic.speech.voice import RATE
from vitrail.synthetic.speech.words import PHONES, WORDS


def source(**settings: Any) -> SpokenSource:
    return SpokenSource(SpokenConfig(**settings))


def samples(row: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    return row.fields["audios"][0].audio


def test_a_row_is_a_function_of_its_number() -> None:
    one, other = source(rows=40).row(7), source(rows=900).row(7)
    assert one.fields["messages"] == other.fields["messages"]
    assert np.array_equal(samples(one), samples(other))
    assert not np.array_equal(samples(source(seed=1).row(7))[:1000], samples(one)[:1000])


def test_rows_do_not_change_with_versions() -> None:
    """Which words, and how long each phrase is; the last digits of a sine are the platform's."""
    rows = [source().row(index) for index in range(4)]
    assert [(row.fields["words"], len(samples(row))) for row in rows] == [
        ("up one nine", 18_400),
        ("right", 8_880),
        ("up green", 11_040),
        ("three up fish", 18_720),
    ]


def test_splits_share_no_phrase_and_no_voice() -> None:
    train = {source(split="train").row(index).fields["words"] for index in range(300)}
    test = {source(split="test").row(index).fields["words"] for index in range(300)}
    assert {words for words in train & test if " " in words} == set()
    heard = {word for words in train for word in words.split()}
    assert heard == set(WORDS), "every word is learnt"


def test_phrases_grow() -> None:
    growing = source(rows=2000, grow=1000)
    early, late = (
        [len(growing.row(index).fields["words"].split()) for index in part] for part in (range(80), range(1900, 1980))
    )
    assert max(early) == 1
    assert Counter(late).keys() == {1, 2, 3}


def test_a_conversation_with_its_sound_first() -> None:
    for index in range(20):
        row = source(split="test", rows=20).row(index)
        conversation = to_conversation(row, "tags")
        assert len(conversation.media) == 1
        question, answer = (message.text.strip() for message in conversation.messages)
        kind = KINDS[index % len(KINDS)]
        assert conversation.kind == kind
        assert question in QUESTIONS[kind]
        words = row.fields["words"].split()
        expected = {
            "words": " ".join(words),
            "first word": words[0],
            "last word": words[-1],
            "how many": str(len(words)),
        }
        assert answer == expected[kind]


def test_every_sound_is_loud_and_whole() -> None:
    for index in range(20):
        sound = samples(source().row(index))
        assert sound.dtype == np.float32
        assert 0.3 < np.abs(sound).max() <= 1
        assert 0.2 * RATE < len(sound) < 4 * RATE
        assert log_mel(np.pad(sound, (0, -len(sound) % 160)), 80).std() > 0.2


def test_words_are_spelt_in_known_sounds() -> None:
    assert {name for spelt in WORDS.values() for name in spelt.split()} <= PHONES.keys()
    assert len(set(WORDS.values())) == len(WORDS)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"split": "tset"}, "split is 'tset', allowed: train, test (did you mean 'test'?)"),
        ({"words": 1}, "words is 1, allowed: 2 to 4"),
        ({"noise": 2}, "noise is 2, allowed: 0 to 1"),
        ({"rows": -1}, "rows is -1, allowed: 0 or more"),
    ],
)
def test_what_cannot_be_said_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=re.escape(said)):
        SpokenConfig(**settings)


def test_there_is_no_row_past_the_last() -> None:
    with pytest.raises(IndexError):
        source(rows=3).row(3)
