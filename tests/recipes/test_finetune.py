"""From an official folder to one: load, train, evaluate, merge, write; and what may be said beside `model.from`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from small_checkpoints import checkpoint, rows
from transformers import AutoModelForImageTextToText
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from vitrail import build
from vitrail.contracts.errors import RecipeError, WeightsError
from vitrail.export.official import export
from vitrail.inference.chat_model import conversation
from vitrail.models.weights import finished, unshared
from vitrail.recipe.read import read_recipe
from vitrail.recipe.strict import to_yaml
from vitrail.run.plan import make_plan
from vitrail.run.train import train
from vitrail.training.device import Device

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SMALL = [
    "stages.lora.steps=3",
    "stages.lora.epochs=null",
    "stages.lora.accumulate=1",
    "stages.lora.train.backbone=1.0e-2",
    "data.pack={length: 256, patches: 1024, window: 8}",
    "evaluate.max_tokens=4",
    "training={device: cpu, dtype: float32, threads: 1, compile: 'off'}",
]
WAYS = {
    "qwen2_vl_lora": ("qwen2_vl", ["model.media.max_tokens=64", "model.media.min_tokens=4"]),
    "qwen2_vl_qlora": ("qwen2_vl", ["model.media.max_tokens=64", "model.media.min_tokens=4"]),
    "internvl_lora": ("internvl", ["model.media.max_tiles=3"]),
}


@pytest.fixture
def said(tmp_path: Path) -> Any:
    """What the command line says for a bundled recipe, a layout's fixture and rows."""

    def make(name: str) -> list[str]:
        layout, media = WAYS[name]
        folder = tmp_path / layout
        if not folder.exists():
            checkpoint(layout, folder)
        data = rows(tmp_path / "data", 8)
        held = [f"data.train={data}", f"data.held_out={data}", f"run={tmp_path / 'run'}"]
        return [f"model.from={folder}", *held, *SMALL, *media]

    return make


def official_logits(folder: Path, picture: Path, ids: torch.Tensor) -> torch.Tensor:
    """Of transformers' own class, whose processor sees the same picture; it is one tile large."""
    model, loading = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values()), loading
    image, config = Image.open(picture), json.loads((folder / "config.json").read_text())
    if config["model_type"] == "qwen2_vl":
        seen = Qwen2VLImageProcessorPil.from_pretrained(folder)(image, return_tensors="pt")
        seen["mm_token_type_ids"] = ids.eq(config["image_token_id"]).long()[None]
    else:
        tile = torch.tensor(np.asarray(image)).permute(2, 0, 1) / 255
        mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
        seen = {"pixel_values": ((tile - mean) / std)[None]}
    return model.eval()(input_ids=ids[None], **seen).logits[0]


@pytest.mark.parametrize("name", WAYS)
def test_the_whole_road(name: str, said: Any, tmp_path: Path) -> None:
    """The run begins with the official weights, and its merged model is read by vitrail as the same model."""
    resolved = read_recipe(f"finetune/{name}", said(name))
    folder = train(resolved)
    results = json.loads((folder.path / "results.json").read_text())
    assert {"before", "after"} <= results.keys()
    chat, config = build.load_described(folder.path, "cpu")
    assert config.backbone.lora is None
    assert config.backbone.quantised is None
    out = tmp_path / "out"
    layout = WAYS[name][0]
    named = {"qwen2_vl": "Qwen2VLForConditionalGeneration", "internvl": "InternVLForConditionalGeneration"}
    assert export(chat.model, chat.encode, config, out) == named[layout]
    before, after = load_file(tmp_path / layout / "model.safetensors"), load_file(out / "model.safetensors")
    assert before.keys() == after.keys()
    changed = {key for key, tensor in before.items() if not torch.equal(tensor, after[key])}
    assert changed
    assert all("_proj." in key and "layers" in key for key in changed), "the matrices of the language model alone"
    back, picture = build.load(out, "cpu"), tmp_path / "data" / "0.png"
    asked, again = (one.prompt(conversation((str(picture), "Colour?"))) for one in (chat, back))
    assert asked.text.ids.tolist() == again.text.ids.tolist()
    with torch.inference_mode():
        ours, theirs = chat.model.logits(chat.model(asked)), official_logits(out, picture, asked.text.ids)
        torch.testing.assert_close(ours, theirs, atol=5e-5, rtol=1e-4)
        torch.testing.assert_close(back.model.logits(back.model(again)), ours, atol=1e-6, rtol=1e-6)


