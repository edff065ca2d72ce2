"""Rows of plain columns: captions, questions with answers, FineVision's exchanges."""

from __future__ import annotations

from typing import Any

import pytest
from dialect_rows import FOLDER, refusal, row, said

from vitrail.contracts.messages import ImagePart
from vitrail.data.dialects import recognise, to_conversation
from vitrail.data.dialects.columns import LETTER, SHORT
from vitrail.evaluation.answers import question

A = FOLDER / "a.png"


# Captions


@pytest.mark.parametrize(
    "fields",
    [
        {"image": "a.png", "text": "An ant."},
        {"image": "a.png", "caption": "An ant.", "text": None},
        {"images": ["a.png"], "caption": "An ant.", "text": ""},
        {"image": {"bytes": None, "path": "a.png"}, "text": "An ant."},
    ],
)
def test_a_caption_answers_its_picture(fields: dict[str, Any]) -> None:
    assert recognise(row(fields)) == "caption"
    assert said(fields) == said(fields, "caption") == [("user", [A]), ("assistant", ["An ant."])]


def test_captions_that_are_none() -> None:
    assert refusal({"image": "a.png", "text": 5}, "caption") == "'text' must be a string, got int"
    assert refusal({"image": "a.png", "text": 5}).startswith("no dialect fits the row ")
    assert refusal({"text": "x"}, "caption") == """a caption without a picture, video or sound: {"text": "x"}"""
    assert refusal({"image": "a.png"}, "caption").startswith("neither 'caption' nor 'text' in the row ")


# Questions


def test_a_question_and_its_answer() -> None:
    fields = {"image": "a.png", "question": "How many?", "answer": 2, "source": "made"}
    assert recognise(row(fields)) == "vqa"
    assert said(fields) == [("user", [A, "\nHow many?"]), ("assistant", ["2"])]
    assert said(fields, "short_vqa")[0] == ("user", [A, f"\nHow many?\n{SHORT}"])
    assert said({"question": "How many?", "answer": "2"})[0] == ("user", ["How many?"])
    assert said({**fields, "question": "In <image>, how many?"})[0] == ("user", ["In ", A, ", how many?"])


@pytest.mark.parametrize(
    ("fields", "answer", "also"),
    [
        ({"answers": ["two", "2", "2"]}, "2", ["two", "2"]),
        ({"answers": ["two", "2"]}, "two", ["two", "2"]),
        ({"answers": [{"answer": "two", "answer_id": 1}, {"answer": "2"}, {"answer": "2"}]}, "2", ["two", "2"]),
        ({"answer": "two", "answers": ["2", "2"]}, "two", ["two", "2"]),
        ({"multiple_choice_answer": "two", "answers": [{"answer": "2"}] * 9}, "two", ["two", "2"]),
        ({"answer": None, "answers": "2"}, "2", ["2"]),
    ],
)
def test_of_several_right_answers_one_is_learnt_and_all_count(
    fields: dict[str, Any], answer: str, also: list[str]
) -> None:
    fields = {"image": "a.png", "question": "How many?", **fields}
    assert said(fields)[1] == ("assistant", [answer])
    _, truths = question(row(fields), "auto")
    assert set(truths) == set(also)
    assert truths[0] == answer


@pytest.mark.parametrize("answer", [1, "1", "B", "b", "(B)", "B.", "a bird"])
@pytest.mark.parametrize("name", ["choices", "options"])
def test_choices_are_listed_and_answered_by_letter(answer: Any, name: str) -> None:
    fields = {"image": "a.png", "question": "What is it?", name: ["an ant", "a bird"], "answer": answer}
    assert said(fields) == [("user", [A, "\nWhat is it?\nA. an ant\nB. a bird"]), ("assistant", ["B"])]
    assert said(fields, "short_vqa")[0][1][1] == f"\nWhat is it?\nA. an ant\nB. a bird\n{LETTER}"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"question": "?"}, 'no \'answer\' in the row {"question": "?"}'),
        ({"question": "?", "answers": []}, 'no \'answer\' in the row {"question": "?", "answers": []}'),
        ({"question": 5, "answer": "x"}, "'question' must be a string, got int"),
        ({"question": "?", "answer": ["x", None]}, "'answer' must be a string, got NoneType"),
        ({"question": "?", "answer": True}, "'answer' must be a string, got bool"),
        ({"question": "?", "answer": "C", "choices": ["x", "y"]}, "the answer 'C' is none of the 2 choices"),
        ({"question": "?", "answer": "2", "choices": ["x", "y"]}, "the answer '2' is none of the 2 choices"),
        ({"question": "?", "answer": "A", "choices": "xy"}, "the choices must be a list of at most 26 texts"),
        ({"question": "<image>?", "answer": "x"}, "1 <image> tags but 0 pictures"),
    ],
)
def test_questions_that_are_none(fields: dict[str, Any], message: str) -> None:
    assert refusal(fields, "vqa") == message


# FineVision's exchanges


def test_exchanges_become_turns() -> None:
    fields = {
        "images": [{"bytes": b"1", "path": None}, {"bytes": b"2", "path": None}],
        "texts": [{"user": "One?", "assistant": "Yes.", "source": "x"}, {"user": "Two?", "assistant": "No."}],
        "relevance_ratings": [5, 4],
    }
    assert recognise(row(fields)) == "turns"
    assert said(fields) == said(fields, "turns")
    assert said(fields) == [
        ("user", [b"1", "\n", b"2", "\nOne?"]),
        ("assistant", ["Yes."]),
        ("user", ["Two?"]),
        ("assistant", ["No."]),
    ]
    conversation = to_conversation(row(fields))
    assert conversation.extra == {"relevance_ratings": [5, 4]}
    assert conversation.media == (ImagePart(b"1"), ImagePart(b"2"))


def test_exchanges_of_text_alone_and_with_a_system_turn() -> None:
    texts = [{"system": "Be kind.", "user": "Hm?", "assistant": "Hm."}]
    for images in (None, []):
        assert said({"images": images, "texts": texts}) == [
            ("system", ["Be kind."]),
            ("user", ["Hm?"]),
            ("assistant", ["Hm."]),
        ]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "'texts' must be a list of turns"),
        ([{"user": "Hm?"}], "a turn's text must be a string, got NoneType"),
        ([{"user": "<image>?", "assistant": "x"}], "1 <image> tags but 0 pictures"),
    ],
)
def test_exchanges_that_are_none(texts: Any, message: str) -> None:
    assert refusal({"texts": texts}, "turns") == message
