"""Adapters of the language model: nothing at first, the only thing that learns, and gone from a finished model."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from vitrail import build
from vitrail.contracts.errors import RecipeError
from vitrail.contracts.samples import Batch, Pack, Segments
from vitrail.data.collate import collate
from vitrail.data.dialects import to_conversation
from vitrail.data.encode import Encode
from vitrail.inference.chat_model import ChatModel, conversation
from vitrail.models.assembled import MultimodalModel
from vitrail.models.backbones.adapters import of_adapter
from vitrail.models.config import LoraConfig, ModelConfig
from vitrail.models.weights import finished, load_component, unshared
from vitrail.recipe.schema import Recipe
from vitrail.training.optimizer import freeze_all_but

Make = Callable[..., MultimodalModel]
LORA = LoraConfig(rank=3, alpha=12)


@pytest.fixture(scope="module")
def config(tiny_recipe: Recipe) -> ModelConfig:
    return dataclasses.replace(tiny_recipe.model, backbone=dataclasses.replace(tiny_recipe.model.backbone, lora=LORA))


@pytest.fixture
def adapted(config: ModelConfig, tiny_encode: Encode) -> MultimodalModel:
    """As after training: both matrices of every pair are something."""
    model = build.build_model(config, tiny_encode.tokenizer.vocabulary, seed=0)
    chance = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if of_adapter(name):
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=chance))
    return model.eval()


@pytest.fixture(scope="module")
def batch(tiny_recipe: Recipe, tiny_encode: Encode) -> Batch:
    source, dialect = build.build_source(tiny_recipe.data.train)
    samples = tuple(tiny_encode(to_conversation(source.row(index), dialect), source.name) for index in range(3))
    made, _ = collate(Pack(samples), tiny_encode.media)
    assert made is not None
    return made


def logits(model: MultimodalModel, encode: Encode) -> Tensor:
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    with torch.no_grad():
        return model.logits(model(ChatModel(model, encode).prompt(conversation((picture, "What is it?")))))


def test_they_change_nothing_at_first(config: ModelConfig, tiny_model: Make, tiny_encode: Encode) -> None:
    """The other weights are those of the same seed without adapters, and so is the caller's stream of chance."""
    torch.manual_seed(5)
    plain, after_plain = tiny_model(4), torch.rand(1)
    torch.manual_seed(5)
    model = build.build_model(config, tiny_encode.tokenizer.vocabulary, seed=4)
    assert torch.equal(torch.rand(1), after_plain)
    assert torch.equal(logits(model.eval(), tiny_encode), logits(plain.eval(), tiny_encode))
    assert all(torch.equal(tensor, unshared(plain)[name]) for name, tensor in finished(model).items())
    again = build.build_model(config, tiny_encode.tokenizer.vocabulary, seed=4).state_dict()
    other = build.build_model(config, tiny_encode.tokenizer.vocabulary, seed=5).state_dict()
    down = [name for name in again if "lora_A" in name]
    assert len(down) == 2 * len(LORA.targets)
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())
    assert not any(torch.equal(again[name], other[name]) for name in down)


def test_only_they_get_gradients(adapted: MultimodalModel, batch: Batch) -> None:
    """The frozen matrices, the embeddings and the head have no buffer for any."""
    freeze_all_but(adapted, {"backbone": 1e-3, "projector": 1e-3}, "a")
    loss = adapted.loss_sum(batch)
    assert loss.grad_fn is not None
    _, of_head = loss.grad_fn.saved_tensors  # type: ignore[attr-defined]
    assert of_head is None
    loss.backward()
    for name, parameter in adapted.named_parameters():
        learns = name.startswith("projector.") or of_adapter(name)
        assert parameter.requires_grad == (parameter.grad is not None) == learns, name
    freeze_all_but(adapted, {"projector": 1e-3}, "b")
    assert not any(parameter.requires_grad for parameter in adapted.backbone.parameters())


def test_a_finished_model_is_one_without(
    adapted: MultimodalModel,
    config: ModelConfig,
    tiny_recipe: Recipe,
    tiny_model: Make,
    tiny_encode: Encode,
    tmp_path: Path,
) -> None:
    """Names, shapes, types and description; and it says what the one with adapters said."""
    build.save_weights(adapted, tiny_encode, config, tiny_recipe.prompt, tmp_path)
    written, plain = load_file(tmp_path / "model.safetensors"), unshared(tiny_model())
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in written.items()} == {
        name: (tensor.shape, tensor.dtype) for name, tensor in plain.items()
    }
    assert "lora: null" in (tmp_path / "vitrail.yaml").read_text(encoding="utf-8")
    loaded = build.load(tmp_path, device="cpu").model
    assert loaded.backbone.lora is None
    torch.testing.assert_close(logits(loaded, tiny_encode), logits(adapted, tiny_encode), rtol=1e-5, atol=1e-5)
    assert (logits(tiny_model().eval(), tiny_encode) - logits(adapted, tiny_encode)).abs().max() > 0.1


def test_merging_is_pefts(adapted: MultimodalModel) -> None:
    ours = finished(adapted)
    theirs = copy.deepcopy(adapted)
    for module in theirs.modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            module.merge()
    compared = 0
    for name, tensor in theirs.state_dict().items():
        if ".base_layer." in name:
            torch.testing.assert_close(ours[name.replace(".base_layer.", ".")], tensor, rtol=1e-6, atol=1e-7)
            compared += 1
    assert compared == 2 * len(LORA.targets)
    assert "backbone.lm.model.layers.0.self_attn.q_proj.base_layer.weight" in unshared(adapted), "left as it was"


