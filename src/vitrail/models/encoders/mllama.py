"""Llama 3.2 Vision's encoder: the tiles of a canvas together, in plain blocks and then in gated ones.

Every view is laid out as all tiles that a canvas may have, each with a class token and filled up to a multiple of 8:
tiles that are not there, and what fills up, take part as the official code lets them. What is there attends to all of
it, what is not to what is there. So it costs the same for every picture, and attention goes with the square of all
tiles. Source: transformers 5.23, `MllamaVisionModel`.
"""

from __future__ import annotations

from math import pi
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from vitrail.contracts.samples import MediaStream, Segments
from vitrail.media.config import CanvasConfig
from vitrail.models.encoders.config import MllamaEncoderConfig
from vitrail.models.encoders.feed_forward import PlainMLP
from vitrail.models.ops.attention import packed_attention

MULTIPLE = 8
"""What the tokens of a tile are filled up to."""
PRE_POST_EPS = 1e-5
"""Of the norms before and behind the plain blocks, whatever the blocks have."""


class MllamaEncoder(nn.Module):
    """MediaStream to features float[V * max_tiles * (side**2 + 1), width], those of the class token of a tile first.

    width: that of the blocks, for the last and for each that is kept.
    """

    def __init__(self, config: MllamaEncoderConfig, patch_values: int) -> None:
        """patch_values: numbers in a patch, 3 x patch x patch."""
        super().__init__()
        self.config = config
        inner, tokens = config.width, config.side**2 + 1
        self.width = inner * (1 + len(config.kept))
        self.grids = CanvasConfig(patch=1, tile=config.side, max_tiles=config.max_tiles).grids
        shapes = len(self.grids) + 1
        self.stem = nn.Linear(patch_values, inner, bias=False)
        self.class_token = nn.Parameter(torch.randn(inner) * inner**-0.5)
        self.position_table = nn.Parameter(torch.randn(tokens, inner) * inner**-0.5)
        self.position_gate = nn.Parameter(torch.zeros(1))
        # Official tables have a first row for pictures that are not there.
        self.tile_position_table = nn.Parameter(torch.randn(shapes, config.max_tiles * tokens * inner) * inner**-0.5)
        self.tile_table_before, self.tile_table_after = (
            nn.Parameter(torch.randn(shapes, config.max_tiles * inner) * inner**-0.5) for _ in range(2)
        )
        self.tile_gate_before, self.tile_gate_after = (nn.Parameter(torch.zeros(1)) for _ in range(2))
        self.norm_before, self.norm_after = (nn.LayerNorm(inner, eps=PRE_POST_EPS) for _ in range(2))
        self.blocks = nn.ModuleList(MllamaBlock(config, gated=False) for _ in range(config.depth))
        self.global_blocks = nn.ModuleList(MllamaBlock(config, gated=True) for _ in range(config.global_depth))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def compilable(self) -> list[nn.Module]:
        """What `training.compiling` may compile."""
        blocks = [block for block in (*self.blocks, *self.global_blocks) if isinstance(block, MllamaBlock)]
        return [piece for block in blocks for piece in (block.attention_norm, block.mlp_norm, block.mlp)]

    def shardable(self) -> list[nn.Module]:
        """What `training.parallel` may shard piece by piece: modules whose weights nobody reads but their call."""
        return [*self.blocks, *self.global_blocks]

    def forward(self, stream: MediaStream) -> Tensor:
        """The views tile after tile, those that are not there last."""
        layout = self._layout(stream)
        x = self._embedded(stream, layout)
        views, tiles, tokens, inner = x.shape
        x = pad(x, (0, 0, 0, -tokens % MULTIPLE))
        length = x.shape[2]
        there = _there(layout.tiles, tiles, tokens, length)
        x, kept = x.flatten(0, 2), []
        for number, block in enumerate(self.blocks):
            x = block(x, there)
            if number in self.config.kept:
                kept.append((number, x))
        x = self.norm_after(x).view(views, tiles, length, inner)
        x = x + self.tile_gate_after.tanh() * self.tile_table_after[layout.shapes].view(views, tiles, 1, inner)
        x = x.flatten(0, 2)
        for block in self.global_blocks:
            x = block(x, there)
        # Beside each other number by number, as the official code stacks them.
        beside = torch.stack([dict(kept)[number] for number in self.config.kept], dim=-1).flatten(1)
        features = torch.cat([x, beside], dim=1).view(views, tiles, length, -1)
        return features[:, :, :tokens].flatten(0, 2)

    def _layout(self, stream: MediaStream) -> _Layout:
        """Where each patch goes. Views have whole tiles."""
        side, most = self.config.side, self.config.max_tiles
        device = stream.positions.device
        where, shapes, tiles = [], [], []
        for number, part in enumerate(stream.positions.split(stream.segments.lengths)):
            rows, columns = ((part.max(0).values + 1) // side).tolist()
            shapes.append(self.grids.index((rows, columns)) + 1)
            tiles.append(rows * columns)
            row, column = part.unbind(1)
            tile = number * most + row // side * columns + column // side
            where.append(tile * side**2 + row % side * side + column % side)
        return _Layout(torch.cat(where), torch.tensor(shapes, device=device), tiles)

    def _embedded(self, stream: MediaStream, layout: _Layout) -> Tensor:
        """What the first block reads, float[V, max_tiles, side**2 + 1, inner]."""
        side, most = self.config.side, self.config.max_tiles
        views, inner = len(layout.tiles), self.config.width
        patches = self.stem(stream.values.to(self.stem.weight.dtype))
        x = patches.new_zeros(views * most * side**2, inner).index_copy(0, layout.where, patches)
        x = x.view(views, most, side**2, inner)
        x = x + self.tile_gate_before.tanh() * self.tile_table_before[layout.shapes].view(views, most, 1, inner)
        x = torch.cat([self.class_token.to(x.dtype).expand(views, most, 1, inner), x], dim=2)
        gate = self.position_gate.tanh()
        x = x + (1 - gate) * self.position_table + gate * self.tile_position_table[layout.shapes].view(x.shape)
        normed: Tensor = self.norm_before(x)
        return normed


class _Layout(NamedTuple):
    """where: int64[P], the place of each patch among all places of all tiles. shapes: int64[V], rows of the tables.
    tiles: of each view, how many are there."""

    where: Tensor
    shapes: Tensor
    tiles: list[int]


class _There(NamedTuple):
    """Indices of tokens that are there and of those that fill up, and how many of either each view has."""

    real: Tensor
    filling: Tensor
    of_real: Segments
    of_filling: Segments


def _there(tiles: list[int], most: int, tokens: int, length: int) -> _There:
    device_free = torch.arange(most * length).view(most, length)
    real, filling = [], []
    for number, count in enumerate(tiles):
        there = torch.zeros(most, length, dtype=torch.bool)
        there[:count, :tokens] = True
        index = device_free + number * most * length
        real.append(index[there])
        filling.append(index[~there])
    lengths = (Segments(tuple(map(len, part))) for part in (real, filling))
    return _There(torch.cat(real), torch.cat(filling), *lengths)


class MllamaBlock(nn.Module):
    """Attention, then an MLP; both normed before, and in gated blocks times the tanh of a gate."""

    def __init__(self, config: MllamaEncoderConfig, *, gated: bool) -> None:
        super().__init__()
        width = config.width
        self.heads, self.gated = config.heads, gated
        self.attention_norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.mlp = PlainMLP(width, config.mlp_width, "gelu", bias=True)
        if gated:
            self.attention_gate, self.mlp_gate = (nn.Parameter(torch.full((1,), pi / 4)) for _ in range(2))

    def forward(self, x: Tensor, there: _There) -> Tensor:
        """float[N, width] to the same."""
        branch = self._attend(self.attention_norm(x), there)
        x = x + (self.attention_gate.tanh() * branch if self.gated else branch)
        branch = self.mlp(self.mlp_norm(x))
        out: Tensor = x + (self.mlp_gate.tanh() * branch if self.gated else branch)
        return out

    def _attend(self, x: Tensor, there: _There) -> Tensor:
        """What is there sees all of its view, what fills up sees what is there."""
        query, key, value = (
            part.unflatten(1, (self.heads, -1)).transpose(0, 1) for part in self.query_key_value(x).chunk(3, dim=1)
        )
        real, filling = there.real.to(x.device), there.filling.to(x.device)
        views = len(there.of_real.lengths)
        whole = Segments((len(x) // views,) * views)
        mixed = torch.empty_like(query)
        of_real = packed_attention(query[:, real], key, value, there.of_real, whole, causal=False)
        of_filling = packed_attention(
            query[:, filling], key[:, real], value[:, real], there.of_filling, there.of_real, causal=False
        )
        mixed = mixed.index_copy(1, real, of_real).index_copy(1, filling, of_filling)
        out: Tensor = self.attention_out(mixed.transpose(0, 1).flatten(1))
        return out
