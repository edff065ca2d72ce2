"""A finished run in the official layout: what transformers makes of it, and what stands in the way."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoTokenizer, GenerationConfig, Mistral3ForConditionalGeneration
from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil

import vitrail
from vitrail import build
from vitrail.contracts.errors import VitrailError
from vitrail.export.official import export
from vitrail.inference.chat_model import ChatModel, conversation

RECIPE = """
run: runs/tiny
model:
  media: {patch: 8, merge: 2, max_tokens: 64}
  encoder: {width: 32, depth: 2, heads: 2, mlp_width: 48}
  projector: {kind: patch_merger}
  backbone:
    tokenizer: small
    config:
      model_type: llama
      hidden_size: 32
      intermediate_size: 48
      num_hidden_layers: 2
      num_attention_heads: 4
      num_key_value_heads: 2
      rms_norm_eps: 1.0e-5
      tie_word_embeddings: true
prompt: {template: chatml, picture: {token: "<|image|>", row_break: "<|row|>", end: "<|image_end|>"}}
data: {train: {kind: drawn, rows: 16, size: [64, 128]}}
stages: [{name: align, train: {projector: 1.0e-2}, steps: 5}]
"""
QUESTION = "What's \\the\\ colour?"
FORMS = {
    "as it is": [],
    "untied, biases, gelu": [
        "model.backbone.config.tie_word_embeddings=false",
        "model.projector.bias=true",
        "model.encoder.activation=gelu",
    ],
    "mistral with wide heads, system turn": [
        "model.backbone.config.model_type=mistral",
        "model.backbone.config.head_dim=16",
        "prompt.system=You're brief.",
    ],
    "qwen2, terse": ["model.backbone.config.model_type=qwen2", "prompt.template=terse"],
    "a format of Mistral's": ["prompt.template=mistral"],
    "a token for each patch": ["model.media.merge=1", "model.media.max_tokens=256"],
    "with what a contrastive objective leaves": [
        "stages.align.objective={kind: contrastive_caption, width: 8, characters: 1.0}"
    ],
}


@pytest.fixture
def run(finished_run: Callable[..., Path]) -> Callable[..., Path]:
    """A finished run of the recipe with some overrides: its folder."""
    return partial(finished_run, RECIPE)


def exported(run: Path, out: Path, **how: Any) -> ChatModel:
    chat, config = build.load_described(run, "cpu")
    assert export(chat.model, chat.encode, config, out, **how) == "Mistral3ForConditionalGeneration"
    return chat


def picture(height: int = 64, width: int = 96) -> NDArray[np.uint8]:
    """Of a size that needs no resizing, unless told otherwise."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def messages() -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "\n" + QUESTION}]}]


