"""The assembled model: encode, project, fuse, run the backbone."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vitrail.contracts.protocols import LayerCache
from vitrail.contracts.samples import Batch, Segments
from vitrail.models.ops.vocabulary_loss import VocabularyLoss


class MultimodalModel(nn.Module):
    """Encoder, projector, fusion and backbone, by name. Any of them may be a class of the user's own."""

    def __init__(self, encoder: Any, projector: Any, fusion: Any, backbone: Any) -> None:
        super().__init__()
        self.encoder, self.projector, self.fusion, self.backbone = encoder, projector, fusion, backbone
        self.vocabulary_loss = VocabularyLoss()

    def embed(self, batch: Batch) -> Tensor:
        """What the backbone reads: text embeddings with the pictures in their places, float[T, D]."""
        embeddings: Tensor = self.backbone.embed(batch.text.ids)
        if batch.vision is None:
            return embeddings
        pictures = self.projector(self.encoder(batch.vision), batch.vision)
        fused: Tensor = self.fusion(embeddings, pictures, batch.vision)
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

    def loss_sum(self, batch: Batch) -> Tensor:
        """Weighted sum of the vocabulary losses, float32[]; divide by `batch.text.weights.sum()` for the mean."""
        text = batch.text
        loss: Tensor = self.vocabulary_loss(self(batch), self.backbone.head_weight(), text.labels, text.weights)
        return loss
