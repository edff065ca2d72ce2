"""A loss or gradient that is not finite: nothing moves by it, and no checkpoint holds what it would have left."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vitrail import build
from vitrail.contracts.errors import TrainingError, WeightsError
from vitrail.contracts.samples import Batch
from vitrail.data.encode import Encode
from vitrail.models.assembled import MultimodalModel
from vitrail.models.weights import in_format
from vitrail.recipe.schema import Recipe
from vitrail.training import checkpoint, runlog
from vitrail.training.checkpoint import State
from vitrail.training.config import StageConfig
from vitrail.training.device import Device
from vitrail.training.loop import LEFT_OUT, Trainer
from vitrail.training.objectives import NextToken, Term

Make = Callable[..., MultimodalModel]
CPU = Device("cpu", "float32", 1, compiled=False)
BAD = (3, 4)


class Steep(torch.autograd.Function):
    """Leaves a number as it is; its gradient is infinite."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient * float("inf")


class Bad(NextToken):
    """Wrong in some of its steps. loss: whether the loss itself is, or its gradient alone."""

    def __init__(self, *, loss: bool) -> None:
        super().__init__()
        self.loss, self.step = loss, 0

    def __call__(self, model: MultimodalModel, batch: Batch) -> Mapping[str, Term]:
        self.step += 1
        terms = dict(super().__call__(model, batch))
        if self.step in BAD:
            for name, term in terms.items():
                bad = term.loss_sum * float("inf") if self.loss else Steep.apply(term.loss_sum)
                terms[name] = dataclasses.replace(term, loss_sum=bad)
        return terms


@pytest.fixture
def trainer(tiny_model: Make, tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path) -> Callable[..., Trainer]:
    def make(*, loss: bool, skip: int) -> Trainer:
        train = {"encoder": 1e-3, "projector": 1e-3, "backbone": 1e-3}
        recipe = dataclasses.replace(tiny_recipe, stages=(StageConfig("only", train, steps=6),))
        (stage,) = build.build_stages(recipe, tiny_encode, CPU)
        stage = dataclasses.replace(stage, objective=Bad(loss=loss))
        return Trainer(tiny_model().train(), [stage], tmp_path, CPU, 2, skip_nonfinite=skip)

    return make


@pytest.mark.parametrize("loss", [True, False])
def test_the_run_stops_before_anything_moves(trainer: Callable[..., Trainer], loss: bool) -> None:
    stopped = trainer(loss=loss, skip=0)
    with pytest.raises(TrainingError, match=r"step 3: the (loss is inf|gradient's norm is (inf|nan)); lower the"):
        stopped.run()
    # As the checkpoint after the second step has it.
    resumed = trainer(loss=loss, skip=0)
    assert resumed.resume()
    assert resumed.state.step == 2
    expected = dict(resumed.model.named_parameters())
    for name, parameter in stopped.model.named_parameters():
        assert torch.equal(parameter, expected[name]), name


@pytest.mark.parametrize("loss", [True, False])
def test_so_many_in_a_row_may_be_left_out(trainer: Callable[..., Trainer], loss: bool) -> None:
    going = trainer(loss=loss, skip=2)
    state = going.run()
    assert state.counters[LEFT_OUT] == 2
    assert state.total_steps == 6
    assert [record["step"] for record in runlog.read(going.folder / "log.jsonl")] == [1, 2, 5, 6]
    assert all(parameter.isfinite().all() for parameter in going.model.parameters())
    with pytest.raises(TrainingError, match="step 4: "):
        trainer(loss=loss, skip=1).run()


def test_weights_that_are_not_finite_are_not_written(tiny_model: Make, tmp_path: Path) -> None:
    model = tiny_model()
    sound = checkpoint.save(tmp_path, "00000001-step", model, {}, State())
    with torch.no_grad():
        model.get_parameter("backbone.lm.model.norm.weight")[3] = float("nan")
    with pytest.raises(WeightsError, match=r"^no checkpoint is written: 'backbone\.lm\.model\.norm\.weight' is not"):
        checkpoint.save(tmp_path, "00000002-step", model, {}, State())
    assert checkpoint.latest(tmp_path) == sound


def test_rotary_frequencies_keep_their_format(tiny_model: Make) -> None:
    """In bfloat16 they would be 0.9 radians off at the 2,000th position."""
    model, exact = tiny_model(), tiny_model().language_model.lm.model.rotary_emb
    in_format(model, torch.bfloat16)
    rotary = model.language_model.lm.model.rotary_emb
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    positions = torch.tensor([[2048]])
    for ours, theirs in zip(
        rotary(torch.zeros(1, dtype=torch.bfloat16), positions), exact(torch.zeros(1), positions), strict=True
    ):
        torch.testing.assert_close(ours.float(), theirs, atol=4e-3, rtol=0)
