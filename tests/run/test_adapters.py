"""A whole run with adapters, and what `plan` says of it beforehand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from vitrail import build
from vitrail.contracts.errors import DataError, WeightsError
from vitrail.export import components
from vitrail.models.backbones.adapters import of_adapter
from vitrail.models.weights import finished, load_model
from vitrail.recipe.read import read_recipe
from vitrail.recipe.schema import Recipe
from vitrail.run.plan import make_plan
from vitrail.run.train import train
from vitrail.training import checkpoint
from vitrail.training.device import Device, choose

LORA = "model.backbone.lora={rank: 2, alpha: 4}"


def recipe_of(path: Path, *overrides: str) -> Recipe:
    return read_recipe(str(path), overrides).value


@pytest.mark.usefixtures("quick_plan")
def test_plan_counts_what_learns(tiny_recipe_file: Path) -> None:
    """Adapters are what the backbone trains; the rest of it costs its weights alone."""
    with_lora, without = recipe_of(tiny_recipe_file, LORA), recipe_of(tiny_recipe_file)
    device = choose(with_lora.training)
    planned, plain = make_plan(with_lora, device), make_plan(without, device)
    vocabulary = build.build_tokenizer(with_lora.model.backbone, with_lora.prompt).vocabulary
    model = build.build_model(with_lora.model, vocabulary, 0)
    adapters = sum(p.numel() for name, p in model.named_parameters() if of_adapter(name))
    sizes = {"q": (32, 32), "k": (32, 16), "v": (32, 16), "o": (32, 32), "gate": (32, 48), "up": (32, 48)}
    assert adapters == 2 * 2 * (sum(map(sum, sizes.values())) + 48 + 32), "layers x rank x (in + out)"
    assert planned.parameters["backbone"] == plain.parameters["backbone"] + adapters
    align, instruct = planned.stages
    others = planned.parameters["encoder"] + planned.parameters["projector"]
    assert (align.trainable, instruct.trainable) == (plain.parameters["projector"], others + adapters)
    assert plain.stages[1].trainable == others + plain.parameters["backbone"]


@pytest.mark.usefixtures("quick_plan")
def test_memory_is_that_of_what_learns(tiny_recipe_file: Path) -> None:
    """A wide backbone, so that the weights outweigh what a pass keeps."""
    wide = ["model.backbone.config.hidden_size=512", "model.backbone.config.intermediate_size=1536"]
    device = Device("cpu", "float32", 1, compiled=False)
    with_lora = make_plan(recipe_of(tiny_recipe_file, LORA, *wide), device).stages[1]
    without = make_plan(recipe_of(tiny_recipe_file, *wide), device).stages[1]
    # A trained float32 parameter is accompanied by its gradient and two moments.
    spared = (without.trainable - with_lora.trainable) * 12 / 2**30
    assert spared > 0.05
    assert without.memory_gib - with_lora.memory_gib > 0.9 * spared


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_recipe_text: str) -> Path:
    """A run with everything that can be measured."""
    base = tmp_path_factory.mktemp("adapters")
    (base / "tiny.yaml").write_text(tiny_recipe_text, encoding="utf-8")
    (base / "mine.txt").write_text("It was a bright day, and the clocks were striking. " * 30, encoding="utf-8")
    overrides = [
        LORA,
        f"run={base / 'run'}",
        f"evaluate.text={base / 'mine.txt'}",
        "data.held_out={kind: drawn, split: test, rows: 4}",
        "evaluate.max_tokens=3",
        *(f"evaluate.{name}=true" for name in ("answers", "before", "blind")),
        "stages.instruct.train.backbone=0.05",
    ]
    train(read_recipe(str(base / "tiny.yaml"), overrides))
    return base / "run"


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return found


def test_everything_is_measured_and_kept(done: Path) -> None:
    """The scores, the blind baseline, which trains its own adapters, and the plain text before and after."""
    found = results(done)
    assert {"before", "after", "blind", "text_before", "text_after", "text_change"} <= found.keys()
    before, after = found["text_before"], found["text_after"]
    assert before["value"] != after["value"]
    assert found["text_change"]["value"] == pytest.approx(after["value"] - before["value"])
    assert found["text_change"]["n"] == before["n"] == 3
    page = (done / "report.html").read_text(encoding="utf-8")
    assert 'id="language"' in page
    blind = checkpoint.latest(done / "blind" / "checkpoints")
    assert blind is not None
    assert any(of_adapter(name) for name in load_file(blind / "model.safetensors"))
    names = {path.name for path in (done / "adapter").iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors"}


def test_the_finished_model_is_the_trained_one(done: Path) -> None:
    """Its weights are those of the last checkpoint, merged; opened anew it has no adapters."""
    recipe = recipe_of(done / "recipe.yaml")
    last = checkpoint.latest(done / "checkpoints")
    assert last is not None
    loaded = build.load(done, device="cpu").model
    model = build.build_model(recipe.model, loaded.backbone.vocabulary, seed=1)
    load_model(model, last / "model.safetensors")
    written = load_file(done / "weights" / "model.safetensors")
    assert all(torch.equal(tensor, written[name]) for name, tensor in finished(model).items())
    start = build.build_model(recipe.model, loaded.backbone.vocabulary, seed=recipe.seed)
    name = "backbone.lm.model.layers.1.mlp.down_proj.weight"
    assert not torch.equal(written[name], finished(start)[name])
    assert not [name for name, _ in loaded.named_parameters() if "lora" in name or "base_layer" in name]


def test_the_package_carries_a_text(tiny_recipe_file: Path, tmp_path: Path) -> None:
    """Without held-out rows too; the same command again measures nothing anew."""
    overrides = [f"run={tmp_path / 'run'}", "evaluate.text=true", "stages.align=null", "stages.instruct.steps=1"]
    train(read_recipe(str(tiny_recipe_file), overrides))
    found = results(tmp_path / "run")
    assert found["text_before"]["n"] > 40
    assert not (tmp_path / "run" / "adapter").exists()
    train(read_recipe(str(tiny_recipe_file), overrides))
    assert {name: found[name] for name in found if "text" in name} == {
        name: value for name, value in results(tmp_path / "run").items() if "text" in name
    }


def test_a_text_that_is_not_there_costs_nothing(tiny_recipe_file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"evaluate\.text: cannot read 'gone\.txt'"):
        train(read_recipe(str(tiny_recipe_file), [f"run={tmp_path / 'run'}", "evaluate.text=gone.txt"]))
    assert not (tmp_path / "run").exists()


def test_a_recipe_begins_with_the_adapter_of_another_run(done: Path, tiny_recipe_file: Path) -> None:
    recipe = recipe_of(tiny_recipe_file, LORA[:-1] + f", weights: {done}}}")
    vocabulary = build.build_tokenizer(recipe.model.backbone, recipe.prompt).vocabulary
    pairs = {name for name, _ in build.build_model(recipe.model, vocabulary, 0).named_parameters() if of_adapter(name)}
    begun = build.starting_model(recipe.model, vocabulary, 0).state_dict()
    saved = load_file(done / "adapter" / "adapter_model.safetensors")
    assert len(saved) == len(pairs)
    for name in pairs:
        filed = name.replace("backbone.lm.", "base_model.model.").replace(".default.", ".")
        assert torch.equal(begun[name], saved[filed]), name
    # The pairs of a new adapter would add nothing.
    assert any(begun[name].abs().max() > 0 for name in pairs if "lora_B" in name)


def test_the_language_is_compared_with_the_model_as_it_came(done: Path, tiny_recipe_file: Path, tmp_path: Path) -> None:
    """Not with the adapter that the recipe begins with, which has cost some of it already."""
    train(
        read_recipe(
            str(tiny_recipe_file),
            [
                LORA[:-1] + f", weights: {done}}}",
                f"run={tmp_path / 'run'}",
                f"evaluate.text={done.parent / 'mine.txt'}",
                "stages.align=null",
                "stages.instruct={name: instruct, steps: 1, train: {projector: 1.0e-9}}",
            ],
        )
    )
    begun, ended = results(tmp_path / "run"), results(done)
    assert begun["text_before"]["windows"] == ended["text_before"]["windows"]
    assert begun["text_after"]["windows"] == pytest.approx(ended["text_after"]["windows"], rel=1e-4)


def test_an_adapter_that_does_not_fit_is_one_line(done: Path, tiny_recipe_file: Path, tmp_path: Path) -> None:
    for lora, said in (
        (f"{{rank: 2, alpha: 8, weights: {done}}}", "lora.alpha is 8, the adapter in .* has 4"),
        (f"{{rank: 4, alpha: 4, weights: {done}}}", "lora.rank is 4, the adapter in .* has 2"),
        (f"{{rank: 2, alpha: 4, weights: {tmp_path}}}", "holds no adapter"),
    ):
        recipe = recipe_of(tiny_recipe_file, f"model.backbone.lora={lora}")
        vocabulary = build.build_tokenizer(recipe.model.backbone, recipe.prompt).vocabulary
        with pytest.raises(WeightsError, match=said) as caught:
            build.starting_model(recipe.model, vocabulary, 0)
        assert "\n" not in str(caught.value)


def test_components_are_written_for_other_recipes(done: Path, tiny_recipe_file: Path, tmp_path: Path) -> None:
    """Encoder, projector and adapter in half the bytes; a recipe that takes them begins where the run ended."""
    adapter = build.adapter_folder(str(done))
    names, _ = components.export(build.weights_folder(done), adapter, tmp_path / "parts", torch.bfloat16)
    assert names == ["encoder", "projector"]
    parts = load_file(tmp_path / "parts" / "model.safetensors")
    assert {name.split(".")[0] for name in parts} == {"encoder", "projector"}
    weights = f"model.weights={{encoder: {tmp_path / 'parts'}, projector: {tmp_path / 'parts'}}}"
    recipe = recipe_of(tiny_recipe_file, LORA[:-1] + f", weights: {tmp_path / 'parts'}}}", weights)
    vocabulary = build.build_tokenizer(recipe.model.backbone, recipe.prompt).vocabulary
    begun = build.starting_model(recipe.model, vocabulary, 0).state_dict()
    ended = load_file(done / "weights" / "model.safetensors")
    for name, tensor in parts.items():
        assert torch.equal(begun[name], ended[name].bfloat16().float())
        assert torch.equal(begun[name], tensor.float())
    (tmp_path / "text").mkdir()
    save_file({"backbone.lm.norm.weight": torch.zeros(1)}, tmp_path / "text" / "model.safetensors")
    with pytest.raises(WeightsError, match="holds no encoder, projector or fusion"):
        components.export(tmp_path / "text", adapter, tmp_path / "more", torch.float32)
