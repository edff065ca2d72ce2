"""Objectives: (model, batch) to terms. A term is a sum and a count; the loop divides each once, by its global count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from vitrail.contracts.samples import Batch
from vitrail.models.assembled import MultimodalModel


@dataclass(frozen=True)
class Term:
    """One summand of the loss. loss_sum: float32[]. count: what the sum is divided by, known before any forward pass.

    weight: of the term among the others.
    """

    loss_sum: Tensor
    count: float
    weight: float = 1.0


Terms = Mapping[str, Term]


class Objective(Protocol):
    """What a stage minimises. A user's own is named `package.module:Class` in the recipe."""

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """Each term's count for this batch, without running the model.

        The step's totals are known before its first pass.
        """
        ...

    def __call__(self, model: MultimodalModel, batch: Batch) -> Terms:
        """Runs the model as often as it needs."""
        ...


class NextToken:
    """Weighted cross-entropy of the labelled tokens."""

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """The summed loss weights."""
        return {"next_token": batch.label_weight}

    def __call__(self, model: MultimodalModel, batch: Batch) -> Terms:
        """One forward pass."""
        return {"next_token": Term(model.loss_sum(batch), batch.label_weight)}
