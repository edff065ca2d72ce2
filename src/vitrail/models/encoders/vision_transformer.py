"""A vision transformer over packed pictures of any size: one block, and what the published ones differ in by config.

All views of a pack run through as one stream of patches; segments keep them apart, and nothing is padded. The stem is
one matrix product over patches that are cut out and flattened: a convolution whose stride is its kernel is this
product, so the weights of Conv2d and Conv3d are its weights, flattened.
Source: as configured by default the block is Pixtral's (arXiv 2410.07073): RMSNorm before attention and before a
SwiGLU, no biases, axial rotary positions. `systems/encoders/presets.py` has the others.
"""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from vitrail.contracts.samples import MediaStream, Segments
from vitrail.models.config import VisionTransformerConfig
from vitrail.models.encoders.feed_forward import GatedMLP, PlainMLP
from vitrail.models.encoders.neck import Neck
from vitrail.models.encoders.pooling import AttentionPooling, ClassPooling
from vitrail.models.encoders.relative import RelativeAttention
from vitrail.models.ops.attention import packed_attention
from vitrail.models.ops.norms import norm
from vitrail.models.ops.planes import Planes
from vitrail.models.ops.positions import axial_angles, from_table, rotate, shapes, sinusoidal, views
from vitrail.models.ops.windows import Filled, filled, windowed

BRANCH = 0.1
"""What the blocks' outputs are scaled by before training."""
BLUR = 1.5
"""Deviation of the blur of the first filters, px."""
TABLE = 0.02
"""Deviation of learnt positions and class tokens before training."""

Rope = tuple[Tensor, Tensor]
"""(cos, sin) of rotary positions, each float[P, head width]."""


