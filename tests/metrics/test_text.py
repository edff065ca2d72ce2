"""Normalisation, exact match, edit distance and ANLS, with the vectors that the public harnesses agree on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.contracts.errors import DataError
from vitrail.metrics.text import anls, exact_match, levenshtein, normalise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Two\n red   circles ", "two red circles"),
        ("\uff14\uff12", "42"),  # full-width digits
        ("STRASSE", "strasse"),
        ("Stra\u00dfe", "strasse"),
        ("forty-two.", "forty-two"),
        ('"Yes."', "yes"),
        ("'yes'.", "yes"),
        ("\u201cyes\u201d", "yes"),
        ("\u00ab oui \u00bb", "oui"),
        ('"a" or "b"', '"a" or "b"'),
        ("the dogs'", "the dogs'"),
        ("3.5", "3.5"),
        (".", "."),
        ("...", "."),
        ('""', '""'),
        ("", ""),
        ("1,000", "1,000"),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


@given(st.text())
def test_normalise_twice_is_once(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(st.text(alphabet="aA.'\"\u201c\u201d \u0130\u1e9e\u0345"))
def test_normalise_twice_is_once_around_the_marks_it_removes(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


def test_exact_match_takes_any_truth() -> None:
    assert exact_match("Red.", ["blue", "red"]) == 1.0
    assert exact_match("dark red", ["blue", "red"]) == 0.0
    assert exact_match("", ["."]) == 0.0
    assert exact_match("", [""]) == 1.0


@pytest.mark.parametrize("metric", [exact_match, anls])
def test_truths_must_be_a_filled_sequence(metric: object) -> None:
    assert callable(metric)
    with pytest.raises(DataError, match="at least one truth"):
        metric("a", [])
    with pytest.raises(DataError, match="one string"):
        metric("a", "abc")


def table_distance(a: str, b: str) -> int:
    """The textbook table, to hold the fast one against."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[-1]


@given(st.text(alphabet="abc", max_size=90), st.text(alphabet="abc", max_size=90))
def test_distance_equals_the_table(a: str, b: str) -> None:
    assert levenshtein(a, b) == levenshtein(b, a) == table_distance(a, b)


@given(st.text(max_size=12), st.text(max_size=12), st.text(max_size=12))
def test_distance_is_a_metric(a: str, b: str, c: str) -> None:
    assert (levenshtein(a, b) == 0) == (a == b)
    assert levenshtein(a, c) <= levenshtein(a, b) + levenshtein(b, c)


def test_distance_of_long_texts() -> None:
    assert levenshtein("ab" * 10_000, "ba" * 10_000) == 2  # the table would need 400 million cells


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        ("hallo", "hello", 0.8),
        ("ab", "abcd", 0.5),  # a tie with the threshold is kept
        ("a", "abcd", 0.0),
        ("hello", "Hello", 1.0),
        ("  hello \n world", "hello world", 1.0),
        ("", "", 1.0),
        ("", "a", 0.0),
        ("hallo  ", "hello", 1 - 1 / 7),  # blanks lengthen the denominator once there is a distance
    ],
)
def test_anls_vectors(prediction: str, truth: str, expected: float) -> None:
    assert anls(prediction, [truth]) == pytest.approx(expected)


def test_anls_takes_the_best_truth_and_the_threshold_given() -> None:
    assert anls("hallo", ["goodbye", "hello"]) == pytest.approx(0.8)
    assert anls("a", ["abcd"], threshold=0.2) == pytest.approx(0.25)
    assert anls("hallo", ["hello"], threshold=0.9) == 0.0
    with pytest.raises(DataError, match="threshold"):
        anls("a", ["a"], threshold=50)


@given(st.text(max_size=20), st.text(max_size=20))
def test_anls_stays_in_range(prediction: str, truth: str) -> None:
    assert 0.0 <= anls(prediction, [truth], threshold=0.0) <= 1.0
