"""Pictures as a sum of words: what a place of a picture says is a mixture of the language model's own embeddings.

With that agreed, the two halves of a model learn apart: `reading` teaches encoder and projector to make the mixtures,
without running the language model; `listening` teaches the language model to use them, without any encoder.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from vitrail.contracts.errors import DataError
from vitrail.contracts.samples import IGNORE, Batch
from vitrail.models.assembled import MultimodalModel
from vitrail.training.config import ListeningConfig, ReadingConfig
from vitrail.training.objectives import Term, Terms


class Reading:
    """What stands on each place of a picture, learnt without running the language model.

    A place's vector is to point where the mixture of its tokens does. The first token is the one whose embedding is
    nearest by cosine; with its share taken away, the second is; and so on.
    Source: ours; taking away what is known before the next is looked for is Mallat's and Zhang's (Matching Pursuits
    With Time-Frequency Dictionaries, 1993).
    """

    def __init__(self, config: ReadingConfig) -> None:
        self.config = config

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """Tokens that stand on places, and places with any."""
        known = _written(batch, "reading").ne(IGNORE)
        return {"reading": float(known.sum()), "length": float(known[:, 0].sum())}

    def __call__(self, model: MultimodalModel, batch: Batch) -> Terms:
        """Encoder and projector alone."""
        written, counts = _written(batch, "reading"), self.counts(batch)
        assert batch.vision is not None, "what is written is written in pictures"
        known = written[:, 0].ne(IGNORE)
        places, written = model.pictures(batch.vision)[known], written[known]
        with torch.no_grad():
            parts = _parts(written, model, self.config.fade)
            embeddings, labels = self._candidates(written, model)
        mixtures = parts.sum(1)
        pointing = functional.normalize(places, dim=1) * mixtures.norm(dim=1, keepdim=True)
        before = parts.cumsum(1) - parts
        views = functional.normalize(pointing[:, None] - before, dim=2).flatten(0, 1)
        reading = model.vocabulary_loss(
            views * self.config.sharpness, embeddings, labels, torch.ones_like(labels, dtype=torch.float32)
        )
        short = places.norm(dim=1) / _length(model) - 1
        return {
            "reading": Term(reading, counts["reading"]),
            "length": Term(short.float().square().sum(), counts["length"], self.config.length),
        }

    def _candidates(self, written: Tensor, model: MultimodalModel) -> tuple[Tensor, Tensor]:
        """Directions of the tokens that the labels are told apart from, and the labels as rows of them, int64[M * n].

        Which part of the vocabulary they are from follows from the labels: no chance, so nothing to resume.
        """
        labels = written.flatten()
        known = labels.ne(IGNORE)
        turn = int(labels[known].sum()) % self.config.among
        others = torch.arange(turn, model.backbone.vocabulary, self.config.among, device=labels.device)
        candidates = torch.cat([labels[known], others]).unique()
        directions = functional.normalize(model.backbone.embed(candidates), dim=1)
        return directions, torch.where(known, torch.searchsorted(candidates, labels), IGNORE)


class Listening:
    """Cross-entropy of the labelled tokens, with what `reading` aims at in the place of the pictures.

    The language model learns to use places before any encoder reads them well, at the cost of the language model alone.
    """

    def __init__(self, config: ListeningConfig) -> None:
        self.config = config

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """The summed loss weights."""
        return {"next_token": batch.label_weight}

    def __call__(self, model: MultimodalModel, batch: Batch) -> Terms:
        """One pass of the backbone; text without pictures is learnt as it is."""
        pictures = None if batch.vision is None else mixtures(_written(batch, "listening"), model, self.config.fade)
        loss, each = model.losses(batch, pictures)
        return {"next_token": Term(loss, batch.label_weight, each=each)}


@torch.no_grad()
def mixtures(written: Tensor, model: MultimodalModel, fade: float) -> Tensor:
    """What places say: int64[M, n] tokens to float[M, D], as long as embeddings are; zeros where nothing is known.

    fade: share of each token in the mixture, of that of the token before it. It is how their order is told.
    """
    return functional.normalize(_parts(written, model, fade).sum(1), dim=1) * _length(model)


def _parts(written: Tensor, model: MultimodalModel, fade: float) -> Tensor:
    """Each token's share, float[M, n, D]; zeros for IGNORE."""
    known = written.ne(IGNORE)
    directions = functional.normalize(model.backbone.embed(torch.where(known, written, 0)), dim=2)
    shares = fade ** torch.arange(written.shape[1], device=written.device)
    return directions * (shares * known)[:, :, None]


def _length(model: MultimodalModel) -> Tensor:
    """Mean length of the language model's embeddings, float[]."""
    with torch.no_grad():
        every = torch.arange(model.backbone.vocabulary, device=next(model.parameters()).device)
        length: Tensor = model.backbone.embed(every).norm(dim=1).mean()
    return length


def _written(batch: Batch, objective: str) -> Tensor:
    """int64[M, n]. Raises DataError where nothing is known to be written: there is nothing to learn then."""
    if batch.vision is None or batch.vision.written is None or not bool(batch.vision.written.ne(IGNORE).any()):
        names = ", ".join(dict.fromkeys(batch.sources)) or "this data"
        raise DataError(f"{names}: the objective '{objective}' needs pictures with marks, that is, known characters")
    return batch.vision.written