class VisionTransformer(nn.Module):
    """MediaStream to features float[P, width]; with class tokens kept, float[P + V, width], each before its view."""

    def __init__(self, config: VisionTransformerConfig, patch_values: int) -> None:
        """patch_values: numbers in one frame of a patch, 3 x patch x patch."""
        super().__init__()
        self.config = config
        self.width = (config.neck or config.width) + config.early * config.width
        self.stem = PatchStem(patch_values, config.width, config.frames, bias=config.stem_bias)
        if config.stem_norm != "none":
            self.stem_norm = norm(config.norm, config.width, config.norm_eps)
        self.blocks = nn.ModuleList(Block(config, number) for number in range(config.depth))
        self.apply(initialise)
        self.stem.smooth()
        if config.class_token != "none":
            self.class_token = nn.Parameter(torch.empty(config.width).normal_(std=TABLE))
        if config.position_table:
            rows = config.position_table[0] * config.position_table[1] + (config.class_token != "none")
            self.position_table = nn.Parameter(torch.empty(rows, config.width).normal_(std=TABLE))
        if config.final_norm:
            self.final_norm = norm(config.norm, config.width, config.norm_eps)
        if config.neck:
            self.neck = Neck(config.width, config.neck, config.norm_eps)
        if config.pooling != "none":
            self.pool = ClassPooling(config) if config.pooling == "class" else AttentionPooling(config)

    def compilable(self) -> list[nn.Module]:
        """What `training.compiling` may compile."""
        blocks = [block for block in self.blocks if isinstance(block, Block)]
        return [piece for block in blocks for piece in (block.attention_norm, block.mlp_norm, block.mlp)]

    def shardable(self) -> list[nn.Module]:
        """What `training.parallel` may shard piece by piece: modules whose weights nobody reads but their call."""
        return list(self.blocks)

    def forward(self, stream: MediaStream) -> Tensor:
        """Features of every patch, and of every class token where they are kept."""
        depth = len(self.blocks) + 1 + self.config.layer
        x, segments = self._embedded(stream)
        # A model that is cut short to be measured may have no full block.
        first = min(min(self.config.full_blocks) + 1, depth) if self.config.early else 0
        early = self._through(x, stream, segments, range(first))
        x = self._normed(self._through(early, stream, segments, range(first, depth)))
        if self.config.neck:
            x = self.neck(x, Planes(stream.positions, stream.segments))
        if self.config.early:
            x = torch.cat([x, early], 1)
        if self.config.class_token == "dropped":
            x = x[_patch_indices(stream.segments, x.device)]
        return x

    def pooled(self, stream: MediaStream) -> tuple[Tensor, Tensor]:
        """One vector of every view, float[V, width], and its image in the space where pictures and texts meet."""
        summary: tuple[Tensor, Tensor] = self.pool(*self._run(stream, len(self.blocks)))
        return summary

    def _run(self, stream: MediaStream, depth: int) -> tuple[Tensor, Segments]:
        """The stream after `depth` blocks, and its segments, which count class tokens in."""
        x, segments = self._embedded(stream)
        return self._normed(self._through(x, stream, segments, range(depth))), segments

    def _normed(self, x: Tensor) -> Tensor:
        return self.final_norm(x) if self.config.final_norm else x

    def _through(self, x: Tensor, stream: MediaStream, views_: Segments, numbers: range) -> Tensor:
        """Some blocks. views_: segments of the views, which count class tokens in."""
        if self.config.relative:
            sides = {sides_of(self.config, number) for number in numbers}
            windows_of = {(rows, columns): filled(stream.positions, views_, rows, columns) for rows, columns in sides}
            table = self.config.position_table
            assert all(shape == table for shape in shapes(stream.positions, views_)), f"views must be {table} patches"
            for number in numbers:
                x = self.blocks[number](x, None, views_, windows_of[sides_of(self.config, number)])
            return x
        rope = self._rope(stream.positions, x.dtype)
        order, windows = None, views_
        if self.config.window:
            order, windows = windowed(stream.positions, views_, self.config.window)
            x, rope = x[order], rope and (rope[0][order], rope[1][order])
        for number in numbers:
            x = self.blocks[number](x, rope, views_ if number in self.config.full_blocks else windows)
        return x if order is None else torch.empty_like(x).index_copy(0, order, x)

    def _embedded(self, stream: MediaStream) -> tuple[Tensor, Segments]:
        """What enters the first block."""
        config, segments = self.config, stream.segments
        x: Tensor = self.stem(stream.values)
        if config.stem_norm == "stem":
            x = self.stem_norm(x)
        if config.absolute == "sinusoidal":
            x = x + sinusoidal(stream.positions, self.width).to(x.dtype)
        if config.position_table:
            table = self.position_table[-config.position_table[0] * config.position_table[1] :]
            x = x + from_table(table, config.position_table, stream.positions, segments)
        if config.class_token != "none":
            x, segments = self._with_class_tokens(x, segments)
        if config.stem_norm == "embeddings":
            x = self.stem_norm(x)
        return x, segments

    def _with_class_tokens(self, x: Tensor, segments: Segments) -> tuple[Tensor, Segments]:
        """A token before each view, float[P, width] to float[P + V, width]."""
        token = self.class_token + self.position_table[0] if self.config.position_table else self.class_token
        longer = Segments(tuple(length + 1 for length in segments.lengths))
        whole = token.to(x.dtype).expand(longer.total, -1)
        return whole.index_copy(0, _patch_indices(segments, x.device), x), longer

    def _rope(self, positions: Tensor, dtype: torch.dtype) -> Rope | None:
        if self.config.rope == "none":
            return None
        head_width, shared = self.width // self.config.heads, self.config.rope == "shared"
        cos, sin = axial_angles(positions, head_width, self.config.rope_theta, shared=shared)
        return cos.to(dtype), sin.to(dtype)