def official_inputs(folder: Path, image: NDArray[np.uint8]) -> dict[str, torch.Tensor]:
    """What PixtralProcessor does, without torchvision: its own Pillow backend, template and tokens of rows."""
    processor = json.loads((folder / "processor_config.json").read_text())
    pixels = PixtralImageProcessorPil.from_pretrained(folder)
    unit = processor["patch_size"] * processor["spatial_merge_size"]
    seen = pixels(Image.fromarray(image), patch_size={"height": unit, "width": unit}, return_tensors="pt")
    rows, columns = (side // unit for side in seen["image_sizes"][0].tolist())
    row = processor["image_token"] * columns
    shown = processor["image_break_token"].join([row] * rows) + processor["image_end_token"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template(messages(), tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text.replace(processor["image_token"], shown), return_tensors="pt")
    return {"input_ids": ids["input_ids"], "pixel_values": seen["pixel_values"], "image_sizes": seen["image_sizes"]}


@pytest.mark.parametrize("overrides", FORMS.values(), ids=FORMS.keys())
@torch.inference_mode()
def test_transformers_gives_the_same_logits(overrides: list[str], run: Any, tmp_path: Path) -> None:
    chat = exported(run(*overrides), tmp_path / "out")
    model, loading = Mistral3ForConditionalGeneration.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(loading.values()), loading
    asked = chat.prompt(conversation((picture(), QUESTION)))
    inputs = official_inputs(tmp_path / "out", picture())
    assert inputs["input_ids"][0].tolist() == asked.text.ids.tolist()
    ours, theirs = chat.model.logits(chat.model(asked)), model.eval()(**inputs).logits[0]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="AutoProcessor needs torchvision here")
@torch.inference_mode()
def test_transformers_processor_gives_the_same_inputs(run: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor, PixtralProcessor

    chat = exported(run(), tmp_path / "out")
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    assert isinstance(processor, PixtralProcessor)
    text = processor.apply_chat_template(messages(), add_generation_prompt=True)
    inputs = processor(images=[Image.fromarray(picture())], text=text, return_tensors="pt")
    asked = chat.prompt(conversation((picture(), QUESTION)))
    assert inputs["input_ids"][0].tolist() == asked.text.ids.tolist()
    theirs = AutoModelForImageTextToText.from_pretrained(tmp_path / "out").eval()(**inputs).logits[0]
    torch.testing.assert_close(chat.model.logits(chat.model(asked)), theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(50, 77), (300, 200), (9, 200)])
def test_any_picture_fits_where_the_rule_is_pixtrals(shape: tuple[int, int], run: Any, tmp_path: Path) -> None:
    chat = exported(run("model.media.sides=up", "model.media.max_side=128", "model.media.min_tokens=1"), tmp_path / "o")
    inputs = official_inputs(tmp_path / "o", picture(*shape))
    asked = chat.prompt(conversation((picture(*shape), QUESTION)))
    assert inputs["input_ids"][0].tolist() == asked.text.ids.tolist()


@pytest.mark.parametrize("shape", [(50, 77), (300, 200), (2000, 900), (20, 20)])
def test_no_picture_gets_more_tokens_than_ours_allows(shape: tuple[int, int], run: Any, tmp_path: Path) -> None:
    exported(run(), tmp_path / "out")
    height, width = official_inputs(tmp_path / "out", picture(*shape))["image_sizes"][0].tolist()
    assert height * width // 16**2 <= 64


def test_generation_ends_where_ours_does(run: Any, tmp_path: Path) -> None:
    chat = exported(run(), tmp_path / "out")
    end = chat.encode.tokenizer.special("<|im_end|>")
    assert GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id == end


def test_vitrail_opens_what_it_wrote(run: Any, tmp_path: Path) -> None:
    """With tokenizer, chat format and picture tokens found again."""
    chat = exported(run("prompt.system=You're brief."), tmp_path / "out")
    back = vitrail.load(tmp_path / "out", "cpu")
    assert back.encode.prompt == chat.encode.prompt
    assert back.encode.template == chat.encode.template
    for generation in (vitrail.GenerationConfig(max_tokens=8), vitrail.GenerationConfig(8, temperature=1.0)):
        assert back.chat(picture(), QUESTION, generation=generation) == chat.chat(
            picture(), QUESTION, generation=generation
        )
    # And writes it once more, the same.
    exported(tmp_path / "out", tmp_path / "again")
    for path in (tmp_path / "out").iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_bfloat16_is_half_the_file(run: Any, tmp_path: Path) -> None:
    folder = run()
    exported(folder, tmp_path / "full")
    exported(folder, tmp_path / "half", dtype="bfloat16")
    full, half = (load_file(tmp_path / name / "model.safetensors") for name in ("full", "half"))
    assert full.keys() == half.keys()
    assert all(torch.equal(tensor.bfloat16(), half[name]) for name, tensor in full.items())
    model = Mistral3ForConditionalGeneration.from_pretrained(tmp_path / "half")
    assert model.dtype == torch.bfloat16


UNFIT = {
    "projector": (["model.projector={kind: mlp}"], "model.projector is mlp, the layout has patch_merger"),
    "sinusoidal positions": (
        ["model.encoder.absolute=sinusoidal"],
        "model.encoder.absolute is sinusoidal, the layout has none",
    ),
    "eps": (
        ["model.backbone.config.rms_norm_eps=1e-3"],
        "model.projector.norm_eps is 1e-05, the layout takes the backbone's rms_norm_eps, which is 0.001",
    ),
    "no token": (["prompt.picture.token=''"], "prompt.picture.token names no token"),
    "no row break": (["prompt.picture.row_break=''"], "prompt.picture.row_break names no token"),
    "no end": (["prompt.picture.end=''"], "prompt.picture.end names no token"),
}


@pytest.mark.parametrize(("overrides", "message"), UNFIT.values(), ids=UNFIT.keys())
def test_what_does_not_fit_is_one_line(overrides: list[str], message: str, run: Any, tmp_path: Path) -> None:
    chat, config = build.load_described(run(*overrides), "cpu")
    with pytest.raises(vitrail.WeightsError, match="does not fit Mistral3ForConditionalGeneration: ") as raised:
        export(chat.model, chat.encode, config, tmp_path / "out")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.glob("out*"))


def test_a_custom_component_does_not_fit(run: Any, tmp_path: Path) -> None:
    from vitrail.models.config import CustomConfig

    chat, config = build.load_described(run(), "cpu")
    config = dataclasses.replace(config, encoder=CustomConfig("mine:Encoder"))
    with pytest.raises(vitrail.WeightsError, match=r"model\.encoder is mine:Encoder, the layout has"):
        export(chat.model, chat.encode, config, tmp_path / "out")


def test_nothing_is_overwritten_and_nothing_half_written_left(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = run(), tmp_path / "out"
    out.mkdir()
    exported(folder, out)  # an empty folder will do
    with pytest.raises(vitrail.WeightsError, match="exists already and is not empty"):
        exported(folder, out)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vitrail.export.official.save_torch_state_dict", full)
    with pytest.raises(VitrailError, match=r"cannot write to '.*other': No space left on device"):
        exported(folder, tmp_path / "other")
    assert not list(tmp_path.glob("other*"))


def test_a_model_without_a_tokenizer_is_not_exported(run: Any, tmp_path: Path) -> None:
    exported(run(), tmp_path / "out")
    (tmp_path / "out" / "tokenizer.json").unlink()
    with pytest.raises(vitrail.WeightsError, match="holds no tokenizer"):
        exported(tmp_path / "out", tmp_path / "again")
