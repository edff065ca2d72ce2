"""Qwen2-VL and Qwen2.5-VL: full size, the forms a folder may take, limits of pictures, and runs in their layouts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from small_qwen2_vl import LAYOUTS, RECIPE
from transformers import AutoModelForImageTextToText, AutoTokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

import vitrail
from vitrail import build
from vitrail.build.starting import unfilled
from vitrail.contracts.errors import WeightsError
from vitrail.contracts.messages import ImagePart
from vitrail.export.official import export
from vitrail.inference.chat_model import ChatModel, conversation
from vitrail.models.config import PatchMergerConfig, VisionTransformerConfig
from vitrail.models.weights import unshared
from vitrail.prompts.config import LinePositionsConfig, MRopePositionsConfig, PictureConfig
from vitrail.systems import qwen2_5_vl, qwen2_vl
from vitrail.systems.system import ModelSpec, Official

LANGUAGE: dict[str, dict[str, Any]] = {
    "2B": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    "3B": {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    "7B": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
    },
    "72B": {},
}
"""What released files say; the rest are the class's own values, those of 72B."""
SECTIONS = {"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}, "rope_theta": 1_000_000.0}


def config_of(size: str, vision: dict[str, Any]) -> dict[str, Any]:
    return {**LANGUAGE[size], **SECTIONS, "vision_config": vision}


SIZES = {
    "Qwen2-VL-2B": (qwen2_vl, config_of("2B", {}), 2_208_985_600),
    "Qwen2-VL-7B": (qwen2_vl, config_of("7B", {}), 8_291_375_616),
    "Qwen2-VL-72B": (qwen2_vl, config_of("72B", {}), 73_405_560_320),
    "Qwen2.5-VL-3B": (qwen2_5_vl, config_of("3B", {"hidden_size": 1280}), 3_754_622_976),
    "Qwen2.5-VL-7B": (qwen2_5_vl, config_of("7B", {"hidden_size": 1280}), 8_292_166_656),
    "Qwen2.5-VL-72B": (
        qwen2_5_vl,
        config_of("72B", {"hidden_size": 1280, "intermediate_size": 3456}),
        73_410_777_344,
    ),
}
"""Parameters of the official configurations, counted on transformers' own classes."""


@pytest.mark.parametrize(("system", "config", "count"), SIZES.values(), ids=SIZES.keys())
def test_full_size_has_the_official_number_of_parameters(system: Any, config: dict[str, Any], count: int) -> None:
    spec = system.read(Official({"config.json": config}, {}))
    with torch.device("meta"):
        model = unfilled(spec.model, spec.backbone)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


QUESTION = "What's \\the\\ colour?"


def picture(height: int = 64, width: int = 96) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def run(finished_run: Callable[..., Path]) -> Callable[..., Path]:
    """A finished run in the structure of a layout, with some overrides: its folder."""
    return lambda layout, *overrides: finished_run(RECIPE, *LAYOUTS[layout], *overrides)


@pytest.fixture(params=LAYOUTS)
def exported(request: pytest.FixtureRequest, run: Any, tmp_path: Path) -> tuple[ChatModel, Path]:
    """A run of each layout, and the folder it was written to."""
    chat, config = build.load_described(run(request.param), "cpu")
    assert export(chat.model, chat.encode, config, tmp_path / "out") == request.param
    return chat, tmp_path / "out"


def official_inputs(folder: Path, image: NDArray[np.uint8]) -> dict[str, torch.Tensor]:
    """What Qwen2VLProcessor does, without torchvision: its own Pillow backend, template and number of tokens."""
    config = json.loads((folder / "config.json").read_text())
    seen = Qwen2VLImageProcessorPil.from_pretrained(folder)(Image.fromarray(image), return_tensors="pt")
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "\n" + QUESTION}]}]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    count = int(seen["image_grid_thw"].prod()) // config["vision_config"]["spatial_merge_size"] ** 2
    ids = tokenizer(text.replace("<|image_pad|>", "<|image_pad|>" * count), return_tensors="pt")["input_ids"]
    kinds = ids.eq(config["image_token_id"]).long()
    return {
        "input_ids": ids,
        "pixel_values": seen["pixel_values"],
        "image_grid_thw": seen["image_grid_thw"],
        "mm_token_type_ids": kinds,
    }


@torch.inference_mode()
@pytest.mark.parametrize("shape", [(64, 96), (50, 77), (9, 100), (700, 300)])
def test_transformers_reads_the_same_and_gives_the_same_logits(
    shape: tuple[int, int], exported: tuple[ChatModel, Path]
) -> None:
    chat, out = exported
    model, loading = AutoModelForImageTextToText.from_pretrained(out, output_loading_info=True)
    assert not any(loading.values()), loading
    asked = chat.prompt(conversation((picture(*shape), QUESTION)))
    inputs = official_inputs(out, picture(*shape))
    assert inputs["input_ids"][0].tolist() == asked.text.ids.tolist()
    ours, theirs = chat.model.logits(chat.model(asked)), model.eval()(**inputs).logits[0]
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)


