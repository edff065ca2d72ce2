"""Passes over a pack and over its samples one by one, in the model's present number format, and how far they differ.

Outputs are kept as they come; gradients are summed over samples in float32.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from vitrail.contracts.samples import TARGET, TEXT, Batch, component
from vitrail.models.assembled import MultimodalModel
from vitrail.training.objectives import NextToken

LOSS_TOLERANCE, TOLERANCE = 1e-5, 1e-4
"""In float32: largest relative difference of a sample's loss; of gradients and of what components make of a sample.
A rounding is 6e-8 of a number; so many hundred of them, one after the other, are what deep models come to."""
MARGIN = 4
"""In a run's own format: so many times the rounding that is measured. A pack's and a sample's differ by twice that of
each, and the largest of some thousand numbers may be twice that of some others."""
LEAST, MOST = 2, 0.25
"""And never less than so many steps of the format (`eps`), since the last bit alone may turn either way; nor more than
a quarter of the largest number, which is no rounding: what differs so much from float32 is another function."""


@dataclass(frozen=True)
class Pass:
    """One pass. losses: of each sample, summed. outputs: of each component, float[N, width]."""

    losses: list[float]
    outputs: dict[str, Tensor]


@dataclass(frozen=True)
class Passes:
    """A pack, its samples one by one, and the gradients of both by parameter, float32."""

    packed: Pass
    single: list[Pass]
    together: dict[str, Tensor]
    apart: dict[str, Tensor]

    def on_cpu(self) -> Passes:
        """The samples' side alone, kept until another format has been run: that of the pack is left out."""
        single = [Pass(one.losses, {name: value.cpu() for name, value in one.outputs.items()}) for one in self.single]
        return Passes(Pass([], {}), single, {}, {name: value.cpu() for name, value in self.apart.items()})


@dataclass(frozen=True)
class Tolerance:
    """What rounding explains. output, gradient: by component, `least` for others."""

    loss: float = LOSS_TOLERANCE
    least: float = TOLERANCE
    output: Mapping[str, float] = field(default_factory=dict)
    gradient: Mapping[str, float] = field(default_factory=dict)

    def of_output(self, name: str) -> float:
        """Of what a component makes of a sample, of its largest output."""
        return self.output.get(name, self.least)

    def of_gradient(self, name: str) -> float:
        """Of a component's gradients, of the largest."""
        return self.gradient.get(name, self.least)


def tolerance(
    model: MultimodalModel, own: Passes, exact: Passes, alone: Sequence[Batch], dtype: torch.dtype
) -> Tolerance:
    """What the samples one by one come to in their own format, against float32: nothing can leak there.

    exact: the same samples by the same weights in float32, on the CPU.
    """
    eps = torch.finfo(dtype).eps
    outputs, gradients = {}, {}
    for name in seen(model):
        pairs = zip(own.single, exact.single, strict=True)
        there = [(a.outputs[name], b.outputs[name]) for a, b in pairs if name in a.outputs and name in b.outputs]
        largest = max((finite(b.abs().max()) for _, b in there if b.numel()), default=0.0)
        noise = max((finite((a.cpu().float() - b.float()).abs().max()) for a, b in there if b.numel()), default=0.0)
        outputs[name] = _allowed(share(noise, largest), eps, TOLERANCE)
    for name, child in model.named_children():
        found = gradient_difference(child, name, {key: value.cpu() for key, value in own.apart.items()}, exact.apart)
        gradients[name] = _allowed(found or 0.0, eps, TOLERANCE)
    both = zip(own.single, exact.single, alone, strict=True)
    noise = max(loss_difference(a.losses[0], b.losses[0], batch) for a, b, batch in both)
    return Tolerance(_allowed(noise, eps, LOSS_TOLERANCE), max(LEAST * eps, TOLERANCE), outputs, gradients)


def _allowed(noise: float, eps: float, in_float32: float) -> float:
    return min(MOST, max(MARGIN * noise, LEAST * eps, in_float32))


def seen(model: MultimodalModel) -> list[str]:
    """Components whose outputs are compared, in the order in which they run: the first that differs is what leaks."""
    towers = (
        name for stream in model.streams for name in (component(stream, "encoder"), component(stream, "projector"))
    )
    return [*towers, "fusion", "backbone"]


def run(model: MultimodalModel, batch: Batch, *, backward: bool = True, scale: float = 1.0) -> Pass:
    """Gradients are added to those that are there. scale: of the loss, before going backward."""
    outputs: dict[str, Tensor] = {}
    hooks = []
    for name in seen(model):
        hooks.append(model.get_submodule(name).register_forward_hook(_keeper(outputs, name)))
    try:
        term = NextToken()(model, batch)["next_token"]
    finally:
        for hook in hooks:
            hook.remove()
    if backward and term.loss_sum.requires_grad:
        (term.loss_sum * scale).backward()
    assert term.each is not None, "the next-token loss is a sum over positions"
    # The last part is padding, if there is any.
    parts = term.each.split(batch.learnt.segments.lengths)[: len(batch.sample_ids)]
    return Pass([float(part.sum()) for part in parts], outputs)


