"""Training adapters: only they have state, stopping a run changes nothing, and compiling does not either."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vitrail import build
from vitrail.contracts.samples import Pack
from vitrail.data.collate import collate
from vitrail.data.dialects import to_conversation
from vitrail.data.encode import Encode
from vitrail.models.assembled import MultimodalModel
from vitrail.models.backbones.adapters import of_adapter
from vitrail.models.config import LoraConfig
from vitrail.models.weights import load_tensors
from vitrail.recipe.schema import Recipe
from vitrail.training import checkpoint
from vitrail.training.compiling import compile_pieces
from vitrail.training.device import Device, has_compiler
from vitrail.training.loop import Trainer


class Unplugged(Exception):  # noqa: N818 (it is what happens to the run, not a mistake)
    """Ends a run between the log's record and the checkpoint."""


@pytest.fixture(scope="module")
def make(tiny_recipe: Recipe, tiny_encode: Encode) -> Callable[[], MultimodalModel]:
    backbone = dataclasses.replace(tiny_recipe.model.backbone, lora=LoraConfig(rank=2, alpha=4))
    config = dataclasses.replace(tiny_recipe.model, backbone=backbone)
    return lambda: build.build_model(config, tiny_encode.tokenizer.vocabulary, seed=0)


def trained(
    model: MultimodalModel, recipe: Recipe, encode: Encode, folder: Path, dtype: str, stop_at: int = 0
) -> dict[str, Tensor]:
    device = Device("cpu", dtype, 1, compiled=False)

    def on_step(record: dict[str, Any]) -> None:
        if record["total_steps"] == stop_at:
            raise Unplugged

    model.to(device.torch_dtype).train()
    trainer = Trainer(model, build.build_stages(recipe, encode, device), folder, device, 2, on_step)
    trainer.resume()
    trainer.run()
    return model.state_dict()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_goes_on_bit_for_bit(
    dtype: str, make: Callable[[], MultimodalModel], tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path
) -> None:
    whole = trained(make(), tiny_recipe, tiny_encode, tmp_path / "whole", dtype)
    for stop_at in (4, 9):
        with pytest.raises(Unplugged):
            trained(make(), tiny_recipe, tiny_encode, tmp_path / "torn", dtype, stop_at)
    state = checkpoint.latest(tmp_path / "torn" / "checkpoints")
    assert state is not None
    kept = load_tensors(state / "optimizer.safetensors")
    moved = [name for name in kept if name.startswith("exp_avg.backbone.")]
    assert len(moved) == 2 * 7 * 2
    assert all(of_adapter(name) for name in kept if ".backbone." in name)
    masters = [name for name in kept if name.startswith("master.backbone.")]
    assert len(masters) == (len(moved) if dtype == "bfloat16" else 0)
    assert {kept[name].dtype for name in [*moved, *masters]} == {torch.float32}
    resumed = trained(make(), tiny_recipe, tiny_encode, tmp_path / "torn", dtype)
    start = make().to(getattr(torch, dtype)).state_dict()
    for name, tensor in resumed.items():
        assert torch.equal(tensor, whole[name]), name
        frozen = name.startswith("backbone.") and not of_adapter(name)
        assert torch.equal(tensor, start[name]) == frozen or "norm" in name, name


@pytest.mark.long
@pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # the compiler's own, of several libraries
def test_compiled_is_eager(make: Callable[[], MultimodalModel], tiny_recipe: Recipe, tiny_encode: Encode) -> None:
    source, dialect = build.build_source(tiny_recipe.data.train)
    samples = [tiny_encode(to_conversation(source.row(index), dialect), source.name) for index in range(4)]
    eager, compiled = make(), make()
    for model in (eager, compiled):
        chance = torch.Generator().manual_seed(0)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(of_adapter(name) or not name.startswith("backbone."))
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1, generator=chance)
    assert list(compiled.state_dict()) == list(eager.state_dict())
    assert compile_pieces(compiled) == 3 * 2 + 3 * 2
    for pack in (samples[:1], samples[1:]):
        batch, _ = collate(Pack(tuple(pack)), tiny_encode.media)
        assert batch is not None
        losses = []
        for model in (eager, compiled):
            model.zero_grad()
            loss = model.loss_sum(batch)
            loss.backward()
            losses.append(float(loss.detach()))
        assert losses[1] == pytest.approx(losses[0], rel=1e-5)
        theirs = dict(compiled.named_parameters())
        for name, parameter in eager.named_parameters():
            assert (parameter.grad is None) == (theirs[name].grad is None) == (not parameter.requires_grad), name
            if parameter.grad is not None:
                scale = float(parameter.grad.abs().max())
                torch.testing.assert_close(theirs[name].grad, parameter.grad, rtol=1e-4, atol=1e-5 * scale)
