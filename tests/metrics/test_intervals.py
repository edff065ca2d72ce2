"""Intervals: known values, ends, no data, repeatability, and coverage."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.metrics.intervals import Score, bootstrap, wilson


def test_wilson_known_values() -> None:
    score = wilson(8, 10)
    assert score.value == 0.8
    assert score.low == pytest.approx(0.4901625)
    assert score.high == pytest.approx(0.9433178)


def test_wilson_at_both_ends() -> None:
    none, every = wilson(0, 20), wilson(20, 20)
    assert (none.value, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(0.1611252)
    assert (every.value, every.high) == (1.0, 1.0)


@given(st.integers(1, 5000), st.floats(0, 1))
def test_wilson_holds_its_value(n: int, share: float) -> None:
    score = wilson(round(share * n), n)
    assert score.value is not None
    assert score.low is not None
    assert score.high is not None
    assert 0.0 <= score.low <= score.value <= score.high <= 1.0


def test_nothing_measured() -> None:
    assert wilson(0, 0) == bootstrap([], seed=1) == Score(None, None, None, 0)
    assert wilson(0, 0).to_json() == {"value": None, "low": None, "high": None, "n": 0}


def test_more_successes_than_answers_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="3 successes out of 2"):
        wilson(3, 2)


def test_bootstrap_is_repeatable_and_near_the_normal_interval() -> None:
    values = np.random.default_rng(3).uniform(0, 1, 400).tolist()
    score = bootstrap(values, seed=7)
    assert score == bootstrap(values, seed=7)
    half = 1.96 * np.std(values) / 20
    assert score.value == pytest.approx(np.mean(values))
    assert score.low == pytest.approx(np.mean(values) - half, abs=0.004)
    assert score.high == pytest.approx(np.mean(values) + half, abs=0.004)


def test_bootstrap_of_one_value_has_no_width() -> None:
    assert bootstrap([0.25], seed=0) == Score(0.25, 0.25, 0.25, 1)


def test_bootstrap_in_pieces_keeps_the_number_of_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitrail.metrics.intervals._DRAWS_AT_ONCE", 70)
    score = bootstrap([0.0, 1.0] * 10, seed=0, resamples=100)
    assert score.low is not None
    assert score.high is not None
    assert score.low < 0.5 < score.high


def test_json_round_trip_and_overlap() -> None:
    a, b, c = wilson(8, 10), wilson(80, 100), wilson(10, 100)
    assert Score.from_json(json.loads(json.dumps(a.to_json()))) == a
    assert not a.apart_from(b)
    assert b.apart_from(c)
    assert c.apart_from(b)
    assert not a.apart_from(wilson(0, 0))
    assert Score.from_json({}) == wilson(0, 0)
