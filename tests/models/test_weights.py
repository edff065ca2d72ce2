"""Finished models on disk: what is saved comes back, and what does not fit is one clear line."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vitrail import build
from vitrail.contracts.errors import WeightsError
from vitrail.data.encode import Encode
from vitrail.inference.chat_model import ChatModel, conversation
from vitrail.models.assembled import MultimodalModel
from vitrail.models.weights import load_model, load_tensors, unshared
from vitrail.recipe.schema import Recipe

Make = Callable[..., MultimodalModel]


@pytest.fixture
def saved(tiny_model: Make, tiny_encode: Encode, tiny_recipe: Recipe, tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    build.save_weights(tiny_model(1), tiny_encode, tiny_recipe.model, tiny_recipe.prompt, folder)
    return folder


@torch.no_grad()
def test_a_saved_model_gives_the_same_logits(saved: Path, tiny_model: Make, tiny_encode: Encode) -> None:
    """Opened without its recipe, by its own folder or by the run's."""
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    asked = conversation((picture, "What is it?"))
    before = ChatModel(tiny_model(1).eval(), tiny_encode)
    expected = before.model.logits(before.model(before.prompt(asked)))
    for place in (saved, saved.parent, str(saved)):
        after = build.load(place, device="cpu")
        assert torch.equal(after.model.logits(after.model(after.prompt(asked))), expected)
        assert after.encode.template == tiny_encode.template
    assert not after.model.training


def test_nothing_half_written_is_left(saved: Path) -> None:
    assert {path.name for path in saved.iterdir()} >= {"model.safetensors", "vitrail.yaml", "tokenizer.json"}
    assert not list(saved.glob("*.part"))


def test_tied_tensors_are_kept_once(tiny_model: Make) -> None:
    model = tiny_model()
    names = set(unshared(model))
    assert "backbone.lm.model.embed_tokens.weight" in names
    assert "backbone.lm.lm_head.weight" not in names
    assert names == {name for name, _ in model.named_parameters()}


def change(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"encoder.stem.weight": None}, "is of another model: it lacks 'encoder.stem.weight'"),
        ({"encoder.extra": torch.zeros(1)}, "is of another model: it has 'encoder.extra', which the model has not"),
        (
            {"encoder.stem.weight": torch.zeros(3, 2)},
            r"is of another model: 'encoder.stem.weight' is \[3, 2\], expected \[32, 192\]",
        ),
    ],
)
def test_weights_of_another_model(
    saved: Path, tiny_model: Make, changed: dict[str, torch.Tensor], message: str
) -> None:
    """Named by the first tensor that does not fit; the model is left as it was."""
    path = saved / "model.safetensors"
    tensors = {**{name: tensor + 1 for name, tensor in load_file(path).items()}, **changed}
    change(path, tensors)
    model = tiny_model()
    with pytest.raises(WeightsError, match=message) as caught:
        load_model(model, path)
    assert "\n" not in str(caught.value)
    fresh = tiny_model().state_dict()
    assert all(torch.equal(tensor, fresh[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("keep", [0, 4, 500, -1])
def test_a_truncated_file(saved: Path, keep: int) -> None:
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"model\.safetensors' is damaged: ") as caught:
        build.load(saved)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"model\.safetensors' does not exist$"):
        load_tensors(tmp_path / "model.safetensors")


def test_no_finished_model(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"holds no finished model: neither vitrail\.yaml nor weights/vitrail\.yaml"):
        build.load(tmp_path)


def test_a_description_of_a_later_version(saved: Path) -> None:
    path = saved / "vitrail.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("layout: 2", "layout: 3"), encoding="utf-8")
    with pytest.raises(WeightsError, match="has layout 3, this version reads up to 2"):
        build.load(saved)
    path.write_text(text + "shape: round\n", encoding="utf-8")
    with pytest.raises(WeightsError, match=r"this version cannot read the model's description: .*shape"):
        build.load(saved)


def test_a_description_of_another_size(saved: Path) -> None:
    path = saved / "vitrail.yaml"
    text = path.read_text(encoding="utf-8")
    assert "depth: 2" in text
    path.write_text(text.replace("depth: 2", "depth: 3"), encoding="utf-8")
    with pytest.raises(WeightsError, match=r"it lacks 'encoder\.blocks\.2\."):
        build.load(saved)


def test_half_precision_is_opened_in_single(saved: Path, tiny_model: Make) -> None:
    path = saved / "model.safetensors"
    change(path, {name: tensor.bfloat16() for name, tensor in load_file(path).items()})
    model = build.load(saved, device="cpu").model
    expected = tiny_model(1).state_dict()
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    assert all(torch.equal(tensor, expected[name].bfloat16().float()) for name, tensor in model.state_dict().items())


def test_an_untied_head_is_kept(tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path) -> None:
    settings = {**tiny_recipe.model.backbone.config, "tie_word_embeddings": False}
    config = dataclasses.replace(
        tiny_recipe.model, backbone=dataclasses.replace(tiny_recipe.model.backbone, config=settings)
    )
    model = build.build_model(config, tiny_encode.tokenizer.vocabulary, seed=2)
    build.save_weights(model, tiny_encode, config, tiny_recipe.prompt, tmp_path)
    head = build.load(tmp_path, device="cpu").model.backbone.head_weight()
    assert torch.equal(head, model.backbone.head_weight())
    assert not torch.equal(head, model.backbone.lm.get_input_embeddings().weight)
