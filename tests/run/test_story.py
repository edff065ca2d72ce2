"""What a run tells at its beginning and its end."""

from __future__ import annotations

from rich.cells import cell_len

from vitrail.metrics.intervals import wilson
from vitrail.report.contents import Example
from vitrail.run import story


def example(question: str, truth: str, **answers: str) -> Example:
    return Example(b"", question, truth, answers, "field", 1.0)


def test_every_model_has_a_column_and_lines_fit_a_terminal() -> None:
    told = story.questions(
        [
            example("What is the total?", "12.50", before="The\ntotal", after="12.50", swapped="9.99", blind="4.00"),
            example("What does the Chinese noodle soup of the day cost?", "東京都千代田区丸の内一丁目", after="東京"),
        ]
    )
    head, first, second = told
    assert head.split("  ")[0] == "question"
    assert [name for name in story.COLUMNS.values() if name in head] == [
        "before",
        "after",
        "another picture",
        "eyes closed",
    ]
    assert "The total" in first, "one line a question"
    assert first.index("12.50", first.index("The total")) == head.index("after")
    assert "\u2026" in second
    assert all(cell_len(line) <= 6 * (story.WIDEST + 2) for line in told)
    assert story.questions([example("Why?", "So.")]) == []


def test_the_outcome_is_one_line_with_cost_and_losses() -> None:
    results = {
        "after": {"exact_match": wilson(150, 200).to_json()},
        "blind": {"exact_match": wilson(4, 200).to_json()},
        "seconds": 845.4,
    }
    said = story.outcome(results, {"used": 90, "too_long": 3, "unreadable": 1}, 2)
    assert said == (
        "right 75.0 % [69, 80]; eyes closed 2.0 % [1, 5]; 14 min 5 s on 2 threads; "
        "rows changed or left out: 3 too_long, 1 unreadable"
    )
    assert story.outcome({}, {"used": 3}, 1) == "0 min 0 s on 1 thread; rows changed or left out: none"
