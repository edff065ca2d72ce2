"""Asking held-out questions: of each row the last answer is the truth, and all that stands before it is the prompt."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Conversation, Row
from vitrail.contracts.protocols import Source
from vitrail.data.config import Reading
from vitrail.data.dialects import to_conversation
from vitrail.disk import write_whole
from vitrail.evaluation.swapping import others, with_media_of
from vitrail.inference.chat_model import ChatModel
from vitrail.inference.config import GenerationConfig
from vitrail.metrics.boxes import Box, parse_box
from vitrail.metrics.intervals import Score, wilson
from vitrail.metrics.scoring import Answer


def question(row: Row, reading: Reading) -> tuple[Conversation, tuple[str, ...]]:
    """The conversation up to its last answer, and the accepted answers: that one and the row's `answers`, if any.

    Raises DataError when the row does not end with an answer, or with an empty one, or its `answers` are no list of
    texts or numbers.
    """
    conversation = to_conversation(row, reading)
    *asked, last = conversation.messages
    if last.role != "assistant" or not asked:
        raise DataError(f"{row.location or row.id}: a held-out row must end with an assistant's turn")
    if not last.text.strip():
        raise DataError(f"{row.location or row.id}: empty answer")
    also = conversation.extra.get("answers") or []
    if isinstance(also, str):
        also = [also]
    if not isinstance(also, list | tuple) or not all(isinstance(answer, str | int | float) for answer in also):
        raise DataError(f"{row.location or row.id}: 'answers' must be a list of texts or numbers, got {also!r:.60}")
    return replace(conversation, messages=tuple(asked)), tuple(dict.fromkeys((last.text, *map(str, also))))


def target(asked: Conversation) -> Box | None:
    """Where a click must fall: the row's `target`, [x1, y1, x2, y2] in thousandths, if it has one. Raises DataError."""
    given = asked.extra.get("target")
    if given is None:
        return None
    box = parse_box(str(list(given)), whole=True) if isinstance(given, list | tuple) else None
    if box is None:
        raise DataError(
            f"{asked.location or asked.id}: 'target' must be a box [x1, y1, x2, y2] in thousandths, got {given!r:.60}"
        )
    return box


def ask(
    model: ChatModel,
    source: Source,
    reading: Reading,
    max_tokens: int,
    on_answer: Callable[[], None] = lambda: None,
    *,
    swapped: bool = False,
) -> list[Answer]:
    """Asks every row's question, greedily. Raises DataError for a row that cannot be asked: none is skipped.

    swapped: with the media of another row, and the row's own truths; rows without media are left out then, and all are
    read before the first is asked.
    """
    waiting = deque[tuple[Conversation, tuple[str, ...]]]()
    questions = (question(source.row(index), reading) for index in range(len(source)))

    def asked() -> Iterator[Conversation]:
        for one in _swapped(questions, source.name, on_answer) if swapped else questions:
            waiting.append(one)
            yield one[0]

    answers = []
    for reply in model.replies(asked(), GenerationConfig(max_tokens=max_tokens)):
        conversation, truths = waiting.popleft()
        said = conversation.messages[-1].text.strip()
        answers.append(
            Answer(
                conversation.id,
                conversation.kind,
                said,
                str(reply).strip(),
                truths,
                target(conversation),
                reply.likelihood,
            )
        )
        on_answer()
    return answers


def _swapped(
    questions: Iterable[tuple[Conversation, tuple[str, ...]]], name: str, on_answer: Callable[[], None]
) -> list[tuple[Conversation, tuple[str, ...]]]:
    """Each with the media of another. name: of the source. on_answer: told of those left out."""
    shown = []
    for one in questions:
        if one[0].media:
            shown.append(one)
        else:
            on_answer()
    rows = [row for row, _ in shown]
    try:
        pairs = zip(rows, others(rows), shown, strict=True)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    return [(with_media_of(row, other), truths) for row, other, (_, truths) in pairs]


def changed(before: Iterable[Answer], after: Iterable[Answer]) -> Score:
    """Share of the questions of `after` that `before` has another answer to."""
    said = {answer.id: answer.prediction for answer in before}
    differs = [answer.prediction != said[answer.id] for answer in after]
    return wilson(sum(differs), len(differs))


def write(answers: Iterable[Answer], path: Path) -> None:
    """One answer a line."""
    lines = [json.dumps(asdict(answer), ensure_ascii=False) + "\n" for answer in answers]
    write_whole(path, "".join(lines))


def read(path: Path) -> list[Answer]:
    """The inverse of `write`; an empty list when there is no file."""
    if not path.is_file():
        return []
    # Not splitlines(): an answer may hold one of the other characters that Unicode breaks lines at.
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    return [
        Answer(**{**row, "truths": tuple(row["truths"]), "target": row["target"] and tuple(row["target"])})
        for row in rows
    ]
