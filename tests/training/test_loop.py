"""The loop: what a step computes, whom it moves, and what it refuses."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vitrail import build
from vitrail.contracts.errors import RecipeError
from vitrail.contracts.samples import Batch, Pack, Sample
from vitrail.data.collate import collate
from vitrail.data.config import JsonlConfig, PackConfig
from vitrail.data.dialects import to_conversation
from vitrail.data.encode import Encode
from vitrail.data.ledger import Ledger
from vitrail.data.loader import Cursor
from vitrail.models.assembled import MultimodalModel
from vitrail.models.config import CustomConfig
from vitrail.models.weights import in_format
from vitrail.recipe.read import read_recipe
from vitrail.recipe.schema import Recipe
from vitrail.training import runlog
from vitrail.training.config import StageConfig
from vitrail.training.device import Device
from vitrail.training.loop import Stage, Trainer
from vitrail.training.objectives import NextToken, Term

Make = Callable[..., MultimodalModel]
CPU = Device("cpu", "float32", 1, compiled=False)
EVERYTHING = {"encoder": 1e-3, "projector": 1e-3, "backbone": 1e-3}


def trainer_of(model: MultimodalModel, recipe: Recipe, encode: Encode, folder: Path) -> Trainer:
    return Trainer(model.train(), build.build_stages(recipe, encode, CPU), folder, CPU, checkpoint_every=100)


def one_stage(recipe: Recipe, train: Mapping[str, float], **settings: Any) -> Recipe:
    return dataclasses.replace(recipe, stages=(StageConfig("only", train, **{"steps": 3, **settings}),))


def gradients(model: MultimodalModel) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.fixture(scope="module")
def samples(tiny_recipe: Recipe, tiny_encode: Encode) -> list[Sample]:
    """Eight, of quite different lengths and numbers of labels."""
    source, dialect = build.build_source(tiny_recipe.data.train)
    return [tiny_encode(to_conversation(source.row(index), dialect), source.name) for index in range(8)]


def batches(samples: list[Sample], size: int, encode: Encode) -> list[Batch]:
    made = [collate(Pack(tuple(samples[at : at + size])), encode.media)[0] for at in range(0, len(samples), size)]
    return [batch for batch in made if batch is not None]


class Doubled(NextToken):
    """A second term, with a count and a weight of its own."""

    def counts(self, batch: Batch) -> Mapping[str, float]:
        return {**super().counts(batch), "samples": len(batch.sample_ids)}

    def __call__(self, model: MultimodalModel, batch: Batch) -> Mapping[str, Term]:
        terms = super().__call__(model, batch)
        size = model(batch).square().mean(1).sum()
        return {**terms, "samples": Term(size, len(batch.sample_ids), weight=0.3)}


@pytest.mark.parametrize("size", [8, 4, 2, 1])
@pytest.mark.parametrize("objective", [NextToken(), Doubled()])
def test_a_step_over_packs_is_one_division_by_their_whole_count(
    size: int,
    objective: NextToken,
    tiny_model: Make,
    tiny_recipe: Recipe,
    tiny_encode: Encode,
    samples: list[Sample],
    tmp_path: Path,
) -> None:
    """8 x 1 = 4 x 2 = 2 x 4 = 1 x 8, though packs differ in how many labels they hold."""
    model = tiny_model()
    trainer = trainer_of(model, tiny_recipe, tiny_encode, tmp_path)
    stage = Stage(StageConfig("only", EVERYTHING, steps=5), trainer.stages[0].stream, objective)
    values, *_ = trainer._backward(stage, batches(samples, size, tiny_encode))
    loss = sum(values.values())
    ours = gradients(model)

    model.zero_grad()
    alone = batches(samples, 1, tiny_encode)
    assert len({batch.label_weight for batch in alone}) > 4
    terms = [objective(model, batch) for batch in alone]
    whole = torch.zeros(())
    for name in terms[0]:
        total = sum(each[name].count for each in terms)
        whole = whole + terms[0][name].weight * torch.stack([each[name].loss_sum for each in terms]).sum() / total
    whole.backward()
    assert loss == pytest.approx(float(whole.detach()), rel=1e-6)
    for name, gradient in gradients(model).items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(
            ours[name], gradient, rtol=1e-4, atol=2e-6 * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_a_step_of_many_packs_sums_short_gradients_in_float32(
    tiny_model: Make, tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path
) -> None:
    """The norm that is clipped by is that of the exact sum of what each pack gives in bfloat16."""
    recipe = one_stage(tiny_recipe, EVERYTHING, steps=1, accumulate=64)
    recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, pack=PackConfig(280, 512, window=1)))
    trained, model, exact = tiny_model(), tiny_model().train(), dict[str, torch.Tensor]()
    for one in (trained, model):
        in_format(one, torch.bfloat16)
    trainer = trainer_of(trained, recipe, tiny_encode, tmp_path)
    items = list(itertools.islice(trainer.stages[0].stream.items(Cursor(), Ledger()), 64))
    total = sum(item.batch.label_weight for item in items)
    for item in items:
        model.zero_grad()
        (NextToken()(model, item.batch)["next_token"].loss_sum / total).backward()
        for name, gradient in gradients(model).items():
            exact[name] = exact.get(name, torch.zeros(())) + gradient.double()
    norm = float(torch.cat([gradient.flatten() for gradient in exact.values()]).norm())
    trainer.run()
    (record,) = runlog.read(tmp_path / "log.jsonl")
    assert record["gradient_norm"] == pytest.approx(norm, rel=1e-4)


@pytest.mark.parametrize("trained", [{"projector"}, {"encoder", "projector"}, {"backbone"}])
def test_what_a_stage_does_not_train_stays_bit_for_bit(
    trained: set[str], tiny_model: Make, tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path
) -> None:
    model, before = tiny_model(), tiny_model().state_dict()
    recipe = one_stage(tiny_recipe, {name: EVERYTHING[name] for name in trained})
    state = trainer_of(model, recipe, tiny_encode, tmp_path).run()
    assert (state.total_steps, state.stage) == (3, 1)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == (name.partition(".")[0] not in trained), name


def test_an_unknown_component(tiny_model: Make, tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path) -> None:
    trainer = trainer_of(tiny_model(), one_stage(tiny_recipe, {"projectr": 1.0}), tiny_encode, tmp_path)
    with pytest.raises(
        RecipeError, match=r"^stages\.only\.train: unknown component 'projectr' \(did you mean 'projector"
    ):
        trainer.run()


def rows(folder: Path, pictures: list[bool]) -> JsonlConfig:
    """Rows with a picture where it says so."""
    Image.new("RGB", (64, 64), "red").save(folder / "red.png")
    lines = []
    for number, pictured in enumerate(pictures):
        row = {"messages": [{"role": "user", "content": f"{number}?"}, {"role": "assistant", "content": "Red."}]}
        lines.append(json.dumps({**row, **({"images": ["red.png"]} if pictured else {})}))
    (folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return JsonlConfig(folder / "rows.jsonl")


@pytest.mark.parametrize(("length", "steps"), [({"steps": 50}, 10), ({"steps": 2}, 2), ({"epochs": 99}, 10)])
def test_a_stage_whose_components_take_no_part_is_refused(
    length: dict[str, int], steps: int, tiny_model: Make, tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path
) -> None:
    """Rows of text alone cannot teach a projector; it is said soon, not after the last step."""
    config = {"train": {"encoder": 1.0, "projector": 1.0}, "data": rows(tmp_path, [False] * 40), "steps": None}
    recipe = one_stage(tiny_recipe, **{**config, **length})
    trainer = trainer_of(tiny_model(), recipe, tiny_encode, tmp_path / "run")
    with pytest.raises(
        RecipeError, match=r"^stages\.only\.train: encoder, projector take no part in the loss"
    ) as caught:
        trainer.run()
    assert "\n" not in str(caught.value)
    assert len(runlog.read(tmp_path / "run" / "log.jsonl")) == steps - 1


@pytest.mark.parametrize("change", [(), ("model.fusion={kind: gated_cross_attention, every: 1}",)])
def test_media_tokens_are_counted_in_the_text_and_beside_it(
    change: tuple[str, ...], tiny_recipe_file: Path, tmp_path: Path
) -> None:
    """Cross-attention leaves no token of a picture in the text: the log's counter was 0 there."""
    gates = ("stages.align.train.fusion=1.0e-3",) if change else ()
    resolved = read_recipe(str(tiny_recipe_file), (*change, *gates)).value
    tokenizer = build.build_tokenizer(resolved.model.backbone, resolved.prompt)
    encode = build.build_encode(resolved.model, resolved.prompt, tokenizer)
    recipe = one_stage(resolved, EVERYTHING | ({"fusion": 1e-3} if change else {}), steps=2)
    model = build.build_model(recipe.model, tokenizer.vocabulary, seed=0)
    trainer = trainer_of(model, recipe, encode, tmp_path / "run")
    items = itertools.islice(trainer.stages[0].stream.items(Cursor(), Ledger()), 2)
    batches = [item.batch for item in items]
    state = trainer.run()
    shown = sum(view.tokens for batch in batches for stream in batch.media.values() for view in stream.views)
    assert state.counters["tokens: media"] == shown > 0
    total = sum(batch.tokens for batch in batches)
    assert state.counters["tokens: text"] == total - (0 if change else shown)
    assert runlog.read(tmp_path / "run" / "log.jsonl")[-1]["tokens"] == total + (shown if change else 0)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_pack_without_pictures_is_no_mistake(
    accumulate: int, tiny_model: Make, tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path
) -> None:
    """Data that mixes text in must not end the stage that trains a projector alone."""
    data = dataclasses.replace(tiny_recipe.data, pack=PackConfig(length=200, patches=256, window=1))
    recipe = dataclasses.replace(
        one_stage(
            tiny_recipe, {"projector": 1e-2}, data=rows(tmp_path, [True, False] * 6), steps=12, accumulate=accumulate
        ),
        data=data,
    )
    model, before = tiny_model(), tiny_model().state_dict()
    trainer_of(model, recipe, tiny_encode, tmp_path / "run").run()
    records = runlog.read(tmp_path / "run" / "log.jsonl")
    assert len(records) == 12
    if accumulate == 1:
        assert sum(record["gradient_norm"] == 0 for record in records) == 6
    assert not torch.equal(model.state_dict()["projector.first.weight"], before["projector.first.weight"])


