"""InternVL 1.5 against its own code: hidden states, pixel shuffle, projector, logits; tiles, pixels; the way back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from picture_text import Tiles, outputs, settings
from round_trip import check_settings, check_tensors, written
from safetensors.torch import load_file
from towers import in_reading_order, stream_of

import vitrail
from vitrail.contracts.samples import Segments
from vitrail.media.config import TilesConfig
from vitrail.media.rule import pixels as pixels_of
from vitrail.media.tiling import Tiling
from vitrail.models.projectors.mlp import MLPProjector
from vitrail.prompts.config import PICTURES
from vitrail.systems import internvl_1_5

SYSTEM = "internvl_1_5_official"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def about(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    return content


def open_(folder: Path, order: str = "rows") -> Any:
    """The model, with either order of a tile's tokens."""
    model = vitrail.load(folder, device="cpu").model
    assert isinstance(model.projector, MLPProjector)
    model.projector.by_columns = order == "columns"
    return model


@torch.inference_mode()
def test_every_output_is_the_references(case: Any) -> None:
    if case.name not in ("case_text", "case_interp"):
        check_pictures(case)
    elif case.name == "case_text":
        check_text(case)
    else:
        check_other_size(case)
    case.nothing_is_left()


def reader(case: Any) -> Tiles:
    config, meta = settings(case), about(case.folder)
    patch, merge = config["vision_config"]["patch_size"], round(1 / config["downsample_ratio"])
    return Tiles(case, meta["ids"]["img_context"], meta["num_image_token"], patch, merge)


def check_pictures(case: Any) -> None:
    tiles = reader(case)
    for version, order in (("v1", "columns"), ("v2", "rows")):
        found = outputs(open_(case.folder, order), tiles)
        case.compare(f"projected_{version}", found["image_embeds"], kind="projected")
        if version == settings(case)["ps_version"]:
            case.compare("logits", found["logits"], tiles.real, kind="logits")
    for name in [name for name in case.outputs if name.startswith("vision_hidden_")]:
        case.compare(name, found[name.replace("hidden_", "hidden.")], kind="vision_features")
    if "pixel_shuffle_v2" in case.outputs:
        shape = case.outputs["pixel_shuffle_v2"].shape
        case.compare("pixel_shuffle_v2", found["shuffled"].reshape(shape), kind="vision_features")


def check_text(case: Any) -> None:
    """Also shortened: the base of the rotary positions may depend on the length."""
    tiles, model = reader(case), open_(case.folder)
    found = outputs(model, tiles)
    for name in [name for name in case.outputs if name.startswith("hidden_")]:
        case.compare(name, found[f"llm_{name.replace('_', '.')}"], kind="logits")
    case.compare("logits", found["logits"], kind="logits")
    for name in [name for name in case.outputs if name.startswith("logits_first")]:
        count = int(name.removeprefix("logits_first"))
        tiles.ids, tiles.real, tiles.labels = (part[:, :count] for part in (tiles.ids, tiles.real, tiles.labels))
        case.compare(name, outputs(model, tiles)["logits"], kind="logits")


def check_other_size(case: Any) -> None:
    """Positions of a tile larger than those of training."""
    model, config = open_(case.folder), settings(case)
    patch, merge = config["vision_config"]["patch_size"], round(1 / config["downsample_ratio"])
    vision = stream_of(case.inputs["pixel_values"], patch, merge)
    entered, segments = model.encoder._embedded(vision)
    assert segments == Segments(tuple(length + 1 for length in vision.segments.lengths))
    case.compare("embeddings", in_reading_order(entered, vision, classes=True), kind="vision_features")
    last = model.encoder._run(vision, len(model.encoder.blocks))[0]
    case.compare("vision_last", in_reading_order(last, vision, classes=True), kind="vision_features")
    projected = model.projector(model.encoder(vision), vision)[None]
    case.compare("projected_v2", projected, kind="projected")


def test_tiles_are_the_references(golden: Path) -> None:
    table = json.loads((golden / "preprocess_tiles.json").read_text(encoding="utf-8"))
    for row in table["cases"]:
        rule = Tiling(
            TilesConfig(
                tile=table["image_size"],
                min_tiles=row["min_num"],
                max_tiles=row["max_num"],
                thumbnail=row["use_thumbnail"],
            )
        )
        views = rule.views(row["width"], row["height"])
        assert list(rule.grid(row["width"], row["height"])) == row["grid_cols_rows"], row
        assert (len(views), sum(view.tokens for view in views)) == (row["tiles"], row["image_tokens"]), row


def test_pixels_are_the_references(golden: Path) -> None:
    """Resized, cut, normalised, the thumbnail last."""
    tensors = load_file(golden / "preprocess_pixels.safetensors")
    for name in [name for name in tensors if name.startswith("image_")]:
        number, picture = name.removeprefix("image_"), tensors[name].numpy()
        expected = tensors[f"pixel_values_{number}"].numpy()
        most = int(tensors[f"max_num_{number}"])
        rule = Tiling(TilesConfig(patch=expected.shape[-1], merge=1, tile=expected.shape[-1], max_tiles=most))
        found = np.stack(pixels_of(rule, picture, rule.views(picture.shape[1], picture.shape[0])))
        assert np.abs(found.transpose(0, 3, 1, 2) - expected).max() <= 1e-6


class Names:
    """As much of a tokenizer as a description asks for: the fixtures have none."""

    def __init__(self, golden: Path) -> None:
        self.ids = {PICTURES["internvl"].token: about(golden)["ids"]["img_context"], "<|im_end|>": 2}

    def special(self, name: str) -> int:
        return self.ids[name]


def test_what_is_written_is_bit_for_bit_what_was_read_and_means_the_same(golden: Path, tmp_path: Path) -> None:
    out = written(internvl_1_5, golden, tmp_path / "out", Names(golden))
    check_tensors(golden, out)
    check_settings(internvl_1_5, golden, out)


@torch.inference_mode()
def test_rows_and_columns_of_a_tile_are_told_apart(case: Any) -> None:
    if "projected_v2" not in case.outputs or "projected_v1" not in case.outputs:
        pytest.skip("one order alone is in this case")
    found = outputs(open_(case.folder, "columns"), reader(case))
    with pytest.raises(AssertionError, match="off by"):
        case.compare("projected_v2", found["image_embeds"], kind="projected")
