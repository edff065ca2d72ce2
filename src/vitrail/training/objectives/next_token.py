"""Cross-entropy of the assistant's tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from vitrail.training.objectives.objective import Objective, Term, Terms

if TYPE_CHECKING:
    from vitrail.contracts.samples import Batch
    from vitrail.models.assembled import MultimodalModel


@dataclass(frozen=True)
class NextToken(Objective):
    """Weighted cross-entropy of the labelled tokens."""

    unit: ClassVar[str] = "nats a token"

    kind: Literal["next_token"] = "next_token"

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """The summed loss weights."""
        return {"next_token": batch.label_weight}

    def __call__(self, model: MultimodalModel, batch: Batch) -> Terms:
        """One forward pass."""
        loss, each = model.losses(batch)
        return {"next_token": Term(loss, batch.label_weight, each=each)}
