"""Objectives: (model, batch) to terms. A term is a sum and a count; the loop divides each once, by its global count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vitrail.contracts.samples import IGNORE, Batch, Segments, VisionStream
from vitrail.models.assembled import MultimodalModel


@dataclass(frozen=True)
class Term:
    """One summand of the loss. loss_sum: float32[]. count: what the sum is divided by, known before any forward pass.

    weight: of the term among the others. each: float32[T], what each place of the text stream adds to the sum, without
    a gradient; None where the sum is not over places. The curves of single sources are drawn from it.
    """

    loss_sum: Tensor
    count: float
    weight: float = 1.0
    each: Tensor | None = None


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
        loss, each = model.losses(batch)
        return {"next_token": Term(loss, batch.label_weight, each=each)}


class ContrastiveCaption:
    """Pictures against the texts of their answers, and the answers word by word, from one pass of the encoder.

    The text of a picture is every labelled token of its sample, read by the same backbone without the picture; its
    summary is the hidden state of the last one. The summary of a picture is the mean of its tokens. Every sample of
    the pack is a negative of every other, so the packs of a step may not be accumulated.
    Source: CoCa, arXiv 2205.01917, with SigLIP's loss in the place of the softmax, as MoonViT is trained (Kimi-VL,
    arXiv 2504.07491, section 2.3.1). The third term is ours: what stands where is known of a drawn picture, and an
    encoder without convolutions learns glyphs from places many times faster than through a decoder.
    """

    def __init__(self, contrastive: float, caption: float, spotting: float = 0.0) -> None:
        """Weights of the terms; 0 leaves one out."""
        self.contrastive, self.caption, self.spotting = contrastive, caption, spotting

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """Samples with a picture, summed loss weights, and marked patches."""
        counts = {"contrastive": float(len(_pictured(batch))), "caption": batch.label_weight, "spotting": 0.0}
        if batch.vision is not None and batch.vision.marks is not None:
            counts["spotting"] = float(batch.vision.marks.ne(IGNORE).sum())
        return counts

    def __call__(self, model: MultimodalModel, batch: Batch) -> Terms:
        """Encodes the pictures once, then reads the texts once for each term."""
        counts = self.counts(batch)
        terms: dict[str, Term] = {}
        pictures = None
        if batch.vision is not None:
            features = model.encoder(batch.vision)
            pictures = model.projector(features, batch.vision)
            if self.spotting and batch.vision.marks is not None:
                loss = model.spotting_loss_sum(features, batch.vision.marks)
                terms["spotting"] = Term(loss, counts["spotting"], self.spotting)
        if self.caption:
            loss, each = model.losses(batch, pictures)
            terms["caption"] = Term(loss, counts["caption"], self.caption, each)
        if self.contrastive and pictures is not None and batch.vision is not None:
            assert model.contrast is not None, "build.py gives a model with this objective its contrast"
            seen = mean_by_sample(pictures, batch.vision, batch.text.segments)[_pictured(batch)]
            said = _summaries(model, batch)
            loss = model.contrast.loss_sum(seen, said)
            terms["contrastive"] = Term(loss, counts["contrastive"], self.contrastive)
        return terms


def mean_by_sample(pictures: Tensor, vision: VisionStream, text: Segments) -> Tensor:
    """float[M, D] picture tokens to float[S, D], one row a segment of the text; zeros where there is no picture."""
    ends = torch.tensor(text.lengths, device=pictures.device).cumsum(0)
    sample = torch.searchsorted(ends, vision.token_index, right=True)
    sums = pictures.new_zeros(len(text.lengths), pictures.shape[1]).index_add(0, sample, pictures)
    return sums / torch.bincount(sample, minlength=len(ends)).clamp(min=1)[:, None]


def _pictured(batch: Batch) -> list[int]:
    """The samples that have a picture and something said about it."""
    if batch.vision is None:
        return []
    places = set(_samples_of(batch, batch.vision.token_index))
    labelled = set(_samples_of(batch, batch.text.labels.ne(IGNORE).nonzero().squeeze(1)))
    return sorted(places & labelled)


def _samples_of(batch: Batch, places: Tensor) -> list[int]:
    ends = torch.tensor(batch.text.segments.lengths, device=places.device).cumsum(0)
    samples: list[int] = torch.searchsorted(ends, places, right=True).unique().tolist()
    return samples


def _summaries(model: MultimodalModel, batch: Batch) -> Tensor:
    """What the backbone makes of each pictured sample's labelled tokens alone, float[N, D]."""
    starts = [0, *torch.tensor(batch.text.segments.lengths).cumsum(0).tolist()]
    texts = [batch.text.labels[starts[number] : starts[number + 1]] for number in _pictured(batch)]
    texts = [text[text.ne(IGNORE)] for text in texts]
    lengths = tuple(len(text) for text in texts)
    positions = torch.cat([torch.arange(length, device=batch.text.labels.device) for length in lengths])
    hidden = model.run(model.backbone.embed(torch.cat(texts)), positions, Segments(lengths))
    last = torch.tensor(lengths, device=hidden.device).cumsum(0) - 1
    return hidden[last]
