"""Pictures and videos of a Qwen2-VL case through encoder and merger alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from towers import Hidden

from vitrail.contracts.samples import MediaStream, Segments
from vitrail.models.encoders.vision_transformer import VisionTransformer
from vitrail.models.projectors.mlp import MLPProjector
from vitrail.models.weights import fill, load_tensors
from vitrail.systems.encoders import qwen_vit


def open_tower(folder: Any, config: dict[str, Any]) -> tuple[VisionTransformer, MLPProjector]:
    """Encoder and merger of a folder."""
    windowed = config["model_type"] == "qwen2_5_vl"
    vision = {**(qwen_vit.VISION_2_5 if windowed else qwen_vit.VISION_2), **config["vision_config"]}
    assert qwen_vit.unknown(vision) == []
    settings = (qwen_vit.encoder_2_5 if windowed else qwen_vit.encoder_2)(vision)
    patch, merge = vision["patch_size"], vision["spatial_merge_size"]
    encoder = VisionTransformer(settings, 3 * patch**2)
    width = vision["out_hidden_size" if windowed else "hidden_size"]
    projector = MLPProjector(qwen_vit.merger(settings, merge), settings.width, width, merge**2)
    ours = {
        **{f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()},
        **{f"projector.{name}": tensor for name, tensor in projector.state_dict().items()},
    }
    path = folder / "model.safetensors"
    official = {name: tensor for name, tensor in load_tensors(path).items() if name.startswith(qwen_vit.TOWER)}
    made = {}
    for name in ours:
        place = qwen_vit.key_map(name, settings, patch)
        made[name] = place.join([official[part] for part in place.names])
        for part, piece in zip(place.names, place.split(made[name]), strict=True):
            assert torch.equal(piece, official.pop(part)), f"{part} does not come back as it was"
    assert not official, f"left over: {sorted(official)}"
    fill(ours, made, path)
    return encoder, projector


def stream_of(patches: Tensor, grids: Tensor, merge: int) -> MediaStream:
    """Patches that lie in merge order already. grids: int64[N, 3], times, rows and columns; each time is a view."""
    positions, lengths = [], []
    for times, rows, columns in grids.tolist():
        grid = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), dim=-1)
        blocks = grid.unflatten(0, (-1, merge)).unflatten(2, (-1, merge)).transpose(1, 2)
        positions += [blocks.reshape(-1, 2)] * times
        lengths += [rows * columns] * times
    index = torch.arange(sum(lengths) // merge**2)
    return MediaStream(patches, torch.cat(positions), Segments(tuple(lengths)), index)


def check(case: Any, config: dict[str, Any]) -> None:
    """Every output of the vision tower that the case has."""
    encoder, projector = open_tower(case.folder, config)
    merge = config["vision_config"]["spatial_merge_size"]
    hidden = Hidden(encoder)
    for given, grid, start, name in (
        ("pixel_values", "image_grid_thw", "", "image_embeds"),
        ("pixel_values_videos", "video_grid_thw", "video_", "video_embeds"),
    ):
        if given not in case.inputs:
            continue
        vision = stream_of(case.inputs[given], case.inputs[grid], merge)
        features = encoder(vision)
        case.compare(f"{start}vision_last_hidden", features)
        if not start:
            for number, state in enumerate(hidden.states):
                case.compare(f"vision_hidden.{number}", state)
            case.compare("vision_rope_pos", vision.positions)
        counts = (case.inputs[grid].prod(1) // merge**2).tolist()
        for number, one in enumerate(projector(features, vision).split(counts)):
            case.compare(f"{name}.{number}", one)
    vision_outputs = {name for name in case.outputs if "vision" in name or "embeds" in name}
    assert vision_outputs <= case.differences.keys(), vision_outputs - case.differences.keys()