def test_a_stage_counted_in_tokens_or_epochs(
    tiny_model: Make, tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path
) -> None:
    """It ends with the first step that reaches its length."""
    by_tokens = StageConfig("tokens", {"projector": 1e-3}, tokens=600)
    by_epochs = StageConfig("epochs", {"projector": 1e-3}, epochs=1.5)
    recipe = dataclasses.replace(tiny_recipe, stages=(by_tokens, by_epochs))
    state = trainer_of(tiny_model(), recipe, tiny_encode, tmp_path).run()
    records = runlog.read(tmp_path / "log.jsonl")
    first = [record for record in records if record["stage"] == "tokens"]
    assert first[-1]["tokens"] >= 600 > first[-2]["tokens"]
    second = [record["progress"] for record in records if record["stage"] == "epochs"]
    assert second[-1] >= 1 > second[-2]
    assert second == sorted(second)
    assert [record["total_steps"] for record in records] == list(range(1, state.total_steps + 1))


def test_the_log_tells_the_rates_of_the_schedule(
    tiny_model: Make, tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path
) -> None:
    trainer_of(tiny_model(), one_stage(tiny_recipe, EVERYTHING, steps=10), tiny_encode, tmp_path).run()
    rates = [record["lr"]["encoder"] for record in runlog.read(tmp_path / "log.jsonl")]
    assert rates[0] == pytest.approx(1e-5)
    assert rates[1] == max(rates) <= 1e-3
    assert rates[-1] < 0.2e-3


