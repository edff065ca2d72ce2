"""Likelihoods to chances of being right: recovered where they are known, honest where little is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitrail.contracts.errors import WeightsError
from vitrail.metrics.calibration import FEWEST, Calibration, fitted, quality


def answers(count: int, truth: Calibration, seed: int = 0) -> tuple[list[float], list[bool]]:
    """Likelihoods, and answers that are right as often as `truth` says."""
    dice = np.random.default_rng(seed)
    likelihoods = dice.uniform(0.02, 0.999, count).tolist()
    return likelihoods, [bool(dice.random() < truth.chance(one)) for one in likelihoods]


@pytest.mark.parametrize("truth", [Calibration(1.0, 0.0), Calibration(0.6, -1.5), Calibration(1.8, 0.7)])
def test_chances_are_found_again(truth: Calibration) -> None:
    likelihoods, right = answers(4000, truth)
    found = fitted(likelihoods, right)
    assert found is not None
    for one in (0.05, 0.3, 0.6, 0.9, 0.99):
        assert found.chance(one) == pytest.approx(truth.chance(one), abs=0.05)
    measured = quality(likelihoods, right)
    assert measured is not None
    assert measured["error"] < 0.04
    sure, unsure = measured["right_if_sure"], measured["right_if_unsure"]
    assert sure["n"] + unsure["n"] == 4000
    assert unsure["value"] < 0.5 < sure["value"]


def test_a_likelihood_that_says_nothing_gives_the_share_that_is_right() -> None:
    dice = np.random.default_rng(1)
    likelihoods, right = dice.uniform(0, 1, 2000).tolist(), (dice.random(2000) < 0.7).tolist()
    found = fitted(likelihoods, right)
    assert found is not None
    assert found.chance(0.1) == pytest.approx(0.7, abs=0.06)
    assert found.chance(0.9) == pytest.approx(0.7, abs=0.06)


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    assert Calibration.read(tmp_path) is None
    Calibration(0.5, -1.0).write(tmp_path)
    assert Calibration.read(tmp_path) == Calibration(0.5, -1.0)
    for text in ("", "[]", '{"slope": 1}', '{"slope": "x", "shift": 0}'):
        (tmp_path / "calibration.json").write_text(text)
        with pytest.raises(WeightsError, match="is damaged") as caught:
            Calibration.read(tmp_path)
        assert "\n" not in str(caught.value)


def test_few_answers_or_one_sort_alone_claim_nothing() -> None:
    assert fitted([0.5] * (FEWEST - 1), [True, *[False] * (FEWEST - 2)]) is None
    assert fitted([0.5] * 100, [True] * 100) is None
    assert quality([0.5] * 100, [True] * 100) is None
    # Parted without a mistake: still no certainty.
    found = fitted([0.9] * 15 + [0.1] * 15, [True] * 15 + [False] * 15)
    assert found is not None
    assert 0.9 < found.chance(0.9) < 0.99
    assert 0.0 < found.chance(0.0) < 0.1 < 0.9 < found.chance(1.0) < 1.0
