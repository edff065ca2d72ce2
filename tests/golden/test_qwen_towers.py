"""The vision towers of Qwen2-VL and Qwen2.5-VL against transformers: pictures, videos, windows; and back."""

from __future__ import annotations

from typing import Any

import torch
from picture_text import settings
from qwen_towers import check, open_tower, stream_of

SYSTEMS = ("qwen2_vl", "qwen2_5_vl")


@torch.inference_mode()
def test_every_output_of_the_tower_is_the_references(case: Any) -> None:
    check(case, settings(case))


@torch.inference_mode()
def test_a_picture_is_two_equal_frames(case: Any) -> None:
    """Of patches that hold one frame twice, one frame alone gives the same features."""
    if "pixel_values" not in case.inputs:
        return
    config = settings(case)
    encoder, _ = open_tower(case.folder, config)
    frames, merge = encoder.config.frames, config["vision_config"]["spatial_merge_size"]
    patches = case.inputs["pixel_values"].unflatten(1, (3, frames, -1))[:, :, :1]
    grids = case.inputs["image_grid_thw"]
    once = encoder(stream_of(patches.flatten(1), grids, merge))
    repeated = encoder(stream_of(patches.expand(-1, -1, frames, -1).flatten(1), grids, merge))
    torch.testing.assert_close(once, repeated, rtol=1e-4, atol=1e-5)
