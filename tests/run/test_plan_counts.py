"""What `plan` says of steps is what training does; what it times is what the objective runs; bytes are those in use."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vitrail import build
from vitrail.cli.plan import _steps
from vitrail.data.encode import Encode
from vitrail.models.assembled import MultimodalModel
from vitrail.models.backbones.decoder import Decoder
from vitrail.models.weights import in_format
from vitrail.recipe.read import read_recipe
from vitrail.recipe.schema import Recipe
from vitrail.run import plan_load
from vitrail.run.plan import _held, make_plan
from vitrail.run.plan_cost import cost_of_pack
from vitrail.run.plan_load import load_of
from vitrail.training.config import StageConfig
from vitrail.training.device import Device
from vitrail.training.loop import Trainer
from vitrail.training.objectives.dpo import LiveDPO
from vitrail.training.optimizer import Optimizer, freeze_all_but

Make = Callable[..., MultimodalModel]
CPU = Device("cpu", "float32", 1, compiled=False)


@pytest.mark.parametrize("policy", ["best_fit", "fixed_length"])
@pytest.mark.parametrize(
    "length",
    [
        {"epochs": 1, "accumulate": 4},
        {"epochs": 2, "accumulate": 32},
        {"epochs": 1.3, "accumulate": 3},
        {"epochs": 0.2},
        {"tokens": 1500, "accumulate": 2},
        {"steps": 3, "accumulate": 2},
    ],
)
def test_steps_are_those_that_training_takes(
    length: dict[str, Any],
    policy: str,
    tiny_model: Make,
    tiny_recipe: Recipe,
    tiny_encode: Encode,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan_load, "COUNT_SECONDS", 1e9)
    pack: Any = dataclasses.replace(tiny_recipe.data.pack, policy=policy)
    stage = StageConfig("only", {"projector": 1e-3}, **length)
    data = dataclasses.replace(tiny_recipe.data, pack=pack)
    recipe = dataclasses.replace(tiny_recipe, data=data, stages=(stage,))
    load = load_of(recipe, stage, tiny_encode, CPU)
    stages = build.build_stages(recipe, tiny_encode, CPU)
    state = Trainer(tiny_model().train(), stages, tmp_path, CPU, checkpoint_every=100).run()
    assert load.known
    assert load.steps == state.total_steps > 0


def test_a_set_too_large_to_count_is_reckoned(
    tiny_recipe: Recipe, tiny_encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_load, "COUNT_SECONDS", 0.0)
    stage = StageConfig("only", {"projector": 1e-3}, epochs=30, accumulate=2)
    recipe = dataclasses.replace(tiny_recipe, stages=(stage,))
    load = load_of(recipe, stage, tiny_encode, CPU)
    assert not load.known
    assert load.steps is not None
    monkeypatch.setattr(plan_load, "COUNT_SECONDS", 1e9)
    counted = load_of(recipe, stage, tiny_encode, CPU)
    assert counted.known
    assert counted.steps == pytest.approx(load.steps, rel=0.2)
    assert _steps(load.steps, load.known).startswith("about ")


def test_the_reference_of_preferences_is_timed(tiny_recipe_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for every pair, however many epochs there are; the pairs themselves are in the pack that is measured."""
    seen: list[int] = []
    before = LiveDPO._before

    def counted(self: LiveDPO, model: MultimodalModel, batch: Any) -> Any:
        seen.append(len(batch.sample_ids))
        return before(self, model, batch)

    monkeypatch.setattr(LiveDPO, "_before", counted)
    changes = ["data.train.pairs=true", "stages.align=null", "stages.instruct.objective={kind: dpo}"]
    recipe = read_recipe(str(tiny_recipe_file), changes).value
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    encode = build.build_encode(recipe.model, recipe.prompt, tokenizer)
    (stage,) = recipe.stages
    load = load_of(recipe, stage, encode, CPU)
    cost = cost_of_pack(recipe, stage, tokenizer.vocabulary, load.batch, CPU)
    assert cost.once > 0
    assert seen
    assert all(count == len(load.batch.sample_ids) and count % 2 == 0 for count in seen)
    short = dataclasses.replace(stage, steps=None, epochs=3)
    count = load_of(dataclasses.replace(recipe, stages=(short,)), short, encode, CPU)
    assert count.packs > 2 * count.fresh > 0


@pytest.mark.usefixtures("quick_plan")
def test_what_an_objective_does_not_run_is_not_timed(tiny_recipe_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`embedding_alignment` takes a fraction of the time of the next-token loss: the language model is not run."""

    def run(self: Decoder, *given: Any, **named: Any) -> Any:
        raise AssertionError("the language model is not run")

    monkeypatch.setattr(Decoder, "forward", run)
    changes = [
        "data.train={kind: lines, rows: 8, split: train, unit: 8}",
        "stages.instruct=null",
        "stages.align.objective={kind: embedding_alignment}",
    ]
    made = make_plan(read_recipe(str(tiny_recipe_file), changes).value, CPU)
    assert made.stages[0].seconds


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_of_a_trained_parameter_are_those_in_use(dtype: torch.dtype, tiny_model: Make) -> None:
    """Counted tensor by tensor when they are all there: behind the passes of a second step, before it moves."""
    model = tiny_model()
    in_format(model, dtype)
    stage = StageConfig("only", {"encoder": 1e-3, "backbone": 1e-3}, steps=1)
    freeze_all_but(model, stage.train, stage.name)
    optimizer = Optimizer(model, stage.train, stage.optimizer)
    for parameter in optimizer.parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step(1.0)
    for _ in range(2):
        optimizer.collect()
        for parameter in optimizer.parameters:
            parameter.grad = torch.ones_like(parameter)
    held = [*model.parameters(), *optimizer.masters]
    held += [one.grad for one in (*optimizer.parameters, *optimizer.masters) if one.grad is not None]
    held += [moment for state in optimizer.adamw.state.values() for moment in state.values() if moment.ndim]
    found = {one.untyped_storage().data_ptr(): one.nbytes for one in held}
    scalars = sum(4 for one in optimizer.parameters if not one.ndim)
    trainable = sum(one.numel() for one in optimizer.parameters)
    assert sum(found.values()) == pytest.approx(_held(stage, model, trainable, dtype), abs=16 * scalars)
