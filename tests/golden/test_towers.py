"""Vision towers of systems whose other parts are not read yet: hidden states, features, and back bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from picture_text import settings
from torch import Tensor
from towers import Hidden, in_reading_order, stream_of

from vitrail.contracts.samples import MediaStream, Segments
from vitrail.models.config import MLPProjectorConfig, VisionTransformerConfig
from vitrail.models.encoders.vision_transformer import VisionTransformer
from vitrail.models.projectors.mlp import MLPProjector
from vitrail.models.weights import fill, load_tensors
from vitrail.systems.encoders import eva_vit, moon_vit, openclip_vit, presets
from vitrail.systems.system import KeyMap

TOWERS = ("minigpt4_official", "qwen_vl_official", "kimi_vl_official")


def opened(
    case: Any, config: VisionTransformerConfig, patch: int, prefix: str, place: Callable[[str], KeyMap], rest: Any
) -> VisionTransformer:
    """The encoder with the weights of a folder. rest: starts of names under the prefix that are no encoder's."""
    path = case.folder / "model.safetensors"
    official = {
        name.removeprefix(prefix): tensor
        for name, tensor in load_tensors(path).items()
        if name.startswith(prefix) and not name.removeprefix(prefix).startswith(rest)
    }
    encoder = VisionTransformer(config, 3 * patch**2).eval()
    made = {}
    for name in encoder.state_dict():
        kept = place(name)
        made[name] = kept.join([official[part] for part in kept.names])
        for part, piece in zip(kept.names, kept.split(made[name]), strict=True):
            assert torch.equal(piece, official.pop(part)), f"{part} does not come back as it was"
    assert not official, f"left over: {sorted(official)}"
    fill(encoder.state_dict(), made, path)
    return encoder


@torch.inference_mode()
def test_every_output_of_the_tower_is_the_references(case: Any) -> None:
    if "pixel_values" in case.inputs:
        system = settings(case)
        {"minigpt4": check_eva, "qwen": check_openclip, "kimi_vl": check_moon}[
            system.get("model_type") or system["arch"]
        ](case, system)
        assert case.differences


def check_eva(case: Any, system: dict[str, Any]) -> None:
    vit = system["vit"]
    patch, side = vit["patch_size"], vit["img_size"] // vit["patch_size"]
    config = replace(
        presets.eva_clip_g(),
        width=vit["embed_dim"],
        depth=vit["depth"],
        heads=vit["num_heads"],
        mlp_width=int(vit["embed_dim"] * vit["mlp_ratio"]),
        position_table=(side, side),
    )
    encoder = opened(case, config, patch, "visual_encoder.", lambda name: eva_vit.key_map(name, patch), ())
    vision = stream_of(case.inputs["pixel_values"], patch)
    case.compare("vision", in_reading_order(encoder(vision), vision, classes=True), kind="vision_features")


def check_openclip(case: Any, system: dict[str, Any]) -> None:
    visual = system["visual"]
    patch, heads = visual["patch_size"], visual["heads"]
    config = replace(
        presets.openclip_big_g(),
        width=visual["width"],
        depth=visual["layers"],
        heads=heads,
        mlp_width=int(visual["width"] * visual["mlp_ratio"]),
    )
    rest = ("attn_pool.", "ln_post.", "proj")
    encoder = opened(
        case, config, patch, "transformer.visual.", lambda name: openclip_vit.key_map(name, patch, heads), rest
    )
    vision, hidden = stream_of(case.inputs["pixel_values"], patch), Hidden(encoder)
    encoder(vision)
    names = ["vision_ln_pre", *(f"vision_block_{number}" for number in range(config.depth))]
    for name, state in zip(names, hidden.states, strict=True):
        case.compare(name, in_reading_order(state, vision, classes=False), kind="vision_features")


def check_moon(case: Any, system: dict[str, Any]) -> None:
    visual = system["vision_config"]
    patch, heads, merge = visual["patch_size"], visual["num_attention_heads"], visual["merge_kernel_size"][0]
    table = visual["init_pos_emb_height"], visual["init_pos_emb_width"]
    config = replace(
        presets.moon_vit(),
        width=visual["hidden_size"],
        depth=visual["num_hidden_layers"],
        heads=heads,
        mlp_width=visual["intermediate_size"],
        position_table=table,
    )
    encoder = opened(case, config, patch, "vision_tower.", lambda name: moon_vit.key_map(name, patch, heads, table), ())
    grids = case.inputs["image_grid_hws"].tolist()
    vision = in_rows(case.inputs["pixel_values"].flatten(1), grids)
    hidden, features = Hidden(encoder), encoder(vision)
    names = ["patch_embed_plus_pos", *(f"vision_block_{number}" for number in range(config.depth))]
    for name, state in zip(names, hidden.states, strict=True):
        case.compare(name, state, kind="vision_features")
    case.compare("vision_final_layernorm", features, kind="vision_features")
    projector = opened_projector(case, config.width, system["text_config"]["hidden_size"], merge)
    for number, (one, (rows, columns)) in enumerate(zip(features.split(vision.segments.lengths), grids, strict=True)):
        blocks = one.unflatten(0, (rows // merge, merge, columns // merge, merge)).transpose(1, 2)
        case.compare(f"merged_{number}", blocks.reshape(-1, merge**2, config.width), kind="vision_features")
        case.compare(f"projected_{number}", projector(blocks.reshape(-1, config.width), vision), kind="projected")


def in_rows(patches: Tensor, grids: list[list[int]]) -> MediaStream:
    """Patches that lie row after row."""
    positions = [torch.cartesian_prod(torch.arange(rows), torch.arange(columns)) for rows, columns in grids]
    return MediaStream(patches, torch.cat(positions), Segments(tuple(map(len, positions))), torch.empty(0))


def opened_projector(case: Any, width: int, out: int, merge: int) -> MLPProjector:
    """Kimi-VL's: each patch is normed, then 2 x 2 of them go through two layers."""
    projector = MLPProjector(MLPProjectorConfig(hidden=width * merge**2, norm="layer"), width, out, merge**2)
    names = {"norm": "pre_norm", "first": "linear_1", "second": "linear_2"}
    official = load_tensors(case.folder / "model.safetensors")
    ours = projector.state_dict()
    made = {}
    for name in ours:
        module, kind = name.split(".")
        made[name] = official[f"multi_modal_projector.{names[module]}.{kind}"]
    fill(ours, made, case.folder)
    return projector
