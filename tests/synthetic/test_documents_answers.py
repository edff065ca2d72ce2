"""Drawn documents: every answer is right, read off what is written, and no question can be guessed without it."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from math import sqrt

import pytest
from turns import turns

from vitrail.contracts.messages import Row
from vitrail.synthetic.documents.config import SCORED_ASKS, DocumentsConfig
from vitrail.synthetic.documents.page import Document
from vitrail.synthetic.documents.source import DocumentsSource

BLIND_LIMIT = 0.10
BOXED = ("box", "click")


# Right answers


def test_amounts_of_receipts_and_invoices_add_up(documents: dict[str, list[Document]]) -> None:
    for document in documents["train"] + documents["test"]:
        if document.name not in ("receipt", "invoice"):
            continue
        prices = items_of(document)
        answers = {a.question.rstrip("?.").split()[-1].lower(): a.answer for a in document.asks if a.kind == "field"}
        parts = [cents(answers[key]) for key in ("tax", "tip", "discount") if key in answers]
        assert sum(prices.values()) + sum(parts) == cents(answers["total"]), document.lines
        if "change" in answers:
            paid = next(a.answer for a in document.asks if "cash paid" in a.question)
            assert cents(paid) - cents(answers["total"]) == cents(answers["change"])
        for ask in document.asks:
            named = sorted((n for n in prices if n.lower() in ask.question.lower()), key=ask.question.lower().find)
            if ask.kind == "sum":
                assert cents(ask.answer) == sum(prices[name] for name in named)
            elif "most" in ask.question or "dearest" in ask.question:
                assert prices[ask.answer] == max(prices.values())
            elif "least" in ask.question or "cheapest" in ask.question:
                assert prices[ask.answer] == min(prices.values())


def items_of(document: Document) -> dict[str, int]:
    """Names and prices in cents, read off the lines of a receipt or an invoice."""
    names = [ask.answer for ask in document.asks if re.match(r"(Which item is number|Name item) \d", ask.question)]
    found = {}
    for name in names:
        (line,) = [line for line in document.lines if re.search(rf"(^|\d ){re.escape(name)}\b", line)]
        found[name] = cents(line.split()[-1])
    return found


def cents(text: str) -> int:
    return int(re.sub("[$€£.,]", "", text))


def test_tables_answer_as_they_are_written(documents: dict[str, list[Document]]) -> None:
    seen = Counter[str]()
    for document in documents["train"] + documents["test"]:
        if document.name != "table":
            continue
        grid = grid_of(document)
        head, names = [text.lower() for text in grid[0]], [row[0] for row in grid[1:]]
        for ask in document.asks:
            rows = [row for row in grid[1:] if re.search(rf"\b{re.escape(row[0])}\b", ask.question)]
            column = next((c for c, text in enumerate(head) if c and re.search(rf"\b{text}\b", ask.question)), 0)
            values = [row[column] for row in rows]
            if ask.kind == "field" and column:
                assert [ask.answer] == values
            elif ask.kind == "sum":
                assert cents(ask.answer) == sum(map(cents, values))
            elif ask.kind == "compare":
                best = (min if "lowest" in ask.question else max)(grid[1:], key=lambda row: cents(row[column]))
                assert ask.answer == best[0]
            elif ask.kind == "position" and rows:
                step = 1 if re.search("below|after|under", ask.question) else -1
                assert ask.answer == names[names.index(rows[0][0]) + step]
            else:
                continue
            seen[ask.kind] += 1
    assert min(seen[kind] for kind in SCORED_ASKS) > 50


def grid_of(document: Document) -> list[list[str]]:
    """The cells of a table, row by row; a title has a row of its own in front, which is left out."""
    grid, cells = [], [text for text, _ in document.runs]
    for line in document.lines:
        row = [cells.pop(0)]
        while " ".join(row) != line:
            row.append(cells.pop(0))
        grid.append(row)
    return grid[1:] if len(grid[0]) == 1 else grid


def test_bars_are_as_long_as_their_values(documents: dict[str, list[Document]]) -> None:
    seen = 0
    for document in documents["train"] + documents["test"]:
        if document.name != "bar chart":
            continue
        bars = {name.removeprefix("the bar of "): box for name, box in document.boxes.items() if "bar of" in name}
        upright = "What is below" not in " ".join(ask.question for ask in document.asks) and document.layout[2] == "up"
        long = {name: box[3] - box[1] if upright else box[2] - box[0] for name, box in bars.items()}
        for ask in document.asks:
            if ask.kind == "compare":
                low = "lowest" in ask.question
                assert long[ask.answer] == (min if low else max)(long.values()), (document.layout, long)
            elif ask.kind == "field" and (named := [name for name in bars if name in ask.question]):
                values = {a.question: int(a.answer) for a in document.asks if a.kind == "field" and a.answer.isdigit()}
                assert abs(long[named[0]] / max(long.values()) - int(ask.answer) / max(values.values())) < 0.04
                seen += 1
    assert seen > 100


def test_lines_of_charts_compare_and_follow_as_asked(documents: dict[str, list[Document]]) -> None:
    for document in documents["train"] + documents["test"]:
        if document.name != "line chart":
            continue
        names = (
            document.lines[-1].split() if document.layout[4] != "month" else re.findall(r"\w+ \d\d", document.lines[-1])
        )
        values = [int(a.answer) for a in document.asks if a.kind == "field" and re.search(" (at|of) ", a.question)]
        for ask in document.asks:
            if ask.kind == "position":
                near = {"right": 1, "left": -1}["right" if "right" in ask.question else "left"]
                asked = next(name for name in sorted(names, key=len, reverse=True) if name in ask.question)
                assert ask.answer == names[names.index(asked) + near]
            elif ask.kind == "compare" and values:
                assert values[names.index(ask.answer)] == (min if "lowest" in ask.question else max)(values)


def test_texts_answer_what_stands_in_the_lines(documents: dict[str, list[Document]]) -> None:
    for document in documents["train"] + documents["test"]:
        whole = " ".join(document.lines)
        for ask in document.asks:
            if ask.kind == "field":
                assert ask.answer in whole, (document.name, ask)
            elif ask.kind == "text":
                assert ask.answer == "\n".join(document.lines)
            elif re.search(r"line \d+", ask.question) and ask.kind == "position":
                number = int(re.findall(r"\d+", ask.question)[0])
                assert ask.answer == document.lines[number - 1]
        assert all(text.isprintable() for text in document.lines)


# Blind guessing


class Blind:
    """A reader of questions alone: the commonest train answer to each exact question, or the middle of the boxes."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.answers: dict[str, Counter[str]] = defaultdict(Counter)
        self.given: dict[str, list[list[int]]] = defaultdict(list)
        for row in rows:
            for kind, question, answer in turns(row):
                for key in (question, kind):
                    self.answers[key][answer] += 1
                    if kind in BOXED:
                        self.given[key].append(json.loads(answer))

    def is_right(self, kind: str, question: str, answer: str, row: Row) -> bool:
        if kind not in BOXED:
            return (self.answers.get(question) or self.answers[kind]).most_common(1)[0][0] == answer
        known = self.given.get(question, [])
        guess = [
            sorted(edge)[len(edge) // 2] for edge in zip(*(known if len(known) > 3 else self.given[kind]), strict=True)
        ]
        if kind == "box":
            return overlap(guess, json.loads(answer)) >= 0.5
        x1, y1, x2, y2 = named_box(row, question)
        height, width = row.fields["images"][0].image.shape[:2]
        return x1 <= guess[0] * width / 1000 < x2 and y1 <= guess[1] * height / 1000 < y2


def named_box(row: Row, question: str) -> list[int]:
    names = [name for name in row.fields["boxes"] if name.lower() in question.lower()]
    return list(row.fields["boxes"][max(names, key=len)])


def overlap(one: list[int], two: list[int]) -> float:
    across, down = (min(one[2 + e], two[2 + e]) - max(one[e], two[e]) for e in (0, 1))
    shared = max(across, 0) * max(down, 0)
    area = sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (one, two))
    return shared / (area - shared)


