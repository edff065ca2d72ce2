"""The language model on ideal features: it learns to use what media tokens should say, before any encoder makes them.

With `embedding_alignment` the two halves of a model learn apart: that one teaches encoder and projector to make
mixtures of embeddings without running the language model, this one the language model to read them without any encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from vitrail.contracts.errors import DataError
from vitrail.contracts.samples import VISION, Batch
from vitrail.training.objectives.embedding_alignment import TARGETS, Mixture, known, mean_length
from vitrail.training.objectives.next_token import NextToken
from vitrail.training.objectives.objective import Objective, Term, Terms

if TYPE_CHECKING:
    from torch import Tensor

    from vitrail.models.assembled import MultimodalModel


@dataclass(frozen=True)
class IdealFeatures(Mixture):
    """`next_token` with what `embedding_alignment` aims at in the place of each picture; no encoder is run.

    Rows without pictures are learnt as they are. tokens, fade: as there.
    """

    encodes: ClassVar[bool] = False
    unit: ClassVar[str] = "nats a token"

    kind: Literal["ideal_features"] = "ideal_features"

    def blind(self) -> Objective:
        """Without pictures this is reading the text alone."""
        return NextToken()

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """The summed loss weights."""
        return {"next_token": batch.label_weight}

    def __call__(self, model: MultimodalModel, batch: Batch) -> Terms:
        """One pass of the backbone; text without pictures is learnt as it is.

        Raises DataError for pictures of which nothing is known: they would be taught to mean nothing.
        """
        media = {}
        if batch.vision is not None:
            if not known(batch).any():
                names = ", ".join(dict.fromkeys(batch.sources)) or "this data"
                raise DataError(f"{names}: the objective '{self.kind}' needs {self.learns_from}")
            media[VISION] = self.mixtures(batch.targets[TARGETS], model)
        loss, each = model.losses(batch, media)
        return {"next_token": Term(loss, batch.label_weight, each=each)}

    def mixtures(self, targets: Tensor, model: MultimodalModel) -> Tensor:
        """What media tokens should say: int64[M, n] to float[M, D], as long as embeddings are; zeros where unknown."""
        import torch

        with torch.no_grad():
            pointing = torch.nn.functional.normalize(self.shares(targets, model).sum(1), dim=1)
            return pointing * mean_length(model)