def test_what_bfloat16_would_swallow_is_kept(adapted: MultimodalModel) -> None:
    """The frozen weights lie on bfloat16's grid: changes of less than half a step would all fall back onto it."""
    adapted = adapted.bfloat16()
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.mul_(1e-4)
    name = "backbone.lm.model.layers.1.mlp.up_proj"
    tensors, made = unshared(adapted), finished(adapted)
    start = tensors[f"{name}.base_layer.weight"]
    assert {made[key].dtype for key in made if "_proj" in key and "layers" in key} == {torch.float32}
    assert made["backbone.lm.model.norm.weight"].dtype == torch.bfloat16
    change = made[f"{name}.weight"] - start.float()
    pair = [tensors[f"{name}.lora_{one}.default.weight"].float() for one in "AB"]
    torch.testing.assert_close(change, pair[1] @ pair[0] * 4, rtol=1e-2, atol=1e-7)
    lost = made[f"{name}.weight"].bfloat16() == start
    assert lost.float().mean() > 0.5, "as most of it would be in bfloat16"


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft asks transformers for it
def test_peft_reads_the_adapter(
    adapted: MultimodalModel, config: ModelConfig, tiny_model: Make, tiny_encode: Encode, tmp_path: Path
) -> None:
    """Onto the language model it was trained on, opened by transformers."""
    plain = tiny_model(0)
    plain.backbone.lm.save_pretrained(tmp_path / "base")
    tiny_encode.tokenizer.save(str(tmp_path / "base"))
    build.save_adapter(adapted, config, tmp_path / "adapter")
    names = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors"}
    said = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert (said["r"], said["lora_alpha"], said["base_model_name_or_path"]) == (3, 12, None)
    assert said["target_modules"] == sorted(LORA.targets)
    assert said["inference_mode"] is True
    official = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    ids = torch.randint(200, (19,), generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def of(model: MultimodalModel) -> Tensor:
        hidden = model.backbone(model.backbone.embed(ids), torch.arange(19), Segments((19,)))
        return model.logits(hidden)

    with torch.no_grad():
        torch.testing.assert_close(official(ids[None]).logits[0], of(plain), rtol=1e-5, atol=1e-5)
        model = peft.PeftModel.from_pretrained(official, str(tmp_path / "adapter")).eval()
        torch.testing.assert_close(model(ids[None]).logits[0], of(adapted), rtol=1e-5, atol=1e-5)
    assert (of(plain) - of(adapted)).abs().max() > 0.1


def test_the_base_is_named_where_there_is_one(config: ModelConfig, adapted: MultimodalModel, tmp_path: Path) -> None:
    official = dataclasses.replace(config.backbone, config={}, id=str(tmp_path))
    for weights, expected in (({}, str(tmp_path)), ({"backbone": "runs/other"}, None)):
        named = dataclasses.replace(config, backbone=official, weights=weights)
        build.save_adapter(adapted, named, tmp_path / "adapter")
        said = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
        assert said["base_model_name_or_path"] == expected
    assert adapted.backbone.lm.peft_config["default"].base_model_name_or_path is None, "the model is left as it was"


def test_a_backbone_from_another_run_goes_under_them(
    config: ModelConfig, tiny_model: Make, tiny_encode: Encode, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    other = tiny_model(9)
    build.save_weights(other, tiny_encode, tiny_recipe.model, tiny_recipe.prompt, tmp_path)
    model = build.build_model(config, tiny_encode.tokenizer.vocabulary, seed=0)
    load_component(model, "backbone", tmp_path / "model.safetensors")
    theirs = unshared(other)
    for name, tensor in finished(model).items():
        assert torch.equal(tensor, theirs[name]) == (name.startswith("backbone.")) or tensor.unique().numel() == 1, name
    started = build.starting_model(
        dataclasses.replace(config, weights={"backbone": str(tmp_path)}), tiny_encode.tokenizer.vocabulary, seed=0
    )
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in started.state_dict().items())


def test_an_unknown_target_is_one_line(config: ModelConfig, tiny_encode: Encode) -> None:
    wrong = dataclasses.replace(config.backbone, lora=LoraConfig(targets=("q_proj", "k_prj")))
    with pytest.raises(
        RecipeError,
        match=r"^model\.backbone\.lora\.targets: the layers of the language model have no 'k_prj' \(did you mean "
        r"'k_proj'\?\); they have: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj$",
    ):
        build.build_model(dataclasses.replace(config, backbone=wrong), tiny_encode.tokenizer.vocabulary, seed=0)


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_what_the_layers_do_not_hold_is_no_target(target: str, config: ModelConfig, tiny_encode: Encode) -> None:
    """The head's matrix is used without its module, so an adapter there would do nothing."""
    wrong = dataclasses.replace(config.backbone, lora=LoraConfig(targets=(target,)))
    with pytest.raises(RecipeError, match=f"have no '{target}'"):
        build.build_model(dataclasses.replace(config, backbone=wrong), tiny_encode.tokenizer.vocabulary, seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank is 0, must be 1 or more"),
        ({"alpha": 0}, "alpha is 0, must be more than 0"),
        ({"targets": ()}, "targets names no matrix"),
        ({"dropout": 0.1}, r"dropout is 0\.1, only 0 is supported"),
    ],
)
def test_settings_that_mean_nothing(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoraConfig(**settings)  # type: ignore[arg-type]
