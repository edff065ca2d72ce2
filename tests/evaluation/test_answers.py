"""Held-out questions: what is asked, what counts as true, and that answers survive being written down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitrail import build
from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Row
from vitrail.data.encode import Encode
from vitrail.evaluation.answers import ask, changed, question, read, write
from vitrail.evaluation.swapping import others, with_media_of
from vitrail.inference.chat_model import ChatModel
from vitrail.inference.config import GenerationConfig
from vitrail.metrics.scoring import Answer
from vitrail.models.assembled import MultimodalModel
from vitrail.synthetic.config import KINDS, DrawnConfig

TRANSPOSES = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "<image>\nWhat colour?"},
    {"role": "assistant", "content": "Red."},
    {"role": "user", "content": "And the shape?"},
    {"role": "assistant", "content": "A circle."},
]


def row(messages: list[dict[str, str]] = TRANSPOSES, **fields: Any) -> Row:
    return Row("row 7", {"messages": messages, "images": ["a.png"], **fields}, Path("/data"), "rows.jsonl:7")


def test_the_last_answer_is_the_truth_and_all_before_it_the_prompt() -> None:
    asked, truths = question(row(kind="shape"), "tags")
    assert truths == ("A circle.",)
    assert [message.role for message in asked.messages] == ["system", "user", "assistant", "user"]
    assert [message.text for message in asked.messages] == ["Be short.", "\nWhat colour?", "Red.", "And the shape?"]
    assert (asked.id, asked.kind, asked.location) == ("row 7", "shape", "rows.jsonl:7")
    assert [picture.image for picture in asked.media] == [Path("/data/a.png")]


@pytest.mark.parametrize(
    ("answers", "truths"),
    [
        (["circle", "a disc"], ("A circle.", "circle", "a disc")),
        (["A circle.", "round", "round"], ("A circle.", "round")),
        ([3, 2.5], ("A circle.", "3", "2.5")),
        ("disc", ("A circle.", "disc")),
        ([], ("A circle.",)),
        (None, ("A circle.",)),
    ],
)
def test_a_row_may_accept_more_than_one_answer(answers: Any, truths: tuple[str, ...]) -> None:
    assert question(row(answers=answers), "tags")[1] == truths


@pytest.mark.parametrize("answers", [{"answer": "disc"}, [["disc"]], [{"answer": "disc"}], 3, [None]])
def test_answers_of_another_shape_are_refused(answers: Any) -> None:
    """They would become accepted answers that nobody can give."""
    with pytest.raises(DataError, match=r"^rows\.jsonl:7: 'answers' must be a list of texts or numbers, got "):
        question(row(answers=answers), "tags")


def test_a_row_must_end_with_an_answer() -> None:
    with pytest.raises(DataError, match=r"^rows\.jsonl:7: a held-out row must end with an assistant's turn$"):
        question(row(TRANSPOSES[:4]), "tags")
    alone = Row("x", {"messages": [{"role": "assistant", "content": "Hello."}]})
    with pytest.raises(DataError, match=r"^x: a held-out row must end with an assistant's turn$"):
        question(alone, "tags")


def test_every_row_is_asked(tiny_model: Callable[..., MultimodalModel], tiny_encode: Encode) -> None:
    """In order, greedily, and each counted."""
    source, dialect = build.build_source(DrawnConfig(split="test", rows=len(KINDS), size=(64, 128)))
    model = ChatModel(tiny_model().eval(), tiny_encode)
    counted: list[int] = []
    answers = ask(model, source, dialect, 6, lambda: counted.append(1))
    assert [answer.kind for answer in answers] == list(KINDS)
    assert len(counted) == len(KINDS)
    for index, answer in enumerate(answers):
        turns = source.row(index).fields["messages"]
        assert answer.question == turns[0]["content"].removeprefix("<image>\n")
        assert answer.truths == (turns[1]["content"],)
        asked, _ = question(source.row(index), dialect)
        assert answer.prediction == str(model.reply(asked, GenerationConfig(max_tokens=6))).strip()


class Rows:
    """The rows of a list."""

    name = "rows"
    block = 1

    def __init__(self, *rows: Row) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, index: int) -> Row:
        return self.rows[index]


def test_questions_are_asked_with_another_rows_picture(
    tiny_model: Callable[..., MultimodalModel], tiny_encode: Encode
) -> None:
    """And with their own truths; a row without a picture is counted and left out."""
    source, dialect = build.build_source(DrawnConfig(split="test", rows=4))
    alone = Row("alone", {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]})
    drawn = [source.row(index) for index in range(len(source))]
    model = ChatModel(tiny_model().eval(), tiny_encode)
    counted: list[int] = []
    found = ask(model, Rows(*drawn, alone), dialect, 6, lambda: counted.append(1), swapped=True)
    assert len(counted) == len(drawn) + 1
    right = [question(one, dialect) for one in drawn]
    assert [answer.truths for answer in found] == [truths for _, truths in right]
    shown = others([conversation for conversation, _ in right])
    for answer, (asked, _), other in zip(found, right, shown, strict=True):
        assert other.id != asked.id
        reply = model.reply(with_media_of(asked, other), GenerationConfig(max_tokens=6))
        assert answer.prediction == str(reply).strip()


def test_the_share_of_changed_answers_goes_by_the_question() -> None:
    said = [Answer(str(number), "", "?", text, ("a",)) for number, text in enumerate("abcd")]
    swapped = [Answer("2", "", "?", "c", ("a",)), Answer("0", "", "?", "b", ("a",))]
    found = changed(said, swapped)
    assert (found.value, found.n) == (0.5, 2)


def test_a_row_that_cannot_be_asked_is_not_skipped(
    tiny_model: Callable[..., MultimodalModel], tiny_encode: Encode
) -> None:
    model = ChatModel(tiny_model().eval(), tiny_encode)
    with pytest.raises(DataError, match=r"rows\.jsonl:7: picture '/data/a\.png' does not exist"):
        ask(model, Rows(row()), "tags", 6)


texts = st.text(max_size=20) | st.sampled_from(["a\ud800b", "a\u2028b", "a\x85b", "a\x0cb\x1c", "a\r\nb", "\\n", '"'])
made = st.builds(Answer, texts, texts, texts, texts, st.lists(texts, max_size=3).map(tuple))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=st.lists(made, max_size=4))
def test_what_is_written_can_be_read(answers: list[Answer], tmp_path: Path) -> None:
    """Also answers that hold what Unicode counts as the end of a line."""
    path = tmp_path / "answers" / "after.jsonl"
    write(answers, path)
    assert read(path) == answers
    assert path.read_bytes().count(b"\n") == len(answers)


def test_no_file_is_no_answers(tmp_path: Path) -> None:
    assert read(tmp_path / "after.jsonl") == []