def test_vitrail_opens_what_it_wrote(exported: tuple[ChatModel, Path], tmp_path: Path) -> None:
    chat, out = exported
    back, config = build.load_described(out, "cpu")
    assert back.encode.prompt == chat.encode.prompt
    assert back.encode.template == chat.encode.template
    assert back.encode.positions == chat.encode.positions
    wide = ImagePart(picture(300, 700))
    assert back.encode.views(wide) == chat.encode.views(wide)
    # The layout counts its limits in pixels, a run in tokens; the rules are the same.
    rules = [dict(vars(one.encode.media["vision"].picture), config=None) for one in (back, chat)]
    assert rules[0] == rules[1]
    eight = vitrail.GenerationConfig(max_tokens=8)
    answers = [one.chat(picture(), QUESTION, generation=eight) for one in (back, chat)]
    assert answers[0] == answers[1]
    export(back.model, back.encode, config, tmp_path / "again")
    for path in out.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_names_of_transformers_modules_are_read_too(exported: tuple[ChatModel, Path], tmp_path: Path) -> None:
    chat, out = exported
    tensors = load_file(out / "model.safetensors")
    modules = {"visual.": "model.visual.", "model.": "model.language_model."}
    renamed = {}
    for name, tensor in tensors.items():
        start = next((start for start in modules if name.startswith(start)), "")
        renamed[modules.get(start, "") + name.removeprefix(start)] = tensor
    assert renamed.keys() & tensors.keys() <= {"lm_head.weight"}
    save_file(renamed, out / "model.safetensors")
    ours = unshared(chat.model)
    for name, tensor in unshared(vitrail.load(out, "cpu").model).items():
        assert torch.equal(tensor, ours[name]), name


def test_settings_at_the_top_are_those_of_the_language_model(exported: tuple[ChatModel, Path]) -> None:
    """As the first files have them, and as transformers writes them today."""
    _, out = exported
    nested = json.loads((out / "config.json").read_text())
    flat = {**nested, **nested["text_config"], "model_type": nested["model_type"]}
    flat.pop("text_config")
    system = {"qwen2_vl": qwen2_vl, "qwen2_5_vl": qwen2_5_vl}[nested["model_type"]]
    today, first = (system.read(Official({"config.json": config}, {})) for config in (nested, flat))
    # What the class of the language model has no use for stands at the top unread.
    assert {key: today.backbone[key] for key in first.backbone} == first.backbone
    same = dataclasses.replace(today.model, backbone=first.model.backbone)
    assert (same, today.prompt, today.redundant) == (first.model, first.prompt, first.redundant)


LIMITS = {
    "none said": ({}, 4, 1280),
    "in pixels": ({"min_pixels": 3136, "max_pixels": 12845056}, 4, 16384),
    "under size": ({"size": {"shortest_edge": 50_000, "longest_edge": 100_000}}, 64, 127),
    "in pixels, before those under size": (
        {"size": {"shortest_edge": 3136, "longest_edge": 100_000}, "max_pixels": 7840},
        4,
        10,
    ),
}


@pytest.mark.parametrize(("images", "least", "most"), LIMITS.values(), ids=LIMITS.keys())
def test_limits_of_pictures_are_the_processors(images: dict[str, Any], least: int, most: int) -> None:
    files = {"config.json": config_of("2B", {}), "preprocessor_config.json": images}
    media = qwen2_vl.read(Official(files, {})).model.media
    assert (media.patch, media.merge, media.min_tokens, media.max_tokens) == (14, 2, least, most)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"use_sliding_window": True}, "use_sliding_window is True"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"rope_scaling": {"type": "yarn", "mrope_section": [16, 24, 24]}}, "rope_type is 'yarn'"),
        ({"rope_scaling": {"mrope_section": [16, 16, 24]}}, "half the width of a head, 128"),
        ({"rope_scaling": None}, "half the width of a head, 128"),
    ],
)
def test_settings_that_are_not_ours_are_named(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(WeightsError, match=expected):
        qwen2_vl.read(Official({"config.json": {**config_of("2B", {}), **change}}, {}))


def test_what_does_not_fit_is_named() -> None:
    spec = qwen2_vl.read(Official({"config.json": config_of("2B", {})}, {}))
    assert qwen2_vl.obstacles(spec) == []

    def found(**changes: Any) -> str:
        model = dataclasses.replace(spec.model, **changes)
        return "; ".join(qwen2_vl.obstacles(dataclasses.replace(spec, model=model)))

    assert "model.projector is patch_merger" in found(projector=PatchMergerConfig())
    assert "model.positions is line, the layout has mrope" in found(positions=LinePositionsConfig())
    assert "model.positions.tokens_per_second is 2" in found(positions=MRopePositionsConfig(tokens_per_second=2))
    assert "model.encoder.mlp is gated" in found(encoder=VisionTransformerConfig())
    assert "max_side is 512" in found(media=dataclasses.replace(spec.model.media, max_side=512))
    assert "sides is up" in found(media=dataclasses.replace(spec.model.media, sides="up"))
    prompt = dataclasses.replace(spec.prompt, picture=PictureConfig())
    assert any("prompt.picture" in one for one in qwen2_vl.obstacles(dataclasses.replace(spec, prompt=prompt)))
    llama: ModelSpec = dataclasses.replace(spec, backbone={**spec.backbone, "model_type": "llama"})
    assert qwen2_vl.obstacles(llama) == ["the language model is a llama, the layout has qwen2"]
    assert "model.encoder.window is null" in "; ".join(qwen2_5_vl.obstacles(spec))


def test_no_other_layout_takes_positions_on_a_grid(run: Any, tmp_path: Path) -> None:
    chat, config = build.load_described(run(qwen2_vl.LAYOUT, "model.projector={kind: linear}"), "cpu")
    with pytest.raises(WeightsError, match="does not fit"):
        export(chat.model, chat.encode, config, tmp_path / "out")
