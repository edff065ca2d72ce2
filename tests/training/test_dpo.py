"""DPO: what of a pair is learnt, the exact loss and gradient, the remembered start, and runs that stop midway."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail import build
from vitrail.contracts.errors import DataError, RecipeError
from vitrail.contracts.messages import Conversation, Row
from vitrail.contracts.samples import Batch, Pack, Sample
from vitrail.data.collate import collate
from vitrail.data.dialects import to_conversation
from vitrail.data.dialects.pairs import chosen_and_rejected
from vitrail.data.encode import Encode
from vitrail.data.ledger import Ledger
from vitrail.data.loader import Cursor
from vitrail.data.spans import spans
from vitrail.models.assembled import MultimodalModel
from vitrail.models.config import LoraConfig
from vitrail.prompts.config import PromptConfig
from vitrail.recipe.read import read_recipe
from vitrail.recipe.schema import Recipe
from vitrail.run.verify import verify
from vitrail.synthetic.config import DrawnConfig
from vitrail.synthetic.source import DrawnSource
from vitrail.training import checkpoint, runlog
from vitrail.training.config import StageConfig
from vitrail.training.device import Device
from vitrail.training.loop import Stage, Trainer
from vitrail.training.objectives import DPO
from vitrail.training.objectives.dpo import LiveDPO, digests
from vitrail.training.optimizer import freeze_all_but

Make = Callable[..., MultimodalModel]
CPU = Device("cpu", "float32", 1, compiled=False)
EVERYTHING = {"encoder": 1e-3, "projector": 1e-3, "backbone": 1e-3}
PAIRS = DrawnConfig(rows=8, pairs=True, questions=3)


def conversation_of(number: int) -> Conversation:
    return to_conversation(DrawnSource(PAIRS).row(number))


@pytest.fixture(scope="module")
def encode(tiny_encode: Encode) -> Encode:
    return dataclasses.replace(tiny_encode, needs=DPO().needs)


@pytest.fixture(scope="module")
def samples(encode: Encode) -> list[Sample]:
    return [encode(conversation_of(number), "drawn") for number in range(4)]


def batch_of(encode: Encode, *samples: Sample) -> Batch:
    batch, _ = collate(Pack(samples), encode.media)
    assert batch is not None
    return batch


def prepared(model: MultimodalModel, train: Mapping[str, float] = EVERYTHING, **settings: Any) -> LiveDPO:
    freeze_all_but(model, train, "only")
    objective = DPO(**settings).live()
    assert isinstance(objective, LiveDPO)
    objective.prepare(model)
    return objective


def moved(model: MultimodalModel) -> MultimodalModel:
    """As after some training: off its start, by chance."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def gradients(model: MultimodalModel) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def assert_close(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys() != set()
    for name, gradient in theirs.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(
            ours[name], gradient, rtol=1e-4, atol=4e-6 * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


# What is learnt.


@pytest.mark.parametrize("template", ["terse", "chatml", "vicuna", "minigptv2"])
def test_the_answers_alone_are_learnt(template: str, tiny_recipe: Recipe) -> None:
    """The prompt holds two answered questions; the ids are those of an ordinary row."""
    prompt = PromptConfig(template=template)
    tokenizer = build.build_tokenizer(tiny_recipe.model.backbone, prompt)
    plain = build.build_encode(tiny_recipe.model, prompt, tokenizer)
    both = dataclasses.replace(plain, needs=DPO().needs)
    conversation = next(one for one in map(conversation_of, range(8)) if len(one.messages) == 6)
    sample = both(conversation)
    chosen, rejected = sample.apart()
    for part, one in zip((chosen, rejected), chosen_and_rejected(conversation), strict=True):
        ordinary = plain(one)
        assert np.array_equal(part.ids, ordinary.ids)
        assert part.weights.sum() < ordinary.weights.sum()
        said = "".join(text for sort, text in spans(part, tokenizer) if sort == "learnt")
        answer = one.messages[-1].text
        assert said.strip().startswith(answer)
        assert len(said) < len(answer) + 14, "and the end of the turn"
        assert np.array_equal(
            part.labels[part.weights > 0], ordinary.labels[ordinary.weights > 0][-int(part.weights.sum()) :]
        )
    assert sample.lengths == (len(chosen), len(rejected))
    assert len(sample.slots) == 2
    assert sample.media[0] is sample.media[1], "decoded once"


def test_a_pair_is_the_same_samples_apart(encode: Encode, tiny_encode: Encode) -> None:
    """Without earlier answers: what two ordinary rows would be."""
    conversation = to_conversation(DrawnSource(dataclasses.replace(PAIRS, questions=1)).row(0))
    for part, one in zip(encode(conversation).apart(), chosen_and_rejected(conversation), strict=True):
        ordinary = tiny_encode(one)
        for name in ("ids", "labels", "weights"):
            assert np.array_equal(getattr(part, name), getattr(ordinary, name)), name
        assert [slot.start for slot in part.slots] == [slot.start for slot in ordinary.slots]


# The loss and its gradient.

LORA = LoraConfig(rank=2, alpha=4)
LORA_MODEL = "lora"


@pytest.mark.parametrize(
    ("train", "lora"),
    [
        (EVERYTHING, None),
        ({"projector": 1.0, "backbone": 1.0}, None),
        ({"encoder": 1.0}, None),
        ({"backbone": 1.0}, LORA),
    ],
    ids=["all", "frozen encoder", "encoder", "adapter"],
)
def test_at_the_start_the_loss_is_log_2(
    train: dict[str, float], lora: LoraConfig | None, tiny_recipe: Recipe, encode: Encode, samples: list[Sample]
) -> None:
    config = dataclasses.replace(tiny_recipe.model, backbone=dataclasses.replace(tiny_recipe.model.backbone, lora=lora))
    model = build.build_model(config, encode.tokenizer.vocabulary, seed=0).train()
    objective = prepared(model, train)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert objective.start.keys() == trained
    assert all("lora_" in name for name in trained) == (lora is not None)
    batch = batch_of(encode, samples[0])
    (term,) = objective(model, batch).values()
    assert float(term.loss_sum.detach()) == float(np.float32(math.log(2))), "to the last bit"
    assert term.count == 1
    assert term.figures == {"reward_margin": 0.0, "reward_accuracy": 0.0}
    term.loss_sum.backward()
    assert gradients(model).keys() <= trained
    assert objective(model, batch_of(encode, *samples))["dpo"].loss_sum.item() == pytest.approx(
        4 * math.log(2), rel=1e-6
    )


def logps(model: MultimodalModel, batch: Batch) -> torch.Tensor:
    """The plain way: every logit of every position, with autograd throughout."""
    logits = model.logits(model(batch)).log_softmax(-1)
    learnt = batch.learnt
    chosen = logits.gather(1, learnt.labels.clamp(min=0)[:, None])[:, 0] * learnt.weights
    return torch.stack([part.sum() for part in chosen.split(learnt.segments.lengths)])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_and_gradient_are_those_of_the_formula(
    smoothing: float, tiny_model: Make, encode: Encode, samples: list[Sample]
) -> None:
    model = tiny_model().train()
    objective = prepared(model, beta=0.5, label_smoothing=smoothing)
    batch = batch_of(encode, *samples)
    with torch.no_grad():
        before = logps(model, batch)
    moved(model)
    gains = (logps(model, batch) - before).view(-1, 2)
    margins = 0.5 * (gains[:, 0] - gains[:, 1])
    expected = -(
        (1 - smoothing) * torch.nn.functional.logsigmoid(margins) + smoothing * torch.nn.functional.logsigmoid(-margins)
    )
    expected.sum().backward()
    theirs = gradients(model)
    (term,) = objective(model, batch).values()
    term.loss_sum.backward()
    assert float(term.loss_sum.detach()) == pytest.approx(float(expected.sum().detach()), rel=1e-5)
    assert term.figures["reward_margin"] == pytest.approx(float(margins.sum().detach()), rel=1e-4)
    assert term.figures["reward_accuracy"] == float((margins > 0).sum())
    assert_close(gradients(model), theirs)


def test_a_pack_is_its_pairs_one_by_one(tiny_model: Make, encode: Encode, samples: list[Sample]) -> None:
    model = tiny_model().train()
    together, alone = prepared(model), prepared(model)
    moved(model)
    (term,) = together(model, batch_of(encode, *samples)).values()
    term.loss_sum.backward()
    packed = gradients(model)
    total = 0.0
    for sample in samples:
        (one,) = alone(model, batch_of(encode, sample)).values()
        one.loss_sum.backward()
        total += float(one.loss_sum.detach())
    assert float(term.loss_sum.detach()) == pytest.approx(total, rel=1e-6)
    assert_close(packed, gradients(model))
    assert together.known.keys() == alone.known.keys()
    assert len(together.known) == 8


@pytest.mark.parametrize("size", [4, 2, 1])
def test_a_step_over_packs_is_one_division(
    size: int, tiny_model: Make, tiny_recipe: Recipe, encode: Encode, samples: list[Sample], tmp_path: Path
) -> None:
    """4 x 1 = 2 x 2 = 1 x 4."""
    stream = build.build_stages(tiny_recipe, encode, CPU)[0].stream
    results = []
    for packs in (4, size):
        model = tiny_model().train()
        objective = prepared(model, beta=0.5)
        moved(model)
        stage = Stage(StageConfig("only", EVERYTHING, steps=1, objective=DPO()), stream, objective)
        batches = [batch_of(encode, *samples[at : at + packs]) for at in range(0, 4, packs)]
        values, figures, *_ = Trainer(model, [stage], tmp_path, CPU, 100)._backward(stage, batches)
        results.append((values["dpo"], figures, gradients(model)))
    whole, parts = results
    assert parts[0] == pytest.approx(whole[0], rel=1e-6)
    assert parts[1] == pytest.approx(whole[1], rel=1e-5)
    assert 0 <= whole[1]["reward_accuracy"] <= 1
    assert_close(parts[2], whole[2])


# The start.


def test_the_start_is_put_back_and_asked_once(tiny_model: Make, encode: Encode, samples: list[Sample]) -> None:
    model = tiny_model().train()
    objective = prepared(model)
    moved(model)
    today = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    passes = []
    model.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    batch = batch_of(encode, *samples)
    first = objective(model, batch)["dpo"].loss_sum
    assert passes == [False, True]
    assert model.training
    assert all(module.training for module in model.modules())
    assert all(torch.equal(tensor, today[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(objective(model, batch)["dpo"].loss_sum, first)
    assert passes == [False, True, True], "met before: no second pass for the start"
    # In another pack, beside a pair that is new.
    objective(model, batch_of(encode, samples[2], encode(conversation_of(5))))
    assert passes == [False, True, True, False, True]
    again = DPO().live()
    again.load_state(json.loads(json.dumps(objective.state())))
    assert isinstance(again, LiveDPO)
    assert again.known == objective.known


def test_what_is_kept_is_told_apart_by_what_is_read(encode: Encode) -> None:
    """Not by the row's name: two rows of one name, or one picture seen in two ways, never share."""
    conversation = conversation_of(0)
    plain = encode(conversation)
    names = digests(batch_of(encode, plain))
    assert len(set(names)) == 2
    assert digests(batch_of(encode, encode(conversation_of(1)), plain))[2:] == names, "wherever it stands"
    darker = dataclasses.replace(plain, alter=lambda image, _: image // 2)
    smaller = encode(conversation, most_tokens=4)
    namesake = encode(dataclasses.replace(conversation_of(1), id=conversation.id))
    every = [digests(batch_of(encode, one)) for one in (plain, darker, smaller, namesake)]
    assert len({name for found in every for name in found}) == 8


# Runs.


@pytest.fixture
def recipe_of(tiny_recipe_text: str, tmp_path: Path) -> Callable[..., Recipe]:
    """The tiny recipe with a stage of preferences behind its first one."""

    def make(*overrides: str) -> Recipe:
        path = tmp_path / "pairs.yaml"
        path.write_text(tiny_recipe_text, encoding="utf-8")
        stage = [
            "stages.instruct.objective={kind: dpo}",
            "stages.instruct.data={kind: drawn, rows: 6, pairs: true, questions: 2}",
            "stages.instruct.steps=8",
            "data.pack.length=700",
            "data.pack.patches=1024",
        ]
        return read_recipe(str(path), [*stage, *overrides]).value

    return make


class Unplugged(Exception):  # noqa: N818 (it is what happens to the run, not a mistake)
    """Ends a run between the log's record and the checkpoint."""


def trained(make: Make, recipe: Recipe, encode: Encode, folder: Path, stop_at: int = 0) -> tuple[Any, Trainer]:
    def on_step(record: dict[str, Any]) -> None:
        if record["total_steps"] == stop_at:
            raise Unplugged

    model = make().train()
    trainer = Trainer(model, build.build_stages(recipe, encode, CPU), folder, CPU, 3, on_step)
    trainer.resume()
    trainer.run()
    return model, trainer


def log_of(folder: Path) -> list[dict[str, Any]]:
    clock = ("tokens_per_second", "seconds", "memory_gib")
    return [
        {name: value for name, value in record.items() if name not in clock}
        for record in runlog.read(folder / "log.jsonl")
    ]


def test_a_run_goes_on_bit_for_bit(
    recipe_of: Callable[..., Recipe], tiny_model: Make, tiny_encode: Encode, tmp_path: Path
) -> None:
    """Stopped in the middle of the preferences, whose start is the end of the stage before; in their second epoch."""
    recipe = recipe_of()
    whole, trainer = trained(tiny_model, recipe, tiny_encode, tmp_path / "whole")
    log = log_of(tmp_path / "whole")
    objective = trainer.stages[1].objective
    assert isinstance(objective, LiveDPO)
    assert len(objective.known) == 12, "both answers of six rows, however many epochs"
    assert log[-1]["rows"] != log[0]["rows"]
    for stop_at in (7, 9, 12):
        with pytest.raises(Unplugged):
            trained(tiny_model, recipe, tiny_encode, tmp_path / "torn", stop_at)
    found = checkpoint.latest(tmp_path / "torn" / "checkpoints")
    assert found is not None
    state = checkpoint.load_state(found)
    assert state.stage == 1
    assert state.step
    assert state.objective["known"].items() <= objective.known.items()
    torn, again = trained(tiny_model, recipe, tiny_encode, tmp_path / "torn")
    assert all(torch.equal(tensor, torn.state_dict()[name]) for name, tensor in whole.state_dict().items())
    assert log_of(tmp_path / "torn") == log
    resumed = again.stages[1].objective
    assert isinstance(resumed, LiveDPO)
    assert resumed.known == objective.known
    assert all(torch.equal(tensor, resumed.start[name]) for name, tensor in objective.start.items())
    first, last = log[5], log[-1]
    assert first["terms"]["dpo"] == pytest.approx(math.log(2), rel=1e-6)
    assert last["terms"]["dpo"] < first["terms"]["dpo"]
    assert last["figures"]["reward_margin"] > first["figures"]["reward_margin"] == 0
    assert "figures" not in log[0]


def test_the_first_stage_of_a_run_goes_on_too(
    recipe_of: Callable[..., Recipe], tiny_model: Make, tiny_encode: Encode, tmp_path: Path
) -> None:
    """Its start is the model as it was given."""
    recipe = recipe_of()
    recipe = dataclasses.replace(recipe, stages=recipe.stages[1:])
    results = []
    for folder, stops in (("whole", ()), ("torn", (4, 7))):
        for stop_at in stops:
            with pytest.raises(Unplugged):
                trained(tiny_model, recipe, tiny_encode, tmp_path / folder, stop_at)
        results.append(trained(tiny_model, recipe, tiny_encode, tmp_path / folder)[0].state_dict())
    assert all(torch.equal(tensor, results[1][name]) for name, tensor in results[0].items())
    assert log_of(tmp_path / "torn") == log_of(tmp_path / "whole")


def test_rows_that_are_no_pairs_are_in_the_ledger(
    recipe_of: Callable[..., Recipe], tiny_encode: Encode, tmp_path: Path
) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    asked = {"images": ["red.png"], "prompt": "<image>What?"}
    rows: list[dict[str, Any]] = [
        {"id": "good", **asked, "chosen": "Red.", "rejected": "Blue."},
        {"id": "same", **asked, "chosen": "Red.", "rejected": "Red."},
        {"id": "empty", **asked, "chosen": "Red.", "rejected": " "},
        {"id": "long", **asked, "chosen": "Red.", "rejected": "Blue." * 200},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = recipe_of("data.max_lost=1.0", f"stages.instruct.data={path}")
    stream = build.build_stages(recipe, tiny_encode, CPU)[1].stream
    item = next(stream.items(Cursor(), Ledger()))
    assert item.batch.sample_ids == ("good", "good")
    said = {event.id: (event.outcome, event.reason) for event in item.events}
    assert said["good"] == ("used", "")
    assert said["same"][0] == said["empty"][0] == "unreadable"
    assert "'chosen' and 'rejected' are the same" in said["same"][1]
    assert "empty answer" in said["empty"][1]
    assert said["long"][0] == "too_long"
    ordinary = {"messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "Red."}]}
    with pytest.raises(DataError, match="file, line 3: no preference pair; a row needs 'chosen' and 'rejected'"):
        stream.encode(to_conversation(Row("a", ordinary, location="file, line 3")))


def test_a_preference_row_in_an_ordinary_stage_is_its_chosen_conversation(tiny_encode: Encode) -> None:
    conversation = conversation_of(0)
    sample = tiny_encode(conversation)
    assert sample.lengths == ()
    assert np.array_equal(sample.ids, tiny_encode(chosen_and_rejected(conversation)[0]).ids)


def test_without_media(encode: Encode, tiny_model: Make) -> None:
    """The blind form: the same pairs, and nothing to look at."""
    assert DPO().blind() == DPO()
    blind = dataclasses.replace(encode, shown="nothing")
    batch = batch_of(blind, blind(conversation_of(0)), blind(conversation_of(1)))
    assert batch.vision is None
    model = tiny_model().train()
    (term,) = prepared(model, {"backbone": 1.0})(model, batch).values()
    term.loss_sum.backward()
    assert term.count == 2
    assert any(gradient.any() for gradient in gradients(model).values())


def test_an_encoder_decoder_is_refused(encode: Encode) -> None:
    with pytest.raises(DataError, match="an encoder-decoder says one answer a row"):
        dataclasses.replace(encode, start=0)(conversation_of(0))


def test_verify_looks_between_the_two_answers_too(recipe_of: Callable[..., Recipe]) -> None:
    found = verify(recipe_of(), stage=1)
    assert found.finding == ""
    assert found.packs[0].samples >= 4
    assert "compared by the next-token loss" in found.notes[0]
    alone = recipe_of("stages.instruct.data.rows=1")
    assert verify(alone, stage=1).packs[0].samples == 2, "a single pair has a border too"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("beta: 0", "beta is 0.0, must be above 0"),
        ("label_smoothing: 0.5", "label_smoothing is 0.5, must be from 0 to below 0.5"),
    ],
)
def test_settings_that_make_no_sense(settings: str, message: str, recipe_of: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe_of(f"stages.instruct.objective={{kind: dpo, {settings}}}")
