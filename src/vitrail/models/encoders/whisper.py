"""Whisper's encoder over packed sounds: views end to end, none padded to another's length, none heard by another.

Both convolutions are matrix products over each frame and its neighbours, which are zeros beyond a view's ends; a view
comes out as it would alone. Blocks are the vision transformer's, with Whisper's settings.
Source: Whisper, arXiv 2212.04356; openai/whisper, `model.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from vitrail.contracts.samples import MediaStream, Segments
from vitrail.models.config import VisionTransformerConfig, WhisperEncoderConfig
from vitrail.models.encoders.vision_transformer import Block, initialise
from vitrail.models.ops.positions import sinusoidal, views

KERNEL = 3
"""Frames that a convolution looks at."""


class WhisperEncoder(nn.Module):
    """MediaStream of frames float[P, bands] to features float[P / 2, width]; a view has an even number of frames."""

    def __init__(self, config: WhisperEncoderConfig, patch_values: int) -> None:
        """patch_values: numbers in one frame, the bands of the spectrogram."""
        super().__init__()
        self.config = config
        self.width, self.stride = config.width, config.stride
        self.first = nn.Linear(KERNEL * patch_values, config.width)
        self.second = nn.Linear(KERNEL * config.width, config.width)
        self.blocks = nn.ModuleList(Block(_block(config)) for _ in range(config.depth))
        for block in self.blocks:
            assert isinstance(block, Block)
            block.query_key_value = QueryKeyValue(config.width)
        self.apply(initialise)
        self.final_norm = nn.LayerNorm(config.width)
        # Official checkpoints hold the table, some of them rounded; it is never learnt.
        table = sinusoidal(torch.arange(config.max_positions)[:, None], config.width)
        self.register_buffer("position_table", table)

    def compilable(self) -> list[nn.Module]:
        """What `training.compiling` may compile."""
        blocks = [block for block in self.blocks if isinstance(block, Block)]
        return [piece for block in blocks for piece in (block.attention_norm, block.mlp_norm, block.mlp)]

    def forward(self, stream: MediaStream) -> Tensor:
        """A feature of every two frames, normed."""
        assert all(length % 2 == 0 for length in stream.segments.lengths), "views hold an even number of frames"
        halved = Segments(tuple(length // self.stride for length in stream.segments.lengths))
        begins, ends = _edges(stream.segments, stream.values.device)
        x = stream.values.to(self.first.weight.dtype)
        x = gelu(self.first(torch.cat([_beyond(x, begins, 1), x, _beyond(x, ends, -1)], 1)))
        # A step of two: each even frame with both of its neighbours.
        even, odd = x[0::2], x[1::2]
        x = gelu(self.second(torch.cat([_beyond(odd, begins[0::2], 1), even, odd], 1)))
        x = x + self.get_buffer("position_table")[stream.positions[0::2, 0] // 2].to(x.dtype)
        for block in self.blocks:
            x = block(x, None, halved)
        out: Tensor = self.final_norm(x)
        return out


class QueryKeyValue(nn.Linear):
    """Queries, keys and values of each feature in one product; keys alone have no bias."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 3 * width, bias=False)
        self.bias = nn.Parameter(torch.zeros(2 * width))

    def forward(self, x: Tensor) -> Tensor:
        """float[P, width] to float[P, 3 * width]."""
        query, value = self.bias.chunk(2)
        return linear(x, self.weight, torch.cat([query, torch.zeros_like(query), value]))


def _block(config: WhisperEncoderConfig) -> VisionTransformerConfig:
    """Whisper's block among those of the vision transformer."""
    return VisionTransformerConfig(
        width=config.width,
        heads=config.heads,
        mlp_width=config.mlp_width,
        activation=config.activation,
        rope="none",
        norm="layer",
        mlp="plain",
        bias=True,
    )


def _edges(segments: Segments, device: torch.device) -> tuple[Tensor, Tensor]:
    """bool[P, 1]: the first frames of views, and the last."""
    view = views(segments, device)
    border = view[1:] != view[:-1]
    edge = torch.ones(1, dtype=torch.bool, device=device)
    return torch.cat([edge, border])[:, None], torch.cat([border, edge])[:, None]


def _beyond(x: Tensor, edge: Tensor, step: int) -> Tensor:
    """Each frame's neighbour, the one before (1) or after (-1); zeros where there is none in its view."""
    return x.roll(step, 0).masked_fill(edge, 0.0)
