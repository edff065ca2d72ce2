"""The layout of Mistral3 in the forms it may take: settings, key names, shards, pictures, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, Mistral3Config, Mistral3ForConditionalGeneration
from transformers.models.pixtral.image_processing_pil_pixtral import (
    PixtralImageProcessorPil,
    get_resize_output_image_size,
)

import vitrail
from vitrail import build
from vitrail.build.starting import unfilled
from vitrail.contracts.samples import Batch, MediaStream, Segments, TextStream
from vitrail.media.config import NativeResolutionConfig
from vitrail.media.native import NativeResolution, patchify
from vitrail.media.rule import pixels as pixels_of
from vitrail.models.weights import unshared
from vitrail.prompts.config import PictureConfig, PromptConfig
from vitrail.systems import composite, mistral3
from vitrail.systems.folder import read_folder, to_official
from vitrail.systems.system import ModelSpec, Official

PICTURE = 60
TEXT = {
    "model_type": "llama",
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "rms_norm_eps": 1e-5,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 4,
    "image_size": 64,
}
FORMS: dict[str, dict[str, Any]] = {
    "llama, untied": {"tie_word_embeddings": False},
    "llama, tied": {"tie_word_embeddings": True},
    "mistral, heads that are not the width": {"text": {"model_type": "mistral", "head_dim": 32, "sliding_window": 5}},
    "qwen2, biases, another eps": {"text": {"model_type": "qwen2", "rms_norm_eps": 1e-3}},
    "qwen3, norms within heads": {"text": {"model_type": "qwen3", "head_dim": 16}},
    "projector with biases": {"multimodal_projector_bias": True},
    "silu in the encoder": {"vision": {"hidden_act": "silu"}},
    "nine patches a token": {"spatial_merge_size": 3},
    "one patch a token": {"spatial_merge_size": 1},
    "feature layer as a list": {"vision_feature_layer": [-1]},
    "another base of the positions": {"vision": {"rope_parameters": {"rope_theta": 500.0, "rope_type": "axial"}}},
}


def official(
    folder: Path, text: dict[str, Any] | None = None, vision: dict[str, Any] | None = None, **rest: Any
) -> Mistral3ForConditionalGeneration:
    """A random model of transformers' class, and its folder."""
    torch.manual_seed(0)
    text_config = {**TEXT, **(text or {})}
    config = Mistral3Config(
        text_config=AutoConfig.for_model(**text_config),
        vision_config=AutoConfig.for_model("pixtral", **{**VISION, **(vision or {})}),
        image_token_index=PICTURE,
        **{"tie_word_embeddings": False, **rest},
    )
    model = Mistral3ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:  # norms start at one and biases at zero: nothing could be mistaken
                parameter.add_(torch.randn_like(parameter) * 0.2)
            elif "embed" not in name:
                parameter.mul_(4)
    model.save_pretrained(folder)
    return model


def one_picture(config: NativeResolutionConfig, rows: int, columns: int) -> tuple[dict[str, torch.Tensor], Batch]:
    """The same question about one picture, as transformers reads it and as we do."""
    unit = config.patch * config.merge
    pixels = np.random.default_rng(0).normal(size=(rows * unit, columns * unit, 3)).astype(np.float32)
    ids = torch.tensor([1, 5, *([PICTURE] * (rows * columns)), 7, 9, 11, 3])
    inputs = {
        "input_ids": ids[None],
        "pixel_values": torch.from_numpy(pixels).permute(2, 0, 1)[None],
        "image_sizes": torch.tensor([[rows * unit, columns * unit]]),
    }
    patches, positions = patchify(pixels, config.patch, config.merge)
    nothing = torch.zeros(len(ids))
    text = TextStream(ids, nothing.long(), nothing, torch.arange(len(ids)), Segments((len(ids),)))
    at = ids.eq(PICTURE).nonzero().squeeze(1)
    stream = MediaStream(torch.from_numpy(patches), torch.from_numpy(positions), Segments((len(patches),)), at)
    return inputs, Batch({"text": text, "vision": stream}, ("",), ("",), 0.0)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@torch.inference_mode()