def _keeper(outputs: dict[str, Tensor], name: str) -> Any:
    def keep(module: nn.Module, given: Any, output: Any) -> None:
        # Fusion returns its context too.
        tensor = output[0] if isinstance(output, tuple) else output
        if isinstance(tensor, Tensor):
            outputs[name] = tensor.detach()

    return keep


def passes(model: MultimodalModel, batch: Batch, alone: Sequence[Batch]) -> Passes:
    """Runs the pack, then each sample, and goes back from both."""
    scale = 1 / max(batch.label_weight, 1e-9)
    model.zero_grad(set_to_none=True)
    packed = run(model, batch, scale=scale)
    together = collected(model, {})
    single, apart = [], dict[str, Tensor]()
    for one in alone:
        single.append(run(model, one, scale=scale))
        apart = collected(model, apart)
    return Passes(packed, single, together, apart)


def collected(model: nn.Module, into: dict[str, Tensor]) -> dict[str, Tensor]:
    """`into` with the gradients that a pass has left, which are cleared, added in float32."""
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            continue
        if name in into:
            into[name] += parameter.grad
        else:
            into[name] = parameter.grad.float()
        parameter.grad = None
    return into


def loss_difference(one: float, other: float, batch: Batch) -> float:
    """Of a sample's losses, relative to the other, or to 1 nat a token where that is less."""
    return finite(abs(one - other) / max(abs(other), batch.label_weight, 1e-9))


def gradient_difference(
    child: nn.Module, name: str, one: Mapping[str, Tensor], other: Mapping[str, Tensor]
) -> float | None:
    """The largest difference of a component's gradients, of the largest; None where there is none."""
    largest = difference = 0.0
    any_there = False
    for key, parameter in child.named_parameters():
        together, apart = one.get(f"{name}.{key}"), other.get(f"{name}.{key}")
        if together is None and apart is None:
            continue
        any_there = True
        blank = torch.zeros(parameter.shape, device=(apart if together is None else together).device)  # type: ignore[union-attr]
        together, apart = blank if together is None else together, blank if apart is None else apart
        largest = max(largest, finite(together.abs().max()), finite(apart.abs().max()))
        difference = max(difference, finite((together - apart).abs().max()))
    return share(difference, largest) if any_there else None


def output_difference(packed: Pass, single: Sequence[Pass], name: str) -> tuple[float, int]:
    """The largest difference relative to the largest output, and the number of the sample that has it."""
    whole, start, worst = packed.outputs[name].float(), 0, (-1.0, 0)
    largest = finite(whole.abs().max())
    for number, one in enumerate(single):
        alone = one.outputs.get(name)
        if alone is None:
            continue
        part = whole[start : start + len(alone)]
        start += len(alone)
        if part.shape != alone.shape:
            return math.inf, number
        if len(alone):
            worst = max(worst, (finite((part - alone.float()).abs().max()), number), key=lambda pair: pair[0])
    return share(max(worst[0], 0.0), largest), worst[1]


def share(difference: float, largest: float) -> float:
    """A difference, of the largest value."""
    return difference / largest if 0 < largest < math.inf else (math.inf if difference else 0.0)


def finite(value: float | Tensor) -> float:
    """What is no number counts as infinitely far away."""
    return float(value) if math.isfinite(value) else math.inf


def blamed(name: str, model: MultimodalModel, batch: Batch, alone: Sequence[Batch], allowed: Tolerance) -> str:
    """The component whose output differs; the fusion where the backbone's does, but not without what is done between
    its layers. A pass over the pack and one over each sample."""
    if name != "backbone":
        return name

    def without_context(module: nn.Module, given: Any, output: Any) -> Any:
        return (output[0], None) if isinstance(output, tuple) else output

    hook = model.get_submodule("fusion").register_forward_hook(without_context)
    try:
        with torch.no_grad():
            packed, *single = [run(model, one, backward=False) for one in (batch, *alone)]
    finally:
        hook.remove()
    return name if output_difference(packed, single, name)[0] > allowed.of_output(name) else "fusion"


def guilty(model: MultimodalModel, batch: Batch, alone: Sequence[Batch], name: str) -> int:
    """The sample for whose loss alone the gradients of a component differ most. Two passes a sample."""
    stream = TARGET if TARGET in batch.streams else TEXT
    learnt = batch.learnt
    differences, start = [], 0
    for length, one in zip(learnt.segments.lengths, alone, strict=False):
        weights = torch.zeros_like(learnt.weights)
        weights[start : start + length] = learnt.weights[start : start + length]
        start += length
        model.zero_grad(set_to_none=True)
        run(model, batch.having(stream, dataclasses.replace(learnt, weights=weights)))
        packed = collected(model, {})
        run(model, one)
        apart = collected(model, {})
        differences.append(gradient_difference(model.get_submodule(name), name, packed, apart) or 0.0)
    return max(range(len(differences)), key=differences.__getitem__)
