"""AdamW by component: who moves, how far, and that nothing is rounded away or forgotten."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitrail.contracts.errors import RecipeError
from vitrail.training.config import AdamWConfig
from vitrail.training.optimizer import Optimizer, freeze_all_but

RATES = {"first": 1e-2, "second": 1e-3}


class Two(nn.Module):
    """Two components, and one without parameters."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.joint = nn.Linear(4, 6), nn.Linear(6, 3), nn.Identity()
        self.to(dtype)


def made(model: nn.Module, rates: Mapping[str, float] = RATES, **settings: Any) -> Optimizer:
    freeze_all_but(model, rates, "a")
    return Optimizer(model, rates, AdamWConfig(**settings))


def give_gradients(model: nn.Module, seed: int, scale: float = 1.0) -> None:
    chance = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        gradient = (torch.randn(parameter.shape, generator=chance) * scale).bfloat16()
        parameter.grad = gradient.to(parameter.dtype) if parameter.requires_grad else None


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(some: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)


def test_what_is_not_named_is_frozen() -> None:
    model = Two()
    before, optimizer = weights(model), made(model, {"second": 1e-2})
    give_gradients(model, 0)
    optimizer.step(1.0)
    after = weights(model)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"second.weight", "second.bias"}
    freeze_all_but(model, {"first": 1.0}, "b")
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["first.weight", "first.bias"]


@pytest.mark.parametrize("name", ["secnd", "joint"])
def test_an_unknown_component(name: str) -> None:
    with pytest.raises(RecipeError, match=rf"^stages\.a\.train: unknown component '{name}'.*known: first, second$"):
        freeze_all_but(Two(), {"first": 1.0, name: 1.0}, "a")


def test_each_component_has_its_rate_and_the_schedule_scales_both() -> None:
    """AdamW's first step is the rate itself, whatever the gradient."""
    model = Two()
    before, optimizer = weights(model), made(model, weight_decay=0.0)
    give_gradients(model, 0)
    optimizer.step(0.5)
    for name, tensor in weights(model).items():
        moved = (tensor - before[name]).abs()
        torch.testing.assert_close(
            moved, torch.full_like(moved, 0.5 * RATES[name.partition(".")[0]]), rtol=1e-3, atol=0
        )


def test_weight_decay_spares_vectors() -> None:
    model = Two()
    nn.init.ones_(model.first.bias)
    before, optimizer = weights(model), made(model, {"first": 1e-2}, weight_decay=0.5)
    give_gradients(model, 0, scale=0.0)
    optimizer.step(1.0)
    torch.testing.assert_close(model.first.weight, before["first.weight"] * (1 - 1e-2 * 0.5))
    assert torch.equal(model.first.bias, before["first.bias"])


@pytest.mark.parametrize("clip", [0.5, 0.0])
def test_the_norm_is_reported_before_clipping(clip: float) -> None:
    model = Two()
    optimizer = made(model, clip=clip, betas=(0.0, 0.0), eps=1.0, weight_decay=0.0)
    give_gradients(model, 0)
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    norm = torch.cat([gradient.flatten() for gradient in gradients.values()]).norm()
    before = weights(model)
    assert norm > 1
    assert optimizer.step(1.0) == pytest.approx(float(norm))
    taken = gradients["first.weight"] * (clip / norm if clip else 1.0)
    # With no memory of the past and eps = 1, the step is rate x g / (|g| + 1).
    expected = before["first.weight"] - RATES["first"] * taken / (taken.abs() + 1)
    torch.testing.assert_close(model.first.weight, expected, rtol=1e-4, atol=1e-6)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_half_precision_moves_by_less_than_it_can_show() -> None:
    """Float32 masters take every small step, exactly as a float32 model does with the same gradients."""
    half = Two(torch.bfloat16)
    full = copy.deepcopy(half).float()
    rates = dict.fromkeys(RATES, 1e-5)
    optimizers = made(half, rates), made(full, rates)
    start = weights(half)
    for step in range(60):
        for model, optimizer in zip((half, full), optimizers, strict=True):
            give_gradients(model, seed=7, scale=0.01)
            optimizer.step(1.0)
        if step == 0:
            moved = [name for name, tensor in half.state_dict().items() if not torch.equal(tensor, start[name])]
            assert "second.weight" not in moved, "one step is too small to show"
    state = optimizers[0].state()
    for name, tensor in full.state_dict().items():
        assert torch.equal(state[f"master.{name}"], tensor)
        assert torch.equal(half.state_dict()[name], tensor.bfloat16())
    assert not torch.equal(half.second.weight, start["second.weight"]), "sixty steps are not"
    assert state["exp_avg.first.weight"].dtype == torch.float32


