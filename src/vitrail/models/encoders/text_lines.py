"""What a reader saw of the tokens of a page's text, made fit for a projector. No weights; microseconds.

The reader itself is frozen and runs where data are prepared (`media.text_lines`). Its features are normed, and the
confidence is given twice, as it is and as a logarithm of doubt. Edges of boxes are given as sines, and digit by digit:
an answer says them in thousandths of the page, a token a digit, so that to answer is to copy.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, one_hot

from vitrail.contracts.samples import MediaStream
from vitrail.models.config import TextLinesEncoderConfig

EDGES = 8
"""Of a token's own box, and of its line's."""
DIGITS = 3
"""Of a thousandth."""
SUREST = 1e-3
"""Doubt below which the reader's confidence says no more."""


class TextLinesEncoder(nn.Module):
    """MediaStream of tokens float[P, F + 9], as `media.text_lines` has them, to features float[P, width]."""

    def __init__(self, config: TextLinesEncoderConfig, patch_values: int) -> None:
        """patch_values: numbers of one token: F features, the confidence, its box and its line's."""
        super().__init__()
        self.seen = patch_values - 1 - EDGES
        self.width = self.seen + 2 + EDGES * (1 + 2 * config.waves + 10 * DIGITS)
        self.waves = config.waves

    def forward(self, stream: MediaStream) -> Tensor:
        """Tokens between lines, which nothing was seen of, become zeros."""
        features, confidence, edges = stream.values.split([self.seen, 1, EDGES], 1)
        sureness = (1 - confidence).clamp(min=SUREST).log() / math.log(SUREST)
        waves = 2.0 ** torch.arange(1, self.waves + 1, device=edges.device) * torch.pi
        angles = (edges[:, :, None] * waves).flatten(1)
        normed = layer_norm(features, (self.seen,))
        known = torch.cat([normed, confidence, sureness, edges, angles.sin(), angles.cos(), digits(edges)], 1)
        # Nothing was seen of what stands between lines.
        return known.where(confidence > 0, 0.0)


def digits(edges: Tensor) -> Tensor:
    """Shares of a page, float[P, E], to which digit stands where in their thousandths: float[P, E x 30] of 0 and 1."""
    whole = (edges.float() * 1000).round().long().clamp(0, 999)
    places = 10 ** torch.arange(DIGITS - 1, -1, -1, device=edges.device)
    return one_hot(whole[:, :, None] // places % 10, 10).flatten(1).to(edges.dtype)
