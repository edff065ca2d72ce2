"""The assembled model: encode, project, fuse, run the backbone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vitrail.contracts.protocols import LayerCache
from vitrail.contracts.samples import Batch, Segments, VisionStream
from vitrail.models.contrast import Contrast
from vitrail.models.ops.vocabulary_loss import VocabularyLoss


class MultimodalModel(nn.Module):
    """Encoder, projector, fusion and backbone, by name. Any of them may be a class of the user's own.

    contrast, spotter: only models whose objective uses them have one. spotter: encoder features to characters.
    """

    def __init__(
        self,
        encoder: Any,
        projector: Any,
        fusion: Any,
        backbone: Any,
        contrast: Contrast | None = None,
        spotter: nn.Linear | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.projector, self.fusion, self.backbone = encoder, projector, fusion, backbone
        self.contrast, self.spotter = contrast, spotter
        self.vocabulary_loss = VocabularyLoss()

    def pictures(self, vision: VisionStream) -> Tensor:
        """The tokens that pictures become, float[M, D]."""
        tokens: Tensor = self.projector(self.encoder(vision), vision)
        return tokens

    def spotting_loss_sum(self, features: Tensor, marks: Tensor) -> Tensor:
        """Summed cross-entropy of the marked patches' characters, float32[]. features: float[P, encoder width]."""
        assert self.spotter is not None, "build.py gives a model with this objective its spotter"
        loss: Tensor = self.vocabulary_loss(features, self.spotter.weight, marks, torch.ones_like(marks).float())
        return loss

    def embed(self, batch: Batch, pictures: Tensor | None = None) -> Tensor:
        """What the backbone reads: text embeddings with the pictures in their places, float[T, D].

        pictures: their tokens, where they are at hand already.
        """
        embeddings: Tensor = self.backbone.embed(batch.text.ids)
        if batch.vision is None:
            return embeddings
        on_a_grid = batch.text.positions.ndim == 2
        assert on_a_grid or not getattr(self.backbone, "sections", None), "M-RoPE needs the places of picture tokens"
        tokens = self.pictures(batch.vision) if pictures is None else pictures
        fused: Tensor = self.fusion(embeddings, tokens, batch.vision)
        return fused

    def forward(self, batch: Batch, cache: LayerCache | None = None) -> Tensor:
        """Hidden states after the last norm, float[T, D]."""
        return self.run(self.embed(batch), batch.text.positions, batch.text.segments, cache)

    def run(self, embeddings: Tensor, positions: Tensor, segments: Segments, cache: LayerCache | None = None) -> Tensor:
        """The backbone over embeddings made elsewhere, float[T, D] to float[T, D]."""
        hidden: Tensor = self.backbone(embeddings, positions, segments, cache)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """float[N, D] to float32[N, V]."""
        logits: Tensor = (hidden @ self.backbone.head_weight().T).float()
        return logits

    def loss_sum(self, batch: Batch, pictures: Tensor | None = None) -> Tensor:
        """Weighted sum of the vocabulary losses, float32[]; divide by `batch.text.weights.sum()` for the mean."""
        return self.losses(batch, pictures)[0]

    def losses(self, batch: Batch, pictures: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same, with what each place of the text stream adds to it: float32[T], without a gradient."""
        text = batch.text
        hidden = self.run(self.embed(batch, pictures), text.positions, text.segments)
        return self.vocabulary_loss.with_each(hidden, self.backbone.head_weight(), text.labels, text.weights)
