"""DeepSeek-VL against its own code: SAM's blocks, both features, the adaptor, logits; squares, pixels; the way back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deepseek import TwoSizes, of_sam
from picture_text import Tiles, outputs, settings
from round_trip import check_settings, written
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import interpolate

import vitrail
from vitrail.media.config import PaddedConfig
from vitrail.media.padded import Padded
from vitrail.media.rule import pixels as pixels_of
from vitrail.prompts.config import PICTURES
from vitrail.systems import deepseek_vl_official, internvl_1_5

SYSTEMS = ("deepseek_vl_official", "deepseek_vl_siglip_official")


def read(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return content


def as_normalised(pictures: Tensor, tower: dict[str, Any]) -> Tensor:
    mean, std = (torch.tensor(tower[name])[:, None, None] for name in ("pixel_mean", "pixel_std"))
    return (pictures - mean) / std


def reader(case: Any) -> Tiles:
    """In the hybrid's cases pictures are whole, from 0 to 1: its tower shrinks and normalises them."""
    config = settings(case)
    params, tables = config["vision_config"]["params"], config["model_tables"]
    picture, tokens = config["image_token_id_in_cases"], config["num_image_tokens"]
    whole = case.inputs["pixel_values"].flatten(0, 1)
    if "low_res_cfg" not in params:
        case.inputs["pixel_values"] = whole
        return Tiles(case, picture, tokens, tables[params["model_name"]]["patch_size"], 1)
    low, high = params["low_res_cfg"], params["high_res_cfg"]
    small = interpolate(whole, (low["image_size"],) * 2, mode="bilinear", align_corners=False, antialias=True)
    case.compare("low_res_images", small, kind="vision_features")
    case.inputs["pixel_values"] = as_normalised(small, low)
    patches = tables[low["model_name"]]["patch_size"], tables[high["model_name"]]["patch_size"]
    return TwoSizes(case, picture, tokens, patches[0], as_normalised(whole, high), patches[1])


@torch.inference_mode()
def test_every_output_is_the_references(case: Any) -> None:
    model, tiles = vitrail.load(case.folder, device="cpu").model, reader(case)
    batch = tiles.batch(tiles.rows)
    assert torch.equal(batch.text.ids.eq(tiles.picture_id), case.outputs.pop("images_seq_mask")[0])
    if "high" in batch.media:
        sam = of_sam(model, batch)
        for name in [name for name in case.outputs if name.startswith("sam_block_")]:
            state = sam[f"hidden.{int(name.removeprefix('sam_block_')) + 1}"]
            case.compare(name, state.reshape(case.outputs[name].shape), kind="vision_features")
        case.compare("high_features", sam["features"], kind="vision_features")
    found = outputs(model, tiles)
    for name in ("low_features", "features"):
        case.compare(name, found["vision_last"], kind="vision_features")
    case.compare("projected", found["image_embeds"], kind="projected")
    case.compare("inputs_embeds", found["llm_hidden.0"], kind="projected")
    case.compare("logits", found["logits"], kind="logits")
    case.nothing_is_left()


def rule_of(folder: Path, **changes: Any) -> Padded:
    """Squares as the processor of the folder makes them; its own values are without a mean where the tower has one."""
    about = read(folder, "preprocess_sizes.json")["preprocessor_config"]
    values = {"mean": tuple(about["image_mean"]), "std": tuple(about["image_std"])}
    config = PaddedConfig(patch=1, side=about["image_size"], sides="down", least=about["min_size"], **values)
    config = replace(config, **changes)
    if not about["do_normalize"]:
        config = replace(config, background=config.colour, mean=(0.0,) * 3, std=(1.0,) * 3)
    return Padded(config)


def test_squares_are_the_references(golden: Path) -> None:
    about = read(golden, "preprocess_sizes.json")
    rule = rule_of(golden)
    assert rule.config.colour == tuple(about["background_color"])
    for row in about["cases"]:
        width, height = rule.inner(row["width"], row["height"])
        assert [height, width] == row["resized_hw"], row
        assert [rule.config.side] * 2 == row["padded_hw"], row


def test_pixels_are_the_references(golden: Path) -> None:
    tensors = load_file(golden / "preprocess_pixels.safetensors")
    for name in [name for name in tensors if name.startswith("image_")]:
        picture, expected = tensors[name].numpy(), tensors[name.replace("image", "pixel_values")].numpy()
        rule = rule_of(golden, side=expected.shape[-1])
        (found,) = pixels_of(rule, picture, rule.views(picture.shape[1], picture.shape[0]))
        assert np.abs(found.transpose(2, 0, 1) - expected[0]).max() <= 1e-6


class Names:
    """As much of a tokenizer as a description asks for: the fixtures have none."""

    def special(self, name: str) -> int:
        return {PICTURES["deepseek_vl"].token: 0, "<|im_end|>": 2}[name]


def test_what_is_written_is_bit_for_bit_what_was_read_and_means_the_same(golden: Path, tmp_path: Path) -> None:
    """But for two norms that the official code makes and never applies."""
    out = written(deepseek_vl_official, golden, tmp_path / "out", Names())
    original = {internvl_1_5.canonical(name): one for name, one in load_file(golden / "model.safetensors").items()}
    back = load_file(out / "model.safetensors")
    assert original.keys() - back.keys() == original.keys() & set(deepseek_vl_official.UNUSED)
    for name, tensor in back.items():
        assert torch.equal(tensor, original[name].float()), name
    check_settings(deepseek_vl_official, golden, out)


@torch.inference_mode()
def test_what_is_written_is_read_back_with_equal_logits(case: Any, tmp_path: Path) -> None:
    out = written(deepseek_vl_official, case.folder, tmp_path / "out", Names())
    tiles = reader(case)
    one, two = (outputs(vitrail.load(place, device="cpu").model, tiles)["logits"] for place in (case.folder, out))
    assert torch.equal(one, two)