def test_what_stands_beside_from_is_laid_over(said: Any, tmp_path: Path) -> None:
    resolved = read_recipe("finetune/qwen2_vl_lora", said("qwen2_vl_lora"))
    model, place = resolved.value.model, str(tmp_path / "qwen2_vl")
    assert dict(model.weights) == dict.fromkeys(("encoder", "projector", "backbone"), place)
    assert model.backbone.tokenizer == place
    assert (model.media.patch, model.media.max_tokens) == (4, 64)
    assert resolved.value.prompt.template == "chatml"
    assert resolved.origins["model.encoder.width"].location == f"{place}/config.json"
    assert resolved.origins["model.backbone.lora.rank"].location.endswith("qwen2_vl_lora.yaml:15")
    assert resolved.origins["model.media.max_tokens"].kind == "override"


def test_unknown_keys_are_still_refused(said: Any) -> None:
    with pytest.raises(RecipeError, match=r"unknown key 'widht' in model\.encoder.*did you mean 'width'"):
        read_recipe("finetune/qwen2_vl_lora", [*said("qwen2_vl_lora"), "model.encoder.widht=3"])


def test_a_folder_without_a_model_is_one_line(said: Any, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"model\.from: '.*' holds no finished model") as caught:
        read_recipe("finetune/qwen2_vl_lora", [*said("qwen2_vl_lora"), f"model.from={tmp_path}"])
    assert "\n" not in str(caught.value)


def test_a_run_goes_on_from_another_run(said: Any, tmp_path: Path) -> None:
    """`model.from` takes our own runs too; before training it is the same model."""
    first = train(read_recipe("finetune/internvl_lora", said("internvl_lora")))
    again = [*said("internvl_lora"), f"model.from={first.path}", f"run={tmp_path / 'second'}"]
    recipe = read_recipe("finetune/internvl_lora", again).value
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    started = build.starting_model(recipe.model, tokenizer.vocabulary, 0)
    ours, done = finished(started), unshared(build.load(first.path, "cpu").model)
    assert ours.keys() == done.keys()
    assert all(torch.equal(ours[name], tensor) for name, tensor in done.items())


@pytest.fixture
def encoder_only(said: Any, tmp_path: Path) -> Any:
    """A recipe of our own that takes its encoder out of an official folder."""

    def make(*overrides: str) -> Any:
        settings = read_recipe("finetune/qwen2_vl_lora", said("qwen2_vl_lora")).value
        text = to_yaml({"run": "runs/x", "model": {"encoder": settings.model.encoder, "media": settings.model.media}})
        rest = "data: {train: {kind: drawn, rows: 4}}\nstages: [{name: a, train: {projector: 1.0e-3}, steps: 1}]\n"
        (tmp_path / "own.yaml").write_text(text + rest, encoding="utf-8")
        backbone = "{tokenizer: small, config: {model_type: llama, hidden_size: 32, intermediate_size: 32, "
        backbone += "num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1}}"
        said_ = [f"model.backbone={backbone}", f"model.weights.encoder={tmp_path / 'qwen2_vl'}", *overrides]
        recipe = read_recipe(str(tmp_path / "own.yaml"), said_).value
        return build.starting_model(recipe.model, 600, 0)

    return make


def test_a_component_is_taken_out_of_an_official_folder(encoder_only: Any, tmp_path: Path) -> None:
    model, whole = encoder_only(), build.load(tmp_path / "qwen2_vl", "cpu").model
    for name, tensor in whole.encoder.state_dict().items():
        assert torch.equal(model.encoder.state_dict()[name], tensor), name


@pytest.mark.parametrize("change", ["depth=1", "activation=gelu"])
def test_an_encoder_of_another_structure_is_one_line(change: str, encoder_only: Any) -> None:
    with pytest.raises(WeightsError, match=rf"model\.weights\.encoder: .* model\.encoder\.{change.split('=')[0]} is"):
        encoder_only(f"model.encoder.{change}")


@pytest.mark.usefixtures("quick_plan")
def test_plan_needs_no_weights_and_counts_what_quantising_spares(said: Any, tmp_path: Path) -> None:
    checkpoint("qwen2_vl", tmp_path / "settings", weights=False)
    plans = []
    for name in ("qwen2_vl_lora", "qwen2_vl_qlora"):
        recipe = read_recipe(f"finetune/{name}", [*said(name), f"model.from={tmp_path / 'settings'}"]).value
        plans.append(make_plan(recipe, Device("cpu", "float32", 1, compiled=False)))
    assert plans[0].parameters == plans[1].parameters
    assert plans[0].stages[0].trainable == plans[1].stages[0].trainable