def blind_shares(train: int, test: int) -> dict[str, tuple[float, int]]:
    """Share of test questions of each kind that the blind reader gets right, and how many there were."""
    learnt = DocumentsSource(DocumentsConfig(rows=train, text=0.0, caption=0.0))
    reader = Blind(learnt.row(index) for index in range(train))
    asked = DocumentsSource(DocumentsConfig(split="test", rows=test))
    right, total = Counter[str](), Counter[str]()
    for index in range(test):
        row = asked.row(index)
        ((kind, question, answer),) = turns(row)
        total[kind] += 1
        right[kind] += reader.is_right(kind, question, answer, row)
    return {kind: (right[kind] / total[kind], total[kind]) for kind in total}


def check_blind(shares: dict[str, tuple[float, int]]) -> None:
    assert set(shares) == {*SCORED_ASKS, *BOXED}
    for kind, (share, total) in shares.items():
        assert share < BLIND_LIMIT + 2 * sqrt(BLIND_LIMIT / total) * (kind in BOXED), (kind, share)


def test_a_reader_of_questions_alone_stays_under_the_limit() -> None:
    check_blind(blind_shares(900, 480))


@pytest.mark.long
def test_a_reader_of_many_questions_alone_stays_under_the_limit() -> None:
    check_blind(blind_shares(5000, 3000))


def test_no_question_of_the_test_split_has_a_frequent_answer(documents: dict[str, list[Document]]) -> None:
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for document in documents["test"]:
        for ask in document.asks:
            if ask.kind in SCORED_ASKS:
                answers[ask.question][ask.answer] += 1
    for question, counts in answers.items():
        if (total := counts.total()) >= 20:
            limit = BLIND_LIMIT + 3 * sqrt(BLIND_LIMIT / total)
            assert counts.most_common(1)[0][1] / total < limit, (question, counts.most_common(3), total)
