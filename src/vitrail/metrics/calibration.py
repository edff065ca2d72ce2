"""How often an answer is right that the model gives such a likelihood: from answers whose truths are known.

A model's own probability says which answers are better, but not how good. Two numbers, fitted to held-out answers, turn
it into a chance of being right, for questions of that sort. How far that can be trusted is measured on answers that it
was not fitted to. Source: Platt scaling (1999), with his targets for few answers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.contracts.errors import WeightsError
from vitrail.disk import write_whole
from vitrail.metrics.intervals import wilson

FILE = "calibration.json"
FEWEST = 20
"""Answers, right and wrong ones among them, below which nothing is fitted."""
UNSURE = 0.5
"""Chance of being right below which an answer is unsure: more such answers are wrong than right."""
FOLDS = 4
_EDGE = 1e-6
_STEPS = 50


@dataclass(frozen=True)
class Calibration:
    """chance = sigmoid(slope x logit(likelihood) + shift)."""

    slope: float
    shift: float

    @classmethod
    def read(cls, folder: Path) -> Calibration | None:
        """Of the finished model in a folder, if it has one. Raises WeightsError for a file that is damaged."""
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return cls(float(found["slope"]), float(found["shift"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WeightsError(
                f"'{path}' is damaged: {error!r}; without it answers do not say how sure they are"
            ) from error

    def write(self, folder: Path) -> None:
        """Beside the weights of a finished model."""
        write_whole(folder / FILE, json.dumps(asdict(self)) + "\n")

    def chance(self, likelihood: float) -> float:
        """Of an answer to be right, 0 to 1. likelihood: as `Reply` has it."""
        return float(_sigmoid(self.slope * _logit(np.array([likelihood])) + self.shift)[0])


def fitted(likelihoods: Sequence[float], right: Sequence[bool]) -> Calibration | None:
    """None where there are too few answers, or all are right, or all wrong."""
    if len(right) < FEWEST or len(set(right)) < 2:
        return None
    values, truths = _logit(np.array(likelihoods)), np.array(right)
    count = truths.sum()
    # Platt's targets: as if each sort had one answer more, so that few answers claim no certainty.
    wanted = np.where(truths, (count + 1) / (count + 2), 1 / (len(truths) - count + 2))
    inputs = np.stack([values, np.ones_like(values)], 1)
    weights = np.zeros(2)
    for _ in range(_STEPS):
        chances = _sigmoid(inputs @ weights)
        curvature = (inputs * (chances * (1 - chances))[:, None]).T @ inputs + _EDGE * np.eye(2)
        weights -= np.linalg.solve(curvature, inputs.T @ (chances - wanted) + _EDGE * weights)
    return Calibration(float(weights[0]), float(weights[1]))


def quality(likelihoods: Sequence[float], right: Sequence[bool]) -> dict[str, Any] | None:
    """How well chances hold for answers that they were not fitted to, each fold by the other ones; None where too few.

    error: mean distance between chances and shares that are right, over ten equally many answers each. unsure: share of
    all answers; right_if_sure, right_if_unsure: shares, as `Score.to_json`.
    """
    truths = np.array(right)
    folds = np.arange(len(truths)) % FOLDS
    chances = np.zeros(len(truths))
    for fold in range(FOLDS):
        own = folds == fold
        made = fitted(np.array(likelihoods)[~own].tolist(), truths[~own].tolist())
        if made is None:
            return None
        chances[own] = [made.chance(one) for one in np.array(likelihoods)[own]]
    groups = np.array_split(np.argsort(chances), 10)
    gaps = [len(group) * abs(chances[group].mean() - truths[group].mean()) for group in groups if len(group)]
    sure = chances >= UNSURE
    return {
        "error": float(sum(gaps) / len(truths)),
        "unsure": wilson(int((~sure).sum()), len(truths)).to_json(),
        "right_if_sure": wilson(int(truths[sure].sum()), int(sure.sum())).to_json(),
        "right_if_unsure": wilson(int(truths[~sure].sum()), int((~sure).sum())).to_json(),
    }


def _logit(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    kept = shares.clip(_EDGE, 1 - _EDGE)
    found: NDArray[np.float64] = np.log(kept / (1 - kept))
    return found


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = 1 / (1 + np.exp(-values.clip(-40, 40)))
    return found