def test_training_lowers_the_loss(tiny_model: Make, tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path) -> None:
    recipe = one_stage(tiny_recipe, dict.fromkeys(EVERYTHING, 1e-2), steps=25)
    trainer_of(tiny_model(), recipe, tiny_encode, tmp_path).run()
    losses = [record["loss"] for record in runlog.read(tmp_path / "log.jsonl")]
    assert losses[0] > 5
    assert sum(losses[-5:]) / 5 < losses[0] - 1.5


OWN = """
from vitrail.contracts.errors import RecipeError
from vitrail.training.objectives import Objective


class Quiet(Objective):
    def __init__(self, loudness):
        self.loudness = loudness


class Choosy(Objective):
    def check(self, stage, stages, model):
        if stage.accumulate > 1:
            raise RecipeError(f"stages.{stage.name}.accumulate is {stage.accumulate}, and {len(stages)} stages")


class Stranger:
    pass
"""


def test_an_objective_of_the_users_own(tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vitrail_own_objective.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = CustomConfig("vitrail_own_objective:Quiet", {"loudness": 3})
    stage = dataclasses.replace(tiny_recipe.stages[0], objective=config)
    made: Any = build.build_objective(stage)
    assert made.loudness == 3
    stranger = dataclasses.replace(stage, objective=CustomConfig("vitrail_own_objective:Stranger"))
    with pytest.raises(
        RecipeError,
        match=r"^stages\.align\.objective: 'vitrail_own_objective:Stranger' must be a subclass of "
        r"vitrail\.training\.objectives\.Objective$",
    ):
        build.build_objective(stranger)


def test_an_objective_of_the_users_own_checks_the_recipe(
    tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vitrail_own_choosy.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = CustomConfig("vitrail_own_choosy:Choosy")
    build.build_stages(one_stage(tiny_recipe, EVERYTHING, objective=config), tiny_encode, CPU)
    with pytest.raises(RecipeError, match=r"^stages\.only\.accumulate is 2, and 1 stages$"):
        build.build_stages(one_stage(tiny_recipe, EVERYTHING, objective=config, accumulate=2), tiny_encode, CPU)
