"""DeepSeek-VL in transformers' layouts: both encoders, what joins them, logits, greedy tokens, and the way back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from deepseek import TwoSizes, of_sam
from picture_text import Tiles, greedy, outputs, settings
from round_trip import check_settings, check_tensors, written
from torch import Tensor

import vitrail
from vitrail.prompts.config import PICTURES
from vitrail.systems import folder as systems

SYSTEMS = ("deepseek_vl", "deepseek_vl_hybrid")


def reader(case: Any) -> Tiles:
    config = settings(case)
    vision, large = config["vision_config"], config.get("high_res_vision_config", {})
    tokens = (vision["image_size"] // vision["patch_size"]) ** 2
    pictures = case.inputs.get("high_res_pixel_values")
    if pictures is None:
        return Tiles(case, config["image_token_id"], tokens, vision["patch_size"], 1)
    return TwoSizes(case, config["image_token_id"], tokens, vision["patch_size"], pictures, large.get("patch_size", 1))


def as_planes(stream: Tensor, like: Tensor, *, channels_first: bool) -> Tensor:
    return stream.transpose(1, 2).reshape(like.shape) if channels_first else stream.reshape(like.shape)


def check_sam(case: Any, found: dict[str, Tensor]) -> None:
    names = {"sam_last_hidden": "last", "sam_last_proj": "last_proj", "sam_global_proj": "early_proj"}
    names |= {f"sam_hidden.{number}": f"hidden.{number}" for number in range(len(found))}
    for name in case.outputs.keys() & names:
        expected = case.outputs[name]
        case.compare(name, as_planes(found[names[name]], expected, channels_first="hidden." not in name))
    case.compare("high_res_features", found["features"])


@torch.inference_mode()
def test_every_output_is_the_references(case: Any) -> None:
    model, tiles = vitrail.load(case.folder, device="cpu").model, reader(case)
    batch = tiles.batch(tiles.rows)
    if "high" in batch.media:
        check_sam(case, of_sam(model, batch))
    found = outputs(model, tiles)
    for name in case.outputs.keys() - case.differences.keys() - {"generated"}:
        where = tiles.real if name.startswith(("logits", "llm_hidden")) else None
        case.compare(name, found["vision_last" if name == "vision_last_hidden" else name], where)
    if "generated" in case.outputs:
        case.compare("generated", greedy(model, tiles, case.outputs["generated"].shape[1]))
    case.nothing_is_left()


class Names:
    """As much of a tokenizer as a description asks for: the fixtures have none."""

    def __init__(self, golden: Path) -> None:
        config = json.loads((golden / "config.json").read_text(encoding="utf-8"))
        self.ids = {
            PICTURES["deepseek_vl"].token: config["image_token_id"],
            "<|im_end|>": config["text_config"]["eos_token_id"],
        }

    def special(self, name: str) -> int:
        return self.ids[name]


def test_what_is_written_is_bit_for_bit_what_was_read_and_means_the_same(golden: Path, tmp_path: Path) -> None:
    system: Any = systems.system_of(golden)
    out = written(system, golden, tmp_path / "out", Names(golden))
    check_tensors(golden, out)
    check_settings(system, golden, out)


@torch.inference_mode()
def test_transformers_opens_what_is_written(case: Any, tmp_path: Path) -> None:
    """In its own class, with the reference's logits."""
    import transformers

    system: Any = systems.system_of(case.folder)
    out = written(system, case.folder, tmp_path / "out", Names(case.folder))
    model, loading = getattr(transformers, system.LAYOUT).from_pretrained(out, output_loading_info=True)
    assert not any(loading.values()), loading
    inputs = {name: tensor for name, tensor in case.inputs.items() if name != "labels"}
    case.compare("logits", model(**inputs).logits, case.inputs["attention_mask"].bool())


@torch.inference_mode()
def test_streams_that_change_places_are_noticed(case: Any) -> None:
    """A negative control of the fixtures: large pictures of another row's, or none of the early features."""
    model, tiles = vitrail.load(case.folder, device="cpu").model, reader(case)
    if not isinstance(tiles, TwoSizes) or "image_embeds" not in case.outputs:
        pytest.skip("no large pictures in this case")
    model.high_projector.early_gate.zero_()
    with pytest.raises(AssertionError, match="off by"):
        case.compare("image_embeds", outputs(model, tiles)["image_embeds"])
