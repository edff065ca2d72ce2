"""Dialects of plain columns, which become one exchange.

caption    {"image": "a.png", "text": "Two birds."}: the picture asks, the caption answers
vqa        {"image": "a.png", "question": "How many?", "answer": "2"}
short_vqa  the same, with LLaVA-1.5's request for a short answer after the question

`answers` may hold several right ones, as texts or as VQAv2's objects: the most frequent is learnt. With `choices` or
`options` the question lists them by letter, and the letter is the answer.
Source: Liu et al. 2023, Improved Baselines with Visual Instruction Tuning, 3.2 and table 7.
"""

from __future__ import annotations

from collections import Counter
from string import ascii_uppercase
from typing import Any

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Message, Part, Row, TextPart
from vitrail.data.dialects.media import all_media, tagged
from vitrail.data.dialects.values import Read, shown_row, text, where

SHORT = "Answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."

CAPTIONS = ("caption", "text")
ANSWERS = ("multiple_choice_answer", "answer", "answers")
CHOICES = ("choices", "options")


def caption(row: Row) -> Read:
    """The picture, video or sound in the user's turn and what it shows or says in the assistant's."""
    media = all_media(row)
    if not media:
        raise DataError(f"{where(row)}: a caption without a picture, video or sound: {shown_row(row.fields)}")
    name = next((name for name in CAPTIONS if row.fields.get(name) is not None), None)
    if name is None:
        raise DataError(f"{where(row)}: neither 'caption' nor 'text' in the row {shown_row(row.fields)}")
    shows: tuple[Part, ...] = tuple(media)
    said = text(row.fields[name], row, f"'{name}'")
    return Read((Message("user", shows), Message("assistant", (TextPart(said),))))


def vqa(row: Row) -> Read:
    """The question as it stands."""
    return _exchange(row, ask_short=False)


def short_vqa(row: Row) -> Read:
    """The question and, on a line of its own, how to answer it."""
    return _exchange(row, ask_short=True)


def _exchange(row: Row, *, ask_short: bool) -> Read:
    if "question" not in row.fields:
        raise DataError(f"{where(row)}: no 'question' in the row {shown_row(row.fields)}")
    question = text(row.fields["question"], row, "'question'")
    choices = next((row.fields[name] for name in CHOICES if row.fields.get(name)), None)
    right = _answers(row)
    if choices is not None:
        listed, letter = _chosen(choices, right, row)
        question, right = f"{question}\n{listed}", [letter]
    if ask_short:
        question = f"{question}\n{LETTER if choices is not None else SHORT}"
    answer = Counter(right).most_common(1)[0][0]
    messages = tagged([("user", question), ("assistant", answer)], row)
    return Read(messages, answers=tuple(dict.fromkeys(right)))


def _answers(row: Row) -> list[str]:
    """Every right answer, as often as it was given."""
    name = next((name for name in ANSWERS if row.fields.get(name) not in (None, [])), None)
    if name is None:
        raise DataError(f"{where(row)}: no 'answer' in the row {shown_row(row.fields)}")
    given = row.fields[name]
    found = [_answer(one, name, row) for one in (given if isinstance(given, list | tuple) else [given])]
    if name == "multiple_choice_answer":
        others = row.fields.get("answers") or []
        found += [_answer(one, "answers", row) for one in others] if isinstance(others, list | tuple) else []
        # VQAv2 says itself which of its ten answers is the truth.
        found += [found[0]] * len(found)
    return found


def _answer(given: Any, name: str, row: Row) -> str:
    if isinstance(given, dict):
        given = given.get("answer")
    if isinstance(given, int | float) and not isinstance(given, bool):
        given = str(given)
    return text(given, row, f"'{name}'")


def _chosen(choices: Any, right: list[str], row: Row) -> tuple[str, str]:
    """The choices by letter, and the letter of the right one, given as a letter, as a number from 0 or in full."""
    if not isinstance(choices, list | tuple) or len(choices) > len(ascii_uppercase):
        raise DataError(f"{where(row)}: the choices must be a list of at most {len(ascii_uppercase)} texts")
    said = [text(choice, row, "a choice") for choice in choices]
    letters = ascii_uppercase[: len(said)]
    answer = right[0].strip()
    if answer in said:
        letter = letters[said.index(answer)]
    elif answer.isascii() and answer.isdigit() and int(answer) < len(said):
        letter = letters[int(answer)]
    elif len(answer.strip("().")) == 1 and answer.strip("().").upper() in letters:
        letter = answer.strip("().").upper()
    else:
        raise DataError(f"{where(row)}: the answer {answer!r:.60} is none of the {len(said)} choices")
    return "\n".join(f"{mark}. {choice}" for mark, choice in zip(letters, said, strict=True)), letter