class Block(nn.Module):
    """Attention within each segment, then an MLP; both normed before, perhaps scaled, and added to the stream."""

    def __init__(self, config: VisionTransformerConfig, number: int = 0) -> None:
        """number: of the block, from 0."""
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.attention_norm = norm(config.norm, width, config.norm_eps)
        self.query_key_value = nn.Linear(width, 3 * width, bias=config.qkv_bias)
        self.attention_out = nn.Linear(width, width, bias=config.bias)
        self.mlp_norm = norm(config.norm, width, config.norm_eps)
        mlp = GatedMLP if config.mlp == "gated" else PlainMLP
        self.mlp = mlp(width, config.mlp_width, config.activation, bias=config.bias)
        self.query_norm, self.key_norm = (
            nn.RMSNorm(width, eps=config.norm_eps) if config.query_key_norm else nn.Identity() for _ in range(2)
        )
        self.scaled = config.layer_scale is not None
        if config.layer_scale is not None:
            self.attention_scale = nn.Parameter(torch.full((width,), config.layer_scale))
            self.mlp_scale = nn.Parameter(torch.full((width,), config.layer_scale))
        if config.relative:
            self.relative = RelativeAttention(*sides_of(config, number), width // config.heads)

    def forward(self, x: Tensor, rope: Rope | None, segments: Segments, windows: Filled | None = None) -> Tensor:
        """float[P, width] to the same. windows: with relative positions, what is seen, in the place of segments."""
        normed = self.attention_norm(x)
        branch = self._attend(normed, rope, segments) if windows is None else self._attend_within(normed, windows)
        x = x + (branch * self.attention_scale if self.scaled else branch)
        branch = self.mlp(self.mlp_norm(x))
        out: Tensor = x + (branch * self.mlp_scale if self.scaled else branch)
        return out

    def _attend(self, x: Tensor, rope: Rope | None, segments: Segments) -> Tensor:
        query, key, value = self._heads(x)
        if rope is not None:
            query, key = rotate(query, *rope), rotate(key, *rope)
        mixed = packed_attention(query, key, value, segments, causal=False)
        out: Tensor = self.attention_out(mixed.transpose(0, 1).flatten(1))
        return out

    def _attend_within(self, x: Tensor, windows: Filled) -> Tensor:
        mixed = self.relative(*self._heads(windows.fill(x)), windows)
        out: Tensor = self.attention_out(mixed.transpose(0, 1).flatten(1)[windows.slots])
        return out

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each float[H, P, d]."""
        query, key, value = self.query_key_value(x).chunk(3, dim=1)
        query, key = self.query_norm(query), self.key_norm(key)
        query, key, value = (part.unflatten(1, (self.heads, -1)).transpose(0, 1) for part in (query, key, value))
        return query, key, value


def sides_of(config: VisionTransformerConfig, number: int) -> tuple[int, int]:
    """Rows and columns of what a block with relative positions sees at a time: of a window, or of a whole view."""
    assert config.position_table, "settings say that relative positions go with a table"
    if config.window is None or number in config.full_blocks:
        return config.position_table
    return config.window, config.window


def _patch_indices(segments: Segments, device: torch.device) -> Tensor:
    """int64[P]: where each patch stands once a class token stands before each view."""
    return torch.arange(segments.total, device=device) + views(segments, device) + 1


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """Random weights of a linear layer, and of a block what is particular to it; for `nn.Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=module.in_features**-0.5)
        if module.bias is not None:
            module.bias.zero_()
    if isinstance(module, Block) and not module.scaled:
        # Blocks that begin by changing little learn letters in a third of the steps (docs/log.md).
        module.attention_out.weight *= BRANCH
        module.mlp.down.weight *= BRANCH


class PatchStem(nn.Linear):
    """float[P, 3 * frames * patch * patch] (channel, frame, row, column) to float[P, width].

    A patch of a still picture may come with a single frame: it counts as `frames` equal ones.
    """

    def __init__(self, values: int, width: int, frames: int, *, bias: bool) -> None:
        """values: numbers in one frame of a patch, 3 x patch x patch."""
        super().__init__(frames * values, width, bias)
        self.frames = frames

    def forward(self, patches: Tensor) -> Tensor:
        """Patches of pictures or of frames, in the weights' number format or another."""
        patches = patches.to(self.weight.dtype)
        weight = self.weight
        if patches.shape[1] != self.in_features:
            assert patches.shape[1] * self.frames == self.in_features, (
                f"patches hold {patches.shape[1]} values, the stem takes {self.in_features} of {self.frames} frames"
            )
            # The same answer as for repeated frames, at a part of the cost.
            weight = weight.unflatten(1, (3, self.frames, -1)).sum(2).flatten(1)
        return linear(patches, weight, self.bias)

    @torch.no_grad()
    def smooth(self) -> None:
        """Fills the weights with blurred noise of one tint each, most of it without a mean; the bias with zeros.

        Filters of white noise answer anew to a letter that moved by one pixel, and all of them answer to the paper's
        colour; these do neither. One in ten keeps its mean, so that blank paper is still seen.
        """
        width, values = self.weight.shape
        patch, device = isqrt(values // (3 * self.frames)), self.weight.device
        offsets = torch.arange(patch, device=device, dtype=torch.float32)
        blur = torch.exp(-((offsets[:, None] - offsets) ** 2) / (2 * BLUR**2))
        filters = blur @ torch.randn(width, 1, patch, patch, device=device) @ blur
        most = slice(width // 10, None)
        filters[most] -= filters[most].mean((2, 3), keepdim=True)
        tint = torch.ones(width, 3, 1, 1, device=device)
        tint[-(width // 10) :] = torch.randn(width // 10, 3, 1, 1, device=device) if width >= 10 else 1.0
        filters = (filters * tint).flatten(1)
        filters = filters / filters.norm(dim=1, keepdim=True)
        if self.frames > 1:
            filters = filters.unflatten(1, (3, 1, -1)).expand(-1, -1, self.frames, -1).flatten(1) / self.frames
        self.weight.copy_(filters)
        if self.bias is not None:
            self.bias.zero_()