def test_gradients_of_many_passes_are_summed_in_float32() -> None:
    """In bfloat16, as autograd sums them, 256 gradients are 1 % off and more: what is added is rounded away."""
    half = Two(torch.bfloat16)
    optimizer, exact, rounded = made(half, clip=0.0), dict[str, Tensor](), dict[str, Tensor]()
    for number in range(256):
        give_gradients(half, number)
        for name, parameter in half.named_parameters():
            assert parameter.grad is not None
            parameter.grad += 0.5
            exact[name] = exact.get(name, torch.zeros(())) + parameter.grad.double()
            rounded[name] = rounded.get(name, torch.zeros_like(parameter.grad)) + parameter.grad
        optimizer.collect()
        assert all(parameter.grad is None for parameter in half.parameters())
    norm = float(torch.cat([value.flatten() for value in exact.values()]).norm())
    for name, master in zip(optimizer.names, optimizer.masters, strict=True):
        assert master.grad is not None
        assert master.grad.dtype == torch.float32
        torch.testing.assert_close(master.grad.double(), exact[name], rtol=1e-5, atol=1e-5 * norm)
    off = torch.cat([(rounded[name].double() - value).flatten() for name, value in exact.items()]).norm() / norm
    assert off > 0.01
    assert optimizer.step(1.0) == pytest.approx(norm, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_state_goes_and_comes_back(dtype: torch.dtype) -> None:
    model = Two(dtype)
    optimizer = made(model, RATES)
    for step in range(3):
        give_gradients(model, step)
        optimizer.step(1.0)
    other = copy.deepcopy(model)
    kept = {name: tensor.clone() for name, tensor in optimizer.state().items()}
    resumed = made(other, RATES)
    resumed.load_state(optimizer.state())
    assert equal(resumed.state(), kept)
    for step in range(3, 6):
        for one, its in ((model, optimizer), (other, resumed)):
            give_gradients(one, step)
            its.step(0.7)
    assert equal(weights(model), weights(other))
    assert equal(optimizer.state(), resumed.state())
    assert not equal(resumed.state(), kept)
    assert {name.partition(".")[0] for name in kept} == {"exp_avg", "exp_avg_sq", "step"} | (
        {"master"} if dtype == torch.bfloat16 else set()
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_stage_starts_with_no_state(dtype: torch.dtype) -> None:
    model = Two(dtype)
    optimizer = made(model)
    before = optimizer.state()
    optimizer.load_state({})
    assert equal(optimizer.state(), before)
    give_gradients(model, 0)
    optimizer.step(1.0)
    assert float(optimizer.state()["step.first.weight"]) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_state_read_from_disk_goes_on_on_cuda(dtype: torch.dtype) -> None:
    """A checkpoint is read to the CPU; everything in it must find its way to the device."""
    model = Two(dtype).cuda()
    optimizer = made(model)
    chance = torch.Generator("cuda").manual_seed(0)
    gradients = [[torch.randn(p.shape, generator=chance, device="cuda") for p in model.parameters()] for _ in range(4)]

    def step(model: nn.Module, optimizer: Optimizer, number: int) -> None:
        for parameter, gradient in zip(model.parameters(), gradients[number], strict=True):
            parameter.grad = gradient.to(dtype)
        optimizer.step(1.0)

    for number in range(2):
        step(model, optimizer, number)
    other = copy.deepcopy(model)
    resumed = made(other)
    resumed.load_state({name: tensor.cpu() for name, tensor in optimizer.state().items()})
    for number in range(2, 4):
        step(model, optimizer, number)
        step(other, resumed, number)
    assert equal(weights(model), weights(other))
