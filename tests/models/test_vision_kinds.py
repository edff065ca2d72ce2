"""What vision transformers differ in: class tokens, learnt tables, windows, frames, layers, norms, pooling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vitrail.contracts.samples import MediaStream, Segments
from vitrail.media.native import patchify, patchify_frames
from vitrail.models.config import LinearProjectorConfig, MLPProjectorConfig, VisionTransformerConfig
from vitrail.models.encoders.vision_transformer import PatchStem, VisionTransformer
from vitrail.models.ops.attention import packed_attention
from vitrail.models.ops.positions import axial_angles, from_table, rotate
from vitrail.models.ops.windows import windowed
from vitrail.models.projectors.linear import LinearProjector
from vitrail.models.projectors.mlp import MLPProjector

PATCH, WIDTH = 2, 16
SIZES = [(8, 12), (4, 4), (16, 8), (4, 4)]
PLAIN = VisionTransformerConfig(width=WIDTH, depth=2, heads=2, mlp_width=24)
CLASSIC = replace(PLAIN, rope="none", norm="layer", mlp="plain", absolute="learnt", position_table=(3, 3), bias=True)
KINDS = {
    "pixtral": PLAIN,
    "sinusoidal": replace(PLAIN, absolute="sinusoidal"),
    "clip": replace(CLASSIC, class_token="dropped", stem_norm="embeddings", activation="quick_gelu"),
    "class token kept": replace(CLASSIC, class_token="kept", pooling="class", pooled_width=5),
    "siglip": replace(CLASSIC, stem_norm="none", final_norm=True, pooling="attention"),
    "internvit": replace(CLASSIC, class_token="dropped", norm="rms", query_key_norm=True, layer_scale=0.1),
    "qwen2": replace(PLAIN, rope="shared", norm="layer", mlp="plain", frames=2, qkv_bias=True),
    "qwen2.5": replace(PLAIN, rope="shared", window=4, full_blocks=(1,), frames=2),
    "second to last": replace(CLASSIC, layer=-2),
}


def pictures(sizes: list[tuple[int, int]] = SIZES, seed: int = 0) -> list[np.ndarray]:
    chance = np.random.default_rng(seed)
    return [chance.standard_normal((*size, 3), dtype=np.float32) for size in sizes]


def stream_of(some: list[np.ndarray], merge: int = 2) -> MediaStream:
    patches, positions = zip(*(patchify(one, PATCH, merge) for one in some), strict=True)
    count = sum(map(len, patches))
    return MediaStream(
        values=torch.from_numpy(np.concatenate(patches)),
        positions=torch.from_numpy(np.concatenate(positions)),
        segments=Segments(tuple(map(len, patches))),
        token_index=torch.arange(count // merge**2),
    )


def encoder_of(config: VisionTransformerConfig) -> VisionTransformer:
    torch.manual_seed(0)
    encoder = VisionTransformer(config, 3 * PATCH**2)
    for name, parameter in encoder.named_parameters():
        # Norms, scales and biases start alike, and would hide that one was left out.
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.3, 1.2) if "bias" not in name else torch.nn.init.normal_(parameter)
    return encoder


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_encoded_as_if_alone(kind: str) -> None:
    encoder = encoder_of(KINDS[kind])
    together = encoder(stream_of(pictures()))
    alone = torch.cat([encoder(stream_of([picture])) for picture in pictures()])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    if encoder.config.pooling != "none":
        pooled = encoder.pooled(stream_of(pictures()))
        apart = zip(*(encoder.pooled(stream_of([picture])) for picture in pictures()), strict=True)
        for found, expected in zip(pooled, apart, strict=True):
            torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-5)
            assert len(found) == len(SIZES)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_patches_changes_nothing_else(kind: str) -> None:
    """Places are read from positions: reading order and merge order give each patch the same features."""
    encoder = encoder_of(KINDS[kind])
    picture = pictures()[:1]
    merged, plain = stream_of(picture, 2), stream_of(picture, 1)
    first, second = encoder(merged), encoder(plain)
    extra = len(first) - len(merged.values)
    order = (merged.positions[:, 0] * (SIZES[0][1] // PATCH) + merged.positions[:, 1]).argsort()
    torch.testing.assert_close(first[extra:][order], second[extra:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first[:extra], second[:extra], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_that_is_used_learns(kind: str) -> None:
    encoder = encoder_of(KINDS[kind])
    features = encoder(stream_of(pictures()))
    (features * torch.randn(features.shape)).sum().backward()
    idle = {name for name, one in encoder.named_parameters() if one.grad is None or not one.grad.abs().max() > 0}
    expected = {name for name, _ in encoder.named_parameters() if name.startswith("pool.")}
    if kind == "second to last":
        expected = {name for name, _ in encoder.named_parameters() if name.startswith("blocks.1.")}
    assert idle == expected


@pytest.mark.parametrize("kind", KINDS)
def test_it_runs_in_half_precision(kind: str) -> None:
    encoder = encoder_of(KINDS[kind])
    whole = encoder(stream_of(pictures()))
    half = encoder.to(torch.bfloat16)(stream_of(pictures()))
    assert half.dtype == torch.bfloat16
    assert (half.float() - whole).norm() < 0.1 * whole.norm()


def test_names_of_the_first_encoder_stay() -> None:
    """Trained weights have them."""
    block = ("attention_norm", "query_key_value", "attention_out", "mlp_norm", "mlp.gate_up", "mlp.down")
    expected = ["stem.weight", "stem_norm.weight", *(f"blocks.{n}.{name}.weight" for n in range(2) for name in block)]
    assert sorted(VisionTransformer(PLAIN, 3 * PATCH**2).state_dict()) == sorted(expected)


def test_class_tokens_come_before_their_views_when_kept() -> None:
    kept, dropped = (encoder_of(replace(KINDS["clip"], class_token=choice)) for choice in ("kept", "dropped"))
    stream = stream_of(pictures())
    features, without = kept(stream), dropped(stream)
    assert len(features) == len(without) + len(SIZES)
    start = 0
    for view, alone in zip(
        features.split([n + 1 for n in stream.segments.lengths]), stream.segments.lengths, strict=True
    ):
        torch.testing.assert_close(view[1:], without[start : start + alone])
        start += alone


def test_a_layer_before_the_last_is_what_enters_the_last_block() -> None:
    encoder = encoder_of(KINDS["second to last"])
    entering: list[Tensor] = []
    whole = encoder_of(replace(KINDS["second to last"], layer=-1))
    whole.blocks[1].register_forward_pre_hook(lambda _module, inputs: entering.append(inputs[0]))
    whole(stream_of(pictures()))
    torch.testing.assert_close(encoder(stream_of(pictures())), entering[0])


def test_a_table_of_the_views_shape_is_taken_as_it_is() -> None:
    table = torch.arange(12.0)[:, None].expand(-1, 3)
    stream = stream_of(pictures([(3 * PATCH, 4 * PATCH)]), merge=1)
    assert torch.equal(from_table(table, (3, 4), stream.positions, stream.segments), table)


def test_a_table_is_resized_to_the_view_as_torch_does() -> None:
    table = torch.randn(12, 5)
    stream = stream_of(pictures([(8, 12), (4, 4), (8, 12)]), merge=2)
    found = from_table(table, (3, 4), stream.positions, stream.segments).split(stream.segments.lengths)
    plane = table.unflatten(0, (3, 4)).permute(2, 0, 1)[None]
    for one, positions in zip(found, stream.positions.split(stream.segments.lengths), strict=True):
        rows, columns = (positions.max(0).values + 1).tolist()
        resized = torch.nn.functional.interpolate(plane, (rows, columns), mode="bicubic", align_corners=False)[0]
        expected = resized[:, positions[:, 0], positions[:, 1]].T
        torch.testing.assert_close(one, expected)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5])
def test_windows_are_squares_of_the_grid(side: int) -> None:
    stream = stream_of(pictures())
    order, windows = windowed(stream.positions, stream.segments, side)
    assert sorted(order.tolist()) == list(range(len(order)))
    view = torch.arange(len(SIZES)).repeat_interleave(torch.tensor(stream.segments.lengths))
    # Views stay whole and where they are.
    assert torch.equal(view[order], view)
    named = torch.cat([view[:, None], stream.positions // side], dim=1)[order].split(windows.lengths)
    assert all((one == one[0]).all() for one in named)
    assert len({tuple(one[0].tolist()) for one in named}) == len(named)


def test_attention_within_windows_is_attention_with_a_mask() -> None:
    stream = stream_of(pictures([(12, 20)]))
    order, windows = windowed(stream.positions, stream.segments, 4)
    query, key, value = torch.randn(3, 2, len(order), 8)
    found = torch.empty_like(value).index_copy(
        1, order, packed_attention(query[:, order], key[:, order], value[:, order], windows, causal=False)
    )
    window = stream.positions // 4
    mask = (window[:, None] == window[None]).all(-1)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    torch.testing.assert_close(found, expected)


def test_shared_frequencies_are_even_ones_for_rows_and_columns() -> None:
    positions = torch.tensor([[3, 3], [1, 7]])
    cos, sin = axial_angles(positions, 16, 100.0, shared=True)
    torch.testing.assert_close(cos[0, :4], cos[0, 4:8])
    torch.testing.assert_close(sin[1, 8:], sin[1, :8])
    torch.testing.assert_close(cos[1, 5], torch.tensor(7 / 100 ** (4 / 16)).cos())


def test_moonvits_rotary_positions_are_ours_after_reordering_channels() -> None:
    """Its neighbouring channels turn together, columns first; see `systems/encoders/presets.py`."""
    width, theta = 16, 10_000.0
    positions, x = torch.randint(0, 9, (6, 2)), torch.randn(6, width)
    frequencies = 1.0 / theta ** (torch.arange(0, width, 4) / width)
    turns = positions[:, [1, 0], None] * frequencies
    angles = turns.transpose(1, 2).flatten(1)
    pairs = torch.view_as_complex(x.unflatten(1, (-1, 2)).contiguous())
    theirs = torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(1)
    order = torch.arange(width).unflatten(0, (-1, 2, 2)).permute(2, 1, 0).flip(1).flatten()
    ours = rotate(x[:, order], *axial_angles(positions, width, theta, shared=True))
    torch.testing.assert_close(ours, theirs[:, order])


def test_a_still_picture_is_as_many_equal_frames() -> None:
    torch.manual_seed(0)
    stem = PatchStem(3 * PATCH**2, WIDTH, frames=2, bias=True)
    (picture,) = pictures([(8, 12)])
    once, _ = patchify(picture, PATCH, 2)
    twice, _ = patchify_frames(np.stack([picture, picture]), PATCH, 2, 2)
    single, _ = patchify_frames(picture[None], PATCH, 2, 2)
    assert np.array_equal(twice, single)
    torch.testing.assert_close(stem(torch.from_numpy(once)), stem(torch.from_numpy(twice)), rtol=1e-4, atol=1e-5)


def test_a_convolution_over_frames_is_the_stem() -> None:
    torch.manual_seed(0)
    convolution = torch.nn.Conv3d(3, WIDTH, (2, PATCH, PATCH), stride=(2, PATCH, PATCH))
    stem = PatchStem(3 * PATCH**2, WIDTH, frames=2, bias=True)
    with torch.no_grad():
        stem.weight.copy_(convolution.weight.flatten(1))
        stem.bias.copy_(convolution.bias)
    frames = np.random.default_rng(0).standard_normal((4, 4, 6, 3), dtype=np.float32)
    patches, _ = patchify_frames(frames, PATCH, 1, 2)
    reference = convolution(torch.from_numpy(frames).permute(3, 0, 1, 2)[None])[0].flatten(1).T
    torch.testing.assert_close(stem(torch.from_numpy(patches)), reference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"width": 18, "heads": 3}, "times a multiple of 4"),
        ({"width": 17, "rope": "none"}, "times a whole number"),
        ({"absolute": "learnt"}, "position_table"),
        ({"position_table": (2, 2)}, "position_table"),
        ({"class_token": "kept"}, "no place on the grid"),
        ({"pooling": "class"}, "needs a class_token"),
        ({"layer": 0}, "from -3 to -1"),
        ({"layer": -4}, "from -3 to -1"),
        ({"window": 0}, "at least 1"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(PLAIN, **changes)


def test_columns_of_tokens_come_first_where_asked() -> None:
    """Of views of several shapes; patches lie in merge order, tokens are 2 x 2 of them."""
    stream = stream_of(pictures([(16, 8), (8, 24)]))
    rows, columns = (
        MLPProjector(MLPProjectorConfig(order=order), WIDTH, 12, 4)  # type: ignore[arg-type]
        for order in ("rows", "columns")
    )
    columns.load_state_dict(rows.state_dict())
    features = torch.randn(len(stream.values), WIDTH)
    found, first = columns(features, stream).split([8, 12]), rows(features, stream).split([8, 12])
    for one, plain, shape in zip(found, first, [(4, 2), (2, 6)], strict=True):
        torch.testing.assert_close(one, plain.unflatten(0, shape).transpose(0, 1).flatten(0, 1))


@pytest.mark.parametrize("norm", ["rms", "layer", "none"])
def test_the_norm_stands_before_or_after_patches_merge(norm: Any) -> None:
    stream = stream_of(pictures())
    features = torch.randn(len(stream.values), WIDTH)
    for where, normed in (("patches", WIDTH), ("merged", 4 * WIDTH)):
        projector = MLPProjector(MLPProjectorConfig(norm=norm, norm_at=where, bias=False), WIDTH, 12, 4)  # type: ignore[arg-type]
        assert projector.first.bias is None
        made = {
            "rms": torch.nn.RMSNorm(normed, eps=1e-5),
            "layer": torch.nn.LayerNorm(normed),
            "none": torch.nn.Identity(),
        }
        before = made[norm](features.reshape(-1, normed)).reshape(-1, 4 * WIDTH)
        expected = projector.second(torch.nn.functional.gelu(projector.first(before)))
        torch.testing.assert_close(projector(features, stream), expected)


def test_the_linear_projector_is_one_product() -> None:
    stream = stream_of(pictures())
    projector = LinearProjector(LinearProjectorConfig(), WIDTH, 12, 4)
    features = torch.randn(len(stream.values), WIDTH)
    tokens = projector(features, stream)
    assert tokens.shape == (len(stream.token_index), 12)
    torch.testing.assert_close(tokens, projector.linear(features.unflatten(0, (-1, 4)).flatten(1)))
