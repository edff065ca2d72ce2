"""Answers summarised: which truth counts where, kinds, and empty sets."""

from __future__ import annotations

import json

import pytest

from vitrail.contracts.errors import DataError
from vitrail.metrics.scoring import Answer, measure, summarise


def answer(prediction: str, *truths: str, kind: str = "colour", name: str = "q1") -> Answer:
    return Answer(id=name, kind=kind, question="?", prediction=prediction, truths=truths)


def test_text_and_boxes_are_counted_apart() -> None:
    result = summarise(
        [
            answer("Red.", "red"),
            answer("blue", "red"),
            answer("[0, 0, 500, 1000]", "[0, 0, 1000, 1000]", kind="where"),
            answer("to the left", "(0,0),(10,10)", kind="where"),
        ]
    )
    assert (result["exact_match"]["value"], result["exact_match"]["n"]) == (0.5, 2)
    assert result["anls"]["n"] == 2
    assert (result["box_iou"]["value"], result["box_iou"]["n"]) == (0.25, 2)
    assert list(result["by_kind"]) == ["colour", "where"]
    assert set(result["by_kind"]["colour"]) == {"exact_match", "anls"}
    assert set(result["by_kind"]["where"]) == {"box_iou", "box_half"}
    json.dumps(result, allow_nan=False)


def test_no_answers() -> None:
    result = summarise([])
    assert result["by_kind"] == {}
    assert all(result[metric] == {"value": None, "low": None, "high": None, "n": 0} for metric in ("anls", "box_iou"))


def test_truths_of_both_sorts() -> None:
    scores = measure(answer("[0, 0, 10, 10]", "top left", "[0, 0, 10, 10]"))
    assert scores == {"exact_match": 0.0, "anls": 0.0, "box_iou": 1.0, "box_half": 1.0}


def test_a_sentence_with_a_box_is_text() -> None:
    assert set(measure(answer("x", "The list is [1, 2, 3, 4] in order"))) == {"exact_match", "anls"}


def test_an_answer_without_truths_is_named() -> None:
    with pytest.raises(DataError, match="'receipt-7'"):
        summarise([answer("x", name="receipt-7")])


def test_of_a_click_only_the_point_counts() -> None:
    def clicked(prediction: str) -> dict[str, float]:
        return measure(Answer("c", "click", "Where?", prediction, ("[125, 210]",), (100, 200, 150, 220)))

    assert clicked("[101, 219]") == {"click": 1.0}
    assert clicked("[10, 219]") == clicked("there") == {"click": 0.0}
    summary = summarise([Answer("c", "click", "?", "[125, 210]", ("[125, 210]",), (100, 200, 150, 220))])
    assert (summary["click"]["value"], summary["click"]["n"], summary["exact_match"]["n"]) == (1.0, 1, 0)


def test_fields_of_json_are_scored_each_by_itself() -> None:
    truth = '{"total": "12.50", "date": "19/03/2026", "tip": null, "items": [1, 2]}'
    given = [
        answer('{"date": "19/03/2026.", "total": "12.50", "items": [1, 2], "tip": null, "more": 1}', truth, kind=""),
        answer('Here: {"total": 12.5, "date": "19/03/2026", "tip": ""}', truth, kind=""),
        answer("12.50", truth, kind=""),
    ]
    assert [measure(one)["fields"] for one in given] == [1.0, 0.25, 0.0]
    assert [measure(one)["exact_match"] for one in given] == [1.0, 0.0, 0.0]
    found = summarise(given)
    assert found["fields"]["value"] == pytest.approx(1.25 / 3)
    right = {name: scores["exact_match"]["value"] * 3 for name, scores in found["by_kind"].items() if name}
    assert right == pytest.approx({"total": 1.0, "date": 2.0, "tip": 1.0, "items": 1.0})
    assert "fields" not in measure(answer("x", 'It says {"total": 1}')), "a sentence is text"
