"""A case of DeepSeek-VL's hybrid: every picture is two, one large and one small, which become the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from picture_text import Tiles
from torch import Tensor
from towers import Hidden, in_reading_order, stream_of

from vitrail.contracts.samples import Batch, MediaStream
from vitrail.models.assembled import MultimodalModel

HIGH = "high"


class TwoSizes(Tiles):
    """The same with a second stream, of the large pictures."""

    def __init__(self, case: Any, picture_id: int, tokens: int, patch: int, large: Tensor, large_patch: int):
        super().__init__(case, picture_id, tokens, patch, 1)
        self.large, self.large_patch = large, large_patch

    def batch(self, rows: Sequence[int]) -> Batch:
        batch, numbers = super().batch(rows), self.numbers(rows)
        if not numbers:
            return batch
        stream = stream_of(self.large[numbers], self.large_patch)
        empty = torch.empty(0, dtype=torch.long)
        return batch.having(HIGH, MediaStream(stream.values, stream.positions, stream.segments, empty))


@torch.inference_mode()
def of_sam(model: MultimodalModel, batch: Batch) -> dict[str, Tensor]:
    """What SAM's blocks and necks make, float[V, patches, width], and their way to the small grid."""
    stream, encoder, projector = batch.media[HIGH], model.high_encoder, model.high_projector
    hidden, views = Hidden(encoder), len(batch.media[HIGH].segments.lengths)
    features = encoder(stream)
    found = {
        f"hidden.{number}": in_reading_order(state, stream, classes=False) for number, state in enumerate(hidden.states)
    }
    neck = projector.config.early
    found["last"] = in_reading_order(features[:, :neck], stream, classes=False)
    gate = projector.early_gate.clone()
    found["features"] = projector(features, stream).unflatten(0, (views, -1))
    projector.early_gate.zero_()
    found["last_proj"] = projector(features, stream).unflatten(0, (views, -1))
    projector.early_gate.fill_(1.0)
    found["early_proj"] = projector(features, stream).unflatten(0, (views, -1)) - found["last_proj"]
    projector.early_gate.copy_(gate)
    return found
