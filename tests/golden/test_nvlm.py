"""NVLM-D against its public code: hidden states, projector, logits in either order of tokens; tiles, pixels, tags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from picture_text import Tiles, outputs, settings
from round_trip import check_settings, check_tensors, written
from safetensors.torch import load_file

import vitrail
from vitrail.media.config import TilesConfig
from vitrail.media.rule import pixels as pixels_of
from vitrail.media.tiling import Tiling
from vitrail.prompts.config import PICTURES
from vitrail.systems import nvlm

SYSTEM = "nvlm_d_official"


def about(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    return content


@torch.inference_mode()
def test_every_output_is_the_references(case: Any) -> None:
    config, meta = settings(case), about(case.folder)
    patch, merge = config["vision_config"]["patch_size"], round(1 / config["downsample_ratio"])
    tiles = Tiles(case, meta["ids"]["vision_pad"], meta["tokens_per_tile"], patch, merge)
    model: Any = vitrail.load(case.folder, device="cpu").model
    for version in ("v1", "v2"):
        model.projector.by_columns = version == "v1"
        found = outputs(model, tiles)
        case.compare(f"projected_{version}", found["image_embeds"], kind="projected")
        case.compare(f"logits_{version}", found["logits"], kind="logits")
    case.compare("vision_embeddings", found["vision_hidden.0"], kind="vision_features")
    for number in range(len(model.encoder.blocks)):
        case.compare(f"vision_block_{number}", found[f"vision_hidden.{number + 1}"], kind="vision_features")
    case.nothing_is_left()


def rule_of(row: dict[str, Any], side: int) -> Tiling:
    return Tiling(TilesConfig(tile=side, max_tiles=row["max_num"], tags="number"))


def test_tiles_are_the_references(golden: Path) -> None:
    table = json.loads((golden / "preprocess_tiles.json").read_text(encoding="utf-8"))
    for row in table["cases"]:
        rule = rule_of(row, table["image_size"])
        views = rule.views(row["width"], row["height"])
        assert list(rule.grid(row["width"], row["height"])) == row["grid_cols_rows"], row
        found = (len(views), sum(view.tokens for view in views))
        assert found == (row["tiles_with_thumbnail"], row["image_tokens"]), row


def test_pixels_are_the_references(golden: Path) -> None:
    tensors, most = load_file(golden / "preprocess_pixels.safetensors"), settings_of(golden)["max_dynamic_patch"]
    for name in [name for name in tensors if name.startswith("image_")]:
        picture, expected = tensors[name].numpy(), tensors[name.replace("image", "pixel_values")].numpy()
        rule = Tiling(TilesConfig(patch=expected.shape[-1], merge=1, tile=expected.shape[-1], max_tiles=most))
        found = np.stack(pixels_of(rule, picture, rule.views(picture.shape[1], picture.shape[0])))
        assert np.abs(found.transpose(0, 3, 1, 2) - expected).max() <= 1e-6


def settings_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return content


def test_tags_are_the_references(golden: Path) -> None:
    """In the order of the tiles; a picture of one tile has the thumbnail's alone."""
    prompts = json.loads((golden / "prompts.json").read_text(encoding="utf-8"))
    for name, tags in prompts["tile_tags"].items():
        most = int(name.removeprefix("max_tiles_"))
        rule = Tiling(TilesConfig(max_tiles=most, tags="number"))
        assert [view.tag for view in rule.views(448 * most, 448)] == tags
        assert [view.tag for view in rule.views(448, 448)] == tags[-1:]
    for row in prompts["image_replacements"]:
        tiles = row["num_tiles_with_thumbnail"]
        views = Tiling(TilesConfig(tags="number", max_tiles=6)).views(448 * max(1, tiles - 1), 448)
        text = "".join(view.tag + PICTURES["nvlm"].token * row["tokens_per_tile"] for view in views)
        assert PICTURES["nvlm"].label + text + PICTURES["nvlm"].after == row["text"]


class Names:
    """As much of a tokenizer as a description asks for: the fixtures have none."""

    def special(self, name: str) -> int:
        return {PICTURES["nvlm"].token: 0, "<|im_end|>": 2}[name]


def test_what_is_written_is_bit_for_bit_what_was_read_and_means_the_same(golden: Path, tmp_path: Path) -> None:
    out = written(nvlm, golden, tmp_path / "out", Names())
    check_tensors(golden, out)
    check_settings(nvlm, golden, out)
