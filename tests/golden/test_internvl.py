"""InternVL in transformers' layout: what each part makes, loss, greedy tokens, and the way back to its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from picture_text import Tiles, greedy, outputs, settings
from safetensors.torch import load_file, save_file

import vitrail
from vitrail.models.weights import unshared
from vitrail.prompts.config import PICTURES
from vitrail.systems import composite, internvl
from vitrail.systems import folder as systems

SYSTEMS = ("internvl", "internvl_qknorm")


def reader(case: Any) -> Tiles:
    config = settings(case)
    patch, merge = config["vision_config"]["patch_size"][0], round(1 / config["downsample_ratio"])
    return Tiles(case, config["image_token_id"], config["image_seq_length"], patch, merge)


@torch.inference_mode()
def test_every_output_is_the_references(case: Any) -> None:
    model, tiles = vitrail.load(case.folder, device="cpu").model, reader(case)
    found = outputs(model, tiles)
    names = {"vision_last_hidden": "vision_last", "pixel_shuffled": "shuffled"}
    for name in case.outputs.keys() - {"generated"}:
        where = tiles.real if name.startswith(("logits", "llm_hidden")) else None
        case.compare(name, found[names.get(name, name)], where)
    if "generated" in case.outputs:
        case.compare("generated", greedy(model, tiles, case.outputs["generated"].shape[1]))
    case.nothing_is_left()


class Names:
    """As much of a tokenizer as a description asks for: the fixtures have none."""

    def __init__(self, picture_id: int, end: int) -> None:
        self.ids = {PICTURES["internvl"].token: picture_id, "<|im_end|>": end}

    def special(self, name: str) -> int:
        return self.ids[name]


def written(golden: Path, out: Path) -> Path:
    """The folder opened, and written anew in the official layout."""
    official = systems.read_folder(golden)
    described = systems.describe(internvl, official, golden)
    chat = vitrail.load(golden, device="cpu")
    spoken = chat.model.backbone.lm.config.to_dict()
    described = type(described)(described.model, described.prompt, spoken)
    assert internvl.obstacles(described) == []
    names: Any = Names(official.config["image_token_id"], spoken["eos_token_id"])
    out.mkdir()
    for name, content in internvl.write(described, names, "float32").items():
        (out / name).write_text(json.dumps(content), encoding="utf-8")
    tensors = systems.to_official(internvl, described, unshared(chat.model))
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    return out


def test_what_is_written_is_bit_for_bit_what_was_read(golden: Path, tmp_path: Path) -> None:
    back = load_file(written(golden, tmp_path / "out") / "model.safetensors")
    redundant = internvl.read(systems.read_folder(golden)).redundant
    read = {composite.canonical(name): tensor for name, tensor in load_file(golden / "model.safetensors").items()}
    original = {name: tensor for name, tensor in read.items() if name not in redundant}
    assert back.keys() == original.keys()
    for name, tensor in original.items():
        assert torch.equal(back[name], tensor.float()), name


def test_the_settings_that_are_written_mean_the_same(golden: Path, tmp_path: Path) -> None:
    from transformers import InternVLConfig

    def meaning(folder: Path) -> dict[str, Any]:
        found = InternVLConfig.from_pretrained(folder).to_dict()
        # Number formats are the writer's choice. Whether the head is the embeddings is read from the outer settings
        # alone. How weights were drawn before training is no part of a trained model.
        for key in ("dtype", "text_config.dtype", "text_config.tie_word_embeddings", "vision_config.initializer_range"):
            *outer, name = key.split(".")
            (found[outer[0]] if outer else found).pop(name, None)
        return found

    assert meaning(written(golden, tmp_path / "out")) == meaning(golden)


@torch.inference_mode()
def test_transformers_opens_what_is_written(case: Any, tmp_path: Path) -> None:
    """In its own class, with the reference's logits."""
    from transformers import InternVLForConditionalGeneration

    out = written(case.folder, tmp_path / "out")
    model, loading = InternVLForConditionalGeneration.from_pretrained(out, output_loading_info=True)
    assert not any(loading.values()), loading
    inputs = {name: tensor for name, tensor in case.inputs.items() if name != "labels"}
    case.compare("logits", model(**inputs).logits, case.inputs["attention_mask"].bool())


@torch.inference_mode()
def test_tiles_in_another_order_are_noticed(case: Any) -> None:
    """What a negative control of the fixtures does: the comparison above would see it."""
    if case.inputs.get("pixel_values") is None or len(case.inputs["pixel_values"]) < 2:
        pytest.skip("one tile has no order")
    model, tiles = vitrail.load(case.folder, device="cpu").model, reader(case)
    tiles.pictures = tiles.pictures.roll(1, 0)
    with pytest.raises(AssertionError, match="off by"):
        case.compare("image_embeds", outputs(model, tiles)["image_embeds"])