def test_logits_equal_transformers(form: dict[str, Any], tmp_path: Path) -> None:
    theirs = official(tmp_path, **form)
    chat, config = build.load_described(tmp_path, "cpu")
    inputs, batch = one_picture(config.media, 2, 3)
    torch.testing.assert_close(chat.model.logits(chat.model(batch)), theirs(**inputs).logits[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_what_is_written_reads_back(form: dict[str, Any], tmp_path: Path) -> None:
    """Settings and tensors, through our own writer."""
    official(tmp_path / "theirs", **form)
    chat, config = build.load_described(tmp_path / "theirs", "cpu")
    spec = ModelSpec(config, PromptConfig(), chat.model.backbone.lm.config.to_dict())
    assert [reason for reason in mistral3.obstacles(spec) if "prompt.picture" not in reason] == []
    tensors = to_official(mistral3, spec, unshared(chat.model))
    original = load_file(tmp_path / "theirs" / "model.safetensors")
    assert tensors.keys() == original.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in original.items())


def test_shards_are_read_as_one_file(tmp_path: Path) -> None:
    model = official(tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="40KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    one, many = (unshared(vitrail.load(tmp_path / name, "cpu").model) for name in ("one", "many"))
    assert all(torch.equal(tensor, many[name]) for name, tensor in one.items())


def test_a_head_that_is_not_the_embeddings_is_kept(tmp_path: Path) -> None:
    """Where settings say they are tied and the checkpoint holds both, transformers believes the checkpoint."""
    official(tmp_path, tie_word_embeddings=False)
    change(tmp_path, lambda config: config.update(tie_word_embeddings=True))
    model = vitrail.load(tmp_path, "cpu").model
    assert not torch.equal(model.backbone.head_weight(), model.backbone.lm.get_input_embeddings().weight)
    tensors = load_file(tmp_path / "model.safetensors")
    assert torch.equal(model.backbone.head_weight(), tensors[composite.HEAD])
    save_file({**tensors, composite.HEAD: tensors[composite.EMBEDDINGS].clone()}, tmp_path / "model.safetensors")
    model = vitrail.load(tmp_path, "cpu").model
    assert model.backbone.head_weight() is model.backbone.lm.get_input_embeddings().weight


def test_half_precision_is_read_into_float32(tmp_path: Path) -> None:
    official(tmp_path).to(torch.bfloat16).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    assert {tensor.dtype for tensor in unshared(vitrail.load(tmp_path, "cpu").model).values()} == {torch.float32}


def change(folder: Path, how: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    how(config)
    path.write_text(json.dumps(config))


REFUSED: dict[str, tuple[Any, str]] = {
    "feature layer": (lambda c: c.update(vision_feature_layer=-2), r"vision_feature_layer is -2, supported: -1"),
    "feature layers": (lambda c: c.update(vision_feature_layer=[-2, -1]), r"vision_feature_layer is \[-2, -1\]"),
    "projector's activation": (lambda c: c.update(projector_hidden_act="relu"), "projector_hidden_act is 'relu'"),
    "encoder's activation": (
        lambda c: c["vision_config"].update(hidden_act="gelu_new"),
        "vision_config.hidden_act is 'gelu_new', supported: silu, gelu",
    ),
    "encoder": (lambda c: c["vision_config"].update(model_type="clip"), "vision_config.model_type is 'clip'"),
    "heads": (lambda c: c["vision_config"].update(head_dim=8), "vision_config.head_dim is 8, supported: 16"),
    "width": (lambda c: c["vision_config"].update(num_attention_heads=3), "hidden_size 32 is not num_attention_heads"),
    "channels": (lambda c: c["vision_config"].update(num_channels=4), "vision_config.num_channels is 4, supported: 3"),
    "patch": (lambda c: c["vision_config"].update(patch_size=[4, 8]), r"patches or pictures of \[4, 8\] px"),
    "language model": (lambda c: c["text_config"].update(model_type="gpt2"), "model_type 'gpt2' is not one of llama"),
    "layout": (lambda c: c.update(model_type="mistral4"), r"model_type 'mistral4' \(did you mean 'mistral3'\?\)"),
    "nonsense": (lambda c: c.update(text_config=3), r"config\.json' is not as Mistral3ForConditionalGeneration has it"),
    "size": (lambda c: c["text_config"].update(intermediate_size=65), r"'backbone\.lm\.model.*' is \[64, 48\]"),
    "merge": (lambda c: c.update(spatial_merge_size=4), r"merger\.weight' is \[32, 128\], expected \[32, 512\]"),
}


@pytest.mark.parametrize(("how", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_supported_is_one_line(how: Any, message: str, tmp_path: Path) -> None:
    official(tmp_path)
    change(tmp_path, how)
    with pytest.raises(vitrail.WeightsError, match=message) as raised:
        vitrail.load(tmp_path, "cpu")
    assert "\n" not in str(raised.value)
    assert str(tmp_path) in str(raised.value)


def test_tensors_that_are_missing_or_too_many_are_named(tmp_path: Path) -> None:
    official(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    norm = "multi_modal_projector.norm.weight"
    extra = tensors[norm].clone()
    save_file({name: tensor for name, tensor in tensors.items() if name != norm}, path)
    with pytest.raises(vitrail.WeightsError, match=f"lacks '{norm}'"):
        vitrail.load(tmp_path, "cpu")
    save_file({**tensors, "vision_tower.extra": extra}, path)
    with pytest.raises(vitrail.WeightsError, match=r"has 'vision_tower\.extra', which .* does not have"):
        vitrail.load(tmp_path, "cpu")
    save_file({**tensors, "model." + norm: extra}, path)
    with pytest.raises(vitrail.WeightsError, match=f"has '{norm}' twice, under two names"):
        vitrail.load(tmp_path, "cpu")
    save_file({**tensors, "vision_tower.patch_positional_embedding.inv_freq": extra}, path)
    assert vitrail.load(tmp_path, "cpu")


def test_an_index_cannot_lead_elsewhere(tmp_path: Path) -> None:
    official(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}}))
    with pytest.raises(vitrail.WeightsError, match="which is no file beside it"):
        vitrail.load(tmp_path, "cpu")


# Pictures


def rule(longest: int, patch: int = 14, merge: int = 2) -> NativeResolutionConfig:
    """As read from a folder with that image processor."""
    files = {
        "config.json": {"vision_config": {"patch_size": patch}, "spatial_merge_size": merge},
        "preprocessor_config.json": {"size": {"longest_edge": longest}},
    }
    return mistral3.read(Official(files, {})).model.media


@settings(deadline=None)
@given(
    width=st.integers(1, 4000),
    height=st.integers(1, 4000),
    longest=st.sampled_from([64, 150, 1024, 1540]),
    merge=st.integers(1, 3),
)
def test_sizes_are_the_official_ones(width: int, height: int, longest: int, merge: int) -> None:
    if max(width, height) > 60 * min(width, height):
        return  # of a sliver the official rule may leave nothing
    (view,) = NativeResolution(rule(longest, merge=merge)).views(width, height)
    image = np.broadcast_to(np.zeros((), np.uint8), (height, width, 3))
    unit = 14 * merge
    expected = get_resize_output_image_size(image, (longest, longest), (unit, unit), input_data_format="channels_last")
    assert (view.height, view.width) == expected


@pytest.mark.parametrize("shape", [(56, 84), (40, 91), (301, 77)])
def test_pixels_are_the_official_ones(shape: tuple[int, int]) -> None:
    """Of transformers' Pillow backend; the one of torchvision resizes a little differently."""
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    config = rule(112)
    media = NativeResolution(config)
    (found,) = pixels_of(media, image, media.views(shape[1], shape[0]))
    processor = PixtralImageProcessorPil(size={"longest_edge": 112}, patch_size=28)
    expected = processor(Image.fromarray(image), return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(found.transpose(2, 0, 1), expected, atol=2e-6)


def test_picture_settings_come_from_where_they_are(tmp_path: Path) -> None:
    """A file of the image processor's own, the processor's since transformers 5, or none."""
    official(tmp_path)
    assert mistral3.read(read_folder(tmp_path)).model.media.max_side == VISION["image_size"]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": {"longest_edge": 128}}))
    assert mistral3.read(read_folder(tmp_path)).model.media.max_side == 128
    processor = {"image_token": "<pic>", "image_processor": {"image_mean": [0, 0.5, 1], "size": {"longest_edge": 96}}}
    (tmp_path / "processor_config.json").write_text(json.dumps(processor))
    spec = mistral3.read(read_folder(tmp_path))
    assert (spec.model.media.max_side, spec.model.media.mean) == (96, (0.0, 0.5, 1.0))
    assert spec.prompt.picture == PictureConfig("<pic>", "[IMG_BREAK]", "[IMG_END]")
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": {"resample": 2}}))
    with pytest.raises(vitrail.WeightsError, match="image processor's resample is 2, supported: 3"):
        vitrail.load(tmp_path, "cpu")


def test_the_parameters_at_full_size_are_the_official_number() -> None:
    """transformers' own defaults are Mistral Small 3.1, published as 24B."""
    config = Mistral3Config(tie_word_embeddings=False)
    spec = mistral3.read(Official({"config.json": config.to_dict()}, {}))
    with torch.device("meta"):
        ours = unfilled(spec.model, spec.backbone)
        theirs = Mistral3ForConditionalGeneration(config)
    count = sum(parameter.numel() for parameter in ours.parameters())
    assert count == sum(parameter.numel() for parameter in theirs.parameters())
    assert round(count / 1e9) == 24
