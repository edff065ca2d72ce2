"""The vision transformer against Pixtral's own code, and the projector's idea of which patches make a token."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PixtralVisionConfig, PixtralVisionModel
from transformers.models.pixtral.modeling_pixtral import PixtralAttentionLayer, PixtralVisionRotaryEmbedding

from vitrail.contracts.samples import MediaStream, Segments
from vitrail.media.native import patchify
from vitrail.models.config import MLPProjectorConfig, VisionTransformerConfig
from vitrail.models.encoders.vision_transformer import Block, VisionTransformer
from vitrail.models.ops.positions import axial_angles, rotate
from vitrail.models.projectors.mlp import MLPProjector

PATCH, WIDTH, HEADS, MLP = 4, 32, 2, 48
SIZES = [(16, 24), (8, 8), (32, 16)]


def pixtral() -> PixtralVisionConfig:
    return PixtralVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=MLP,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        patch_size=PATCH,
        image_size=64,
        hidden_act="silu",
        attn_implementation="eager",
    )


def stream_of(pictures: list[np.ndarray], merge: int) -> MediaStream:
    """Pictures, float32[h, w, 3], as the collator lays them."""
    patches, positions = zip(*(patchify(picture, PATCH, merge) for picture in pictures), strict=True)
    count = sum(map(len, patches))
    return MediaStream(
        values=torch.from_numpy(np.concatenate(patches)),
        positions=torch.from_numpy(np.concatenate(positions)),
        segments=Segments(tuple(map(len, patches))),
        token_index=torch.arange(count // merge**2),
    )


def pictures(seed: int = 0) -> list[np.ndarray]:
    chance = np.random.default_rng(seed)
    return [chance.standard_normal((*size, 3), dtype=np.float32) for size in SIZES]


@torch.no_grad()
def copy_block(ours: Block, theirs: PixtralAttentionLayer) -> None:
    attention, mlp = theirs.attention, theirs.feed_forward
    ours.query_key_value.weight.copy_(
        torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
    )
    ours.attention_out.weight.copy_(attention.o_proj.weight)
    ours.mlp.gate_up.weight.copy_(torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]))
    ours.mlp.down.weight.copy_(mlp.down_proj.weight)
    ours.attention_norm.weight.copy_(theirs.attention_norm.weight)
    ours.mlp_norm.weight.copy_(theirs.ffn_norm.weight)


@torch.no_grad()
def unlike_ones(module: torch.nn.Module) -> None:
    """Norms start as ones, and would hide that one was not copied."""
    for parameter in module.parameters():
        if parameter.ndim == 1:
            parameter.uniform_(0.5, 1.5)


def test_axial_angles_are_pixtrals() -> None:
    positions = torch.cartesian_prod(torch.arange(16), torch.arange(16))
    config = pixtral()
    width = WIDTH // HEADS
    cos, sin = axial_angles(positions, width, theta=config.rope_parameters["rope_theta"])
    theirs = PixtralVisionRotaryEmbedding(config)(torch.zeros(1, 256, width), positions)
    torch.testing.assert_close(cos, theirs[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(sin, theirs[1], rtol=0, atol=1e-6)


def test_rotation_makes_attention_relative() -> None:
    """A query and a key moved together meet as before; moved apart they do not."""
    chance = torch.Generator().manual_seed(0)
    query, key = torch.randn(16, generator=chance), torch.randn(16, generator=chance)

    def meet(of_query: tuple[int, int], of_key: tuple[int, int]) -> float:
        cos, sin = axial_angles(torch.tensor([of_query, of_key]), 16, 10_000.0)
        return float(rotate(query, cos[0], sin[0]) @ rotate(key, cos[1], sin[1]))

    assert meet((1, 2), (4, 3)) == pytest.approx(meet((11, 7), (14, 8)), abs=1e-4)
    assert meet((1, 2), (4, 3)) != pytest.approx(meet((1, 2), (4, 4)), abs=1e-2)
    assert meet((1, 2), (4, 3)) != pytest.approx(meet((1, 2), (5, 3)), abs=1e-2)


def test_the_block_is_pixtrals() -> None:
    torch.manual_seed(0)
    config = pixtral()
    theirs = PixtralAttentionLayer(config).eval()
    unlike_ones(theirs)
    ours = Block(VisionTransformerConfig(width=WIDTH, heads=HEADS, mlp_width=MLP))
    copy_block(ours, theirs)
    x = torch.randn(12, WIDTH)
    turn = axial_angles(torch.cartesian_prod(torch.arange(3), torch.arange(4)), WIDTH // HEADS, 10_000.0)
    reference = theirs(x[None], attention_mask=None, position_embeddings=turn)
    reference = reference[0] if isinstance(reference, tuple) else reference
    torch.testing.assert_close(ours(x, turn, Segments((12,))), reference[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("merge", [1, 2])
def test_the_encoder_is_pixtrals_on_pictures_of_mixed_sizes(merge: int) -> None:
    """Patches of one token lie together in our stream, which changes their order and nothing else."""
    torch.manual_seed(0)
    theirs = PixtralVisionModel(pixtral()).eval()
    unlike_ones(theirs)
    ours = VisionTransformer(VisionTransformerConfig(width=WIDTH, depth=2, heads=HEADS, mlp_width=MLP), 3 * PATCH**2)
    with torch.no_grad():
        ours.stem.weight.copy_(theirs.patch_conv.weight.flatten(1))
        ours.stem_norm.weight.copy_(theirs.ln_pre.weight)
    for mine, other in zip(ours.blocks, theirs.transformer.layers, strict=True):
        copy_block(mine, other)
    height, width = (max(side) for side in zip(*SIZES, strict=True))
    padded = torch.zeros(len(SIZES), 3, height, width)
    for number, picture in enumerate(pictures()):
        padded[number, :, : picture.shape[0], : picture.shape[1]] = torch.from_numpy(picture).permute(2, 0, 1)
    reference = theirs(pixel_values=padded, image_sizes=SIZES).last_hidden_state[0]
    stream = stream_of(pictures(), merge)
    start, order = 0, []
    for rows, columns in ((h // PATCH, w // PATCH) for h, w in SIZES):
        here = stream.positions[start : start + rows * columns]
        order.append(start + here[:, 0] * columns + here[:, 1])
        start += rows * columns
    torch.testing.assert_close(ours(stream), reference[torch.cat(order)], rtol=1e-5, atol=1e-5)


def test_a_picture_is_encoded_as_if_alone() -> None:
    torch.manual_seed(0)
    config = VisionTransformerConfig(width=WIDTH, depth=2, heads=HEADS, mlp_width=MLP, absolute="sinusoidal")
    encoder = VisionTransformer(config, 3 * PATCH**2)
    together = encoder(stream_of(pictures(), 2))
    alone = torch.cat([encoder(stream_of([picture], 2)) for picture in pictures()])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("absolute", ["none", "sinusoidal"])
def test_a_patch_is_felt_where_it_lies(absolute: str) -> None:
    """Two patches that change places change the features: a bag of patches would not notice."""
    torch.manual_seed(0)
    config = VisionTransformerConfig(width=WIDTH, depth=2, heads=HEADS, mlp_width=MLP, absolute=absolute)
    encoder = VisionTransformer(config, 3 * PATCH**2)
    stream = stream_of([pictures()[0]], 2)
    swapped = torch.arange(24)
    swapped[[0, 23]] = swapped[[23, 0]]
    moved = MediaStream(stream.values[swapped], stream.positions, stream.segments, stream.token_index)
    assert (encoder(moved)[swapped] - encoder(stream)).abs().max() > 1e-3


def test_a_token_sees_exactly_its_block_of_pixels() -> None:
    """Without attention (no blocks), a change in a 2 x 2 block of patches moves its token and no other."""
    torch.manual_seed(0)
    merge, picture = 2, pictures()[0]
    encoder = VisionTransformer(VisionTransformerConfig(width=WIDTH, depth=0, heads=HEADS), 3 * PATCH**2)
    projector = MLPProjector(MLPProjectorConfig(), WIDTH, 20, merge**2)

    def tokens(pixels: np.ndarray) -> Tensor:
        stream = stream_of([pixels], merge)
        return projector(encoder(stream), stream)

    before = tokens(picture)
    unit = PATCH * merge
    rows, columns = picture.shape[0] // unit, picture.shape[1] // unit
    assert before.shape == (rows * columns, 20)
    for row in range(rows):
        for column in range(columns):
            changed = picture.copy()
            changed[row * unit : (row + 1) * unit, column * unit : (column + 1) * unit] += 1.0
            differs = (tokens(changed) != before).any(dim=1)
            assert differs.nonzero().flatten().tolist() == [row * columns + column]


def test_patches_enter_a_token_row_by_row() -> None:
    """The order within the block is fixed: it decides which weights meet which patch."""
    torch.manual_seed(0)
    merge, (height, width) = 2, (4, 6)
    grid = torch.randn(height, width, WIDTH)
    projector = MLPProjector(MLPProjectorConfig(hidden=24), WIDTH, 20, merge**2)
    stream = stream_of([pictures()[0]], merge)
    ours = projector(grid[stream.positions[:, 0], stream.positions[:, 1]], stream)
    blocks = projector.norm(grid).unfold(0, merge, merge).unfold(1, merge, merge)  # rows, columns, WIDTH, 2, 2
    merged = blocks.permute(0, 1, 3, 4, 2).reshape(-1, merge**2 * WIDTH)
    reference = projector.second(projector.activation(projector.first(merged)))
    torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-5)
    assert projector.first.out_features == 24
