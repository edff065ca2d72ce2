"""What a reader saw of the tokens of a page's text, made fit for a projector. No weights; microseconds.

The reader itself is frozen and runs where data are prepared (`media.text_lines`). Its features are normed, the
confidence is given twice, as it is and as a logarithm of doubt, and the box as sines, by which places a thousandth of
a page apart can be told from each other.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from vitrail.contracts.samples import MediaStream
from vitrail.models.config import TextLinesEncoderConfig

EDGES = 4
SUREST = 1e-3
"""Doubt below which the reader's confidence says no more."""


class TextLinesEncoder(nn.Module):
    """MediaStream of tokens float[P, F + 5], as `media.text_lines` has them, to features float[P, width]."""

    def __init__(self, config: TextLinesEncoderConfig, patch_values: int) -> None:
        """patch_values: numbers of one token: F features, the confidence, the box."""
        super().__init__()
        self.seen = patch_values - 1 - EDGES
        self.width = self.seen + 2 + EDGES * (1 + 2 * config.waves)
        self.waves = config.waves

    def forward(self, stream: MediaStream) -> Tensor:
        """Tokens between lines, which nothing was seen of, become zeros."""
        features, confidence, box = stream.values.split([self.seen, 1, EDGES], 1)
        sureness = (1 - confidence).clamp(min=SUREST).log() / math.log(SUREST)
        waves = 2.0 ** torch.arange(1, self.waves + 1, device=box.device) * torch.pi
        angles = (box[:, :, None] * waves).flatten(1)
        normed = layer_norm(features, (self.seen,))
        known = torch.cat([normed, confidence, sureness, box, angles.sin(), angles.cos()], 1)
        # Nothing was seen of what stands between lines.
        return known.where(confidence > 0, 0.0)
