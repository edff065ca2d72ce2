"""Dialects of plain columns, which become one exchange.

caption     {"image": "a.png", "text": "Two birds."}: the picture asks, and its "prompt" if any; the caption answers
vqa         {"image": "a.png", "question": "How many?", "answer": "2"}
short_vqa   the same, with LLaVA-1.5's request for a short answer after the question
alpaca      {"instruction": "Translate.", "input": "Bonjour", "output": "Hello"}: the input stands on a line of its own
completion  {"prompt": ..., "completion": ...} (TRL, texts or turns), {"query": ..., "response": ...} (ms-swift),
            {"prefix": ..., "suffix": ...} (PaliGemma)

`answers` may hold several right ones, as texts or as VQAv2's objects: the most frequent is learnt. With `choices` or
`options` the question lists them by letter, and the letter is the answer: a number is the index of a choice, from 0.
`history` of alpaca and of query and response holds earlier exchanges, [["question", "answer"], ...].
Source: Liu et al. 2023, Improved Baselines with Visual Instruction Tuning, 3.2 and table 7.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Message, Part, Role, Row, TextPart
from vitrail.data.dialects.chats import chat
from vitrail.data.dialects.keys import inside, says
from vitrail.data.dialects.media import all_media
from vitrail.data.dialects.tags import tagged
from vitrail.data.dialects.values import Read, shown_row, text, where

SHORT = "Answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."

CAPTIONS = ("caption", "text")
ANSWERS = ("multiple_choice_answer", "answer", "answers")
CHOICES = ("choices", "options")
COMPLETIONS = {"prompt": "completion", "query": "response", "prefix": "suffix"}
"""What asks, and what answers it."""


def caption(row: Row) -> Read:
    """The picture, video or sound in the user's turn and what it shows or says in the assistant's."""
    name = next((name for name in CAPTIONS if name in row.fields), None)
    if row.fields.get("prompt"):
        if name is None:
            raise DataError(f"{where(row)}: neither 'caption' nor 'text' in the row {shown_row(row.fields)}")
        asked = text(row.fields["prompt"], row, "'prompt'")
        return Read(tagged([("user", asked), ("assistant", text(row.fields[name], row, f"'{name}'"))], row))
    media = all_media(row)
    if not media:
        raise DataError(f"{where(row)}: a caption without a picture, video or sound: {shown_row(row.fields)}")
    if name is None:
        raise DataError(f"{where(row)}: neither 'caption' nor 'text' in the row {shown_row(row.fields)}")
    shows: tuple[Part, ...] = tuple(media)
    said = text(row.fields[name], row, f"'{name}'")
    return Read((Message("user", shows), Message("assistant", (TextPart(said),))))


def alpaca(row: Row) -> Read:
    """An instruction, what it is about, and what follows it."""
    for name in ("instruction", "output"):
        if name not in row.fields:
            raise DataError(f"{where(row)}: no '{name}' in the row {shown_row(row.fields)}")
    asked = text(row.fields["instruction"], row, "'instruction'")
    about = row.fields.get("input")
    if about is not None and about != "":
        about = text(about, row, "'input'")
        asked = f"{asked}\n{about}" if asked else about
    said = _history(row)
    return Read(tagged([*said, ("user", asked), ("assistant", text(row.fields["output"], row, "'output'"))], row))


def completion(row: Row) -> Read:
    """A prompt and how it goes on, as texts or as turns."""
    asking = next((name for name in COMPLETIONS if name in row.fields), None)
    if asking is None or COMPLETIONS[asking] not in row.fields:
        pairs = ", ".join(f"'{name}' and '{other}'" for name, other in COMPLETIONS.items())
        raise DataError(f"{where(row)}: none of {pairs} in the row {shown_row(row.fields)}")
    sides: tuple[tuple[str, Role], ...] = ((asking, "user"), (COMPLETIONS[asking], "assistant"))
    if all(isinstance(row.fields[name], str) for name, _ in sides):
        said: list[tuple[Role, str]] = [(whose, text(row.fields[name], row, f"'{name}'")) for name, whose in sides]
        return Read(tagged([*(_history(row) if asking == "query" else ()), *said], row))
    turns: list[Any] = []
    for name, whose in sides:
        given = row.fields[name]
        several = (
            given
            if isinstance(given, list)
            else [{"role": whose, "content": given} if isinstance(given, str) else given]
        )
        if not several or not all(isinstance(turn, Mapping) for turn in several):
            raise DataError(f"{where(row)}: '{name}' must be a text or a list of turns")
        turns += several
    return chat([inside(turn, row, "a turn") for turn in turns], row)


def _history(row: Row) -> list[tuple[Role, str]]:
    """Earlier exchanges."""
    given = row.fields.get("history") or []
    said: list[tuple[Role, str]] = []
    for pair in given if isinstance(given, list) else [given]:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise DataError(f"{where(row)}: 'history' must be a list of [question, answer], got {pair!r:.60}")
        said += [("user", text(pair[0], row)), ("assistant", text(pair[1], row))]
    return said


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
    right = [_answer(one, name, row) for name, one in _answers(row)]
    if choices is not None:
        (_, given), *_ = _answers(row)
        listed, letter = _chosen(choices, given, right[0], row)
        question, right = f"{question}\n{listed}", [letter]
    if ask_short:
        question = f"{question}\n{LETTER if choices is not None else SHORT}"
    answer = Counter(right).most_common(1)[0][0]
    messages = tagged([("user", question), ("assistant", answer)], row)
    return Read(messages, answers=tuple(dict.fromkeys(right)))


def _answers(row: Row) -> list[tuple[str, Any]]:
    """Every right answer, as often as it was given, with the key that it stands under."""
    name = next((name for name in ANSWERS if says(row.fields.get(name))), None)
    if name is None:
        raise DataError(f"{where(row)}: no 'answer' in the row {shown_row(row.fields)}")
    given = row.fields[name]
    found = [(name, one) for one in (given if isinstance(given, list | tuple) else [given])]
    if name != "answers":
        others = row.fields.get("answers") or []
        found += [("answers", one) for one in (others if isinstance(others, list | tuple) else [others])]
        # Where a row says itself which of its answers is the truth (VQAv2 does), that one is learnt.
        found += [found[0]] * len(found)
    return found


def _answer(given: Any, name: str, row: Row) -> str:
    if isinstance(given, Mapping):
        given = inside(given, row, f"'{name}'").get("answer")
    if isinstance(given, int | float) and not isinstance(given, bool):
        given = str(given)
    return text(given, row, f"'{name}'")


def _chosen(choices: Any, given: Any, answer: str, row: Row) -> tuple[str, str]:
    """The choices by letter, and the letter of the right one.

    given: the answer as the row has it: a number is the index of a choice, from 0. A text may be a letter, a number or
    a choice in full; one that is two of these for different choices is refused.
    """
    said = _listed(choices, row)
    letters = ascii_uppercase[: len(said)]
    if isinstance(given, int) and not isinstance(given, bool):
        found = {given} if 0 <= given < len(said) else set()
    else:
        answer = answer.strip()
        bare = answer.strip("().").upper()
        found = {number for number, choice in enumerate(said) if choice.strip() == answer}
        found |= {int(answer)} if answer.isascii() and answer.isdigit() and int(answer) < len(said) else set()
        found |= {letters.index(bare)} if len(bare) == 1 and bare in letters else set()
    if not found:
        raise DataError(f"{where(row)}: the answer {answer!r:.60} is none of the {len(said)} choices")
    if len(found) > 1:
        meant = " and ".join(f"{letters[number]} ({said[number]!r:.40})" for number in sorted(found))
        raise DataError(f"{where(row)}: the answer {answer!r:.60} may be {meant}: give the index of the choice, from 0")
    return "\n".join(f"{mark}. {choice}" for mark, choice in zip(letters, said, strict=True)), letters[found.pop()]


def _listed(choices: Any, row: Row) -> list[str]:
    """The choices, given as a list, as an object by letter, or as a list that is spelled out as in Python (MMMU)."""
    if isinstance(choices, str) and choices.lstrip().startswith("["):
        try:
            choices = ast.literal_eval(choices)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            choices = None
    if isinstance(choices, Mapping):
        given = {name: value for name, value in choices.items() if value is not None}
        choices = list(given.values()) if list(given) == list(ascii_uppercase[: len(given)]) else None
    if not isinstance(choices, list | tuple) or not 0 < len(choices) <= len(ascii_uppercase):
        raise DataError(f"{where(row)}: the choices must be a list of at most {len(ascii_uppercase)} texts")
    numbers = [isinstance(choice, int | float) and not isinstance(choice, bool) for choice in choices]
    return [
        str(choice) if number else text(choice, row, "a choice")
        for choice, number in zip(choices, numbers, strict=True)
    ]
