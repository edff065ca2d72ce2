"""Whether a recipe's own model sees, in a pack of the recipe's own data, across the border between two samples.

A pack is computed as training would, then each of its samples alone, in float32; of a sample of several segments, such
as the two answers of a preference pair, each segment. What every component makes of every
sample, the loss of every sample and the summed gradients must agree. Costs three passes over the pack and two backward,
and memory for the weights and twice their gradients.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from vitrail import build
from vitrail.contracts.errors import DataError, RecipeError
from vitrail.contracts.samples import TARGET, TEXT, Batch, Pack, Sample, component
from vitrail.data.collate import Rules, collate
from vitrail.models.assembled import MultimodalModel
from vitrail.recipe.schema import Recipe
from vitrail.training.config import StageConfig
from vitrail.training.device import choose
from vitrail.training.objectives import NextToken, Objective

LOSS_TOLERANCE, TOLERANCE = 1e-5, 1e-4
"""Largest relative difference of a sample's loss; of gradients and of what components make of a sample."""


GATE = 0.02
"""Deviation of what is put in the place of parameters that are all zero: a closed gate would hide what is behind it."""


@dataclass(frozen=True)
class ComponentDifference:
    """One component. output, gradient: largest difference relative to the largest value; None where it has none.

    sample: the one whose output differs most.
    """

    output: float | None = None
    gradient: float | None = None
    sample: str = ""


@dataclass(frozen=True)
class PackDifference:
    """One pack: what is in it, and how far it is from its samples one by one.

    pictured: samples with pictures. loss: largest relative difference of a sample's loss, relative to 1 nat a token
    where the loss is less. sample: that sample. finding: what is above its tolerance, in one line; "" for nothing.
    """

    samples: int
    pictured: int
    tokens: int
    patches: int
    loss: float
    sample: str
    components: Mapping[str, ComponentDifference]
    finding: str = ""


@dataclass(frozen=True)
class Verification:
    """What was found. notes: what a reader must know about how it was looked for."""

    stage: str
    device: str
    packs: Sequence[PackDifference]
    notes: Sequence[str] = ()

    @property
    def finding(self) -> str:
        """The first thing above its tolerance; "" when no sample sees another."""
        return next((pack.finding for pack in self.packs if pack.finding), "")


@dataclass(frozen=True)
class _Pass:
    """One pass. losses: of each sample, summed. outputs: of each component, float[N, width]."""

    losses: list[float]
    outputs: dict[str, Tensor]


def verify(recipe: Recipe, stage: int = 0, packs: int = 1) -> Verification:
    """Compares the first packs of a stage's first window that hold two samples or more.

    Packs with two pictures or more come first. Raises DataError when there are no such packs, RecipeError for a stage
    that is not there.
    """
    if not 0 <= stage < len(recipe.stages):
        raise RecipeError(f"--stage {stage}: the recipe has {len(recipe.stages)} stages, numbered from 0")
    device = choose(recipe.training)
    torch.set_num_threads(device.threads)
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    encode = build.build_encode(recipe.model, recipe.prompt, tokenizer, recipe.data.fetch)
    stream = build.build_stages(recipe, encode, device)[stage].stream
    batches = _batches(stream.first_window().packs, encode.media, stream.pad_to, packs, device.name)
    model = build.starting_model(recipe.model, tokenizer.vocabulary, recipe.seed).to(device.name)
    notes = _notes(recipe.stages[stage], build.build_objective(recipe.stages[stage]))
    if len(batches) < packs:
        notes.append(
            f"packs of two samples or more in the first window: {len(batches)}, fewer than the {packs} asked for"
        )
    _prepare(model, recipe.seed)
    with _exact():
        if not _repeats(model, batches[0][0]):
            model.eval()
            notes.append("the model draws by chance in training mode: compared in evaluation mode")
            if not _repeats(model, batches[0][0]):
                raise RecipeError("model: two passes over the same pack disagree, so packs cannot be compared")
        found = [_compare(model, batch, alone, samples) for batch, alone, samples in batches]
    return Verification(recipe.stages[stage].name, device.name, found, notes)


_Batches = tuple[Batch, list[Batch], list[Sample]]


def _batches(packs: Sequence[Pack], rules: Rules, pad_to: int, count: int, device: str) -> list[_Batches]:
    """Each pack, its segments one by one, and these as samples. One with a damaged picture is left out of both."""
    found: list[_Batches] = []
    for pack in sorted(packs, key=lambda pack: sum(bool(sample.slots) for sample in pack.samples) < 2):
        if len(found) == count:
            break
        parts = [sample.apart() for sample in pack.samples]
        alone = [[collate(Pack((part,)), rules)[0] for part in segments] for segments in parts]
        kept = [number for number, batches in enumerate(alone) if None not in batches]
        samples = [part for number in kept for part in parts[number]]
        if len(samples) < 2:
            continue
        whole, _ = collate(Pack(tuple(pack.samples[number] for number in kept)), rules, pad_to)
        assert whole is not None, "samples that can be read alone can be read together"
        single = [batch.to(device) for number in kept for batch in alone[number] if batch is not None]
        found.append((whole.to(device), single, samples))
    if not found:
        raise DataError(
            f"of the {len(packs)} packs of the first window none holds two samples that can be used: there is nothing "
            "to compare; raise data.pack.length, or look with `vitrail show RECIPE --at pack`"
        )
    return found


def _notes(stage: StageConfig, objective: Objective) -> list[str]:
    if isinstance(objective, NextToken):
        return []
    why = "compares the samples of a pack by design" if objective.compares_samples else "may compare samples"
    return [f"the objective '{stage.objective.kind}' {why}: compared by the next-token loss"]


def _prepare(model: MultimodalModel, seed: int) -> None:
    """Training mode without dropout; every parameter that can learn gets a gradient, and gates are opened."""
    model.train()
    for module in model.modules():
        if isinstance(module, _DropoutNd):
            module.eval()
    generator = torch.Generator().manual_seed(seed)
    for child in model.children():
        child.requires_grad_(False)
        for parameter in getattr(child, "trainable_parameters", child.parameters)():
            parameter.requires_grad_(True)
            if not parameter.detach().any():
                with torch.no_grad():
                    parameter.copy_(GATE * torch.randn(parameter.shape, generator=generator))


@contextmanager
def _exact() -> Iterator[None]:
    """Without TF32, whose ten bits would drown what is looked for."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def _repeats(model: MultimodalModel, batch: Batch) -> bool:
    with torch.no_grad():
        one, two = (_run(model, batch, backward=False).losses for _ in range(2))
    weight = max(batch.label_weight, 1.0)
    return all(abs(a - b) <= LOSS_TOLERANCE * max(weight, abs(a)) for a, b in zip(one, two, strict=True))


def seen(model: MultimodalModel) -> list[str]:
    """Components whose outputs are compared, in the order in which they run: the first that differs is what leaks."""
    towers = (
        name for stream in model.streams for name in (component(stream, "encoder"), component(stream, "projector"))
    )
    return [*towers, "fusion", "backbone"]


def _run(model: MultimodalModel, batch: Batch, *, backward: bool = True, scale: float = 1.0) -> _Pass:
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
    return _Pass([float(part.sum()) for part in parts], outputs)


def _keeper(outputs: dict[str, Tensor], name: str) -> Any:
    def keep(module: nn.Module, given: Any, output: Any) -> None:
        # Fusion returns its context too.
        tensor = output[0] if isinstance(output, tuple) else output
        if isinstance(tensor, Tensor):
            outputs[name] = tensor.detach()

    return keep


def _compare(model: MultimodalModel, batch: Batch, alone: Sequence[Batch], samples: Sequence[Sample]) -> PackDifference:
    scale = 1 / max(batch.label_weight, 1e-9)
    model.zero_grad(set_to_none=True)
    packed = _run(model, batch, scale=scale)
    gradients = _gradients(model)
    model.zero_grad(set_to_none=True)
    single = [_run(model, one, scale=scale) for one in alone]
    outputs = {name: _output_difference(packed, single, name) for name in seen(model) if name in packed.outputs}
    components: dict[str, ComponentDifference] = {}
    for name, child in model.named_children():
        gradient = _gradient_difference(child, name, gradients)
        output, worst = outputs.get(name, (None, -1))
        if output is not None or gradient is not None:
            components[name] = ComponentDifference(output, gradient, samples[worst].id if worst >= 0 else "")
    losses = [
        _finite(abs(together - one.losses[0]) / max(abs(one.losses[0]), sample_batch.label_weight, 1e-9))
        for together, one, sample_batch in zip(packed.losses, single, alone, strict=True)
    ]
    worst = max(range(len(losses)), key=losses.__getitem__)
    found = PackDifference(
        samples=len(samples),
        pictured=sum(bool(sample.slots) for sample in samples),
        tokens=sum(sample.tokens for sample in samples),
        patches=sum(sample.patches for sample in samples),
        loss=losses[worst],
        sample=samples[worst].id,
        components=components,
    )
    return dataclasses.replace(found, finding=_finding(found, model, batch, alone, samples))


def _gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def _gradient_difference(child: nn.Module, name: str, packed: Mapping[str, Tensor]) -> float | None:
    """Of what stands in the parameters' gradients from those in `packed`."""
    largest = difference = 0.0
    any_there = False
    for key, parameter in child.named_parameters():
        together, apart = packed.get(f"{name}.{key}"), parameter.grad
        if together is None and apart is None:
            continue
        any_there = True
        together = torch.zeros_like(parameter) if together is None else together
        apart = torch.zeros_like(parameter) if apart is None else apart
        largest = max(largest, _finite(float(together.abs().max())), _finite(float(apart.abs().max())))
        difference = max(difference, _finite(float((together - apart).abs().max())))
    return _share(difference, largest) if any_there else None


def _output_difference(packed: _Pass, single: Sequence[_Pass], name: str) -> tuple[float, int]:
    """The largest difference relative to the largest output, and the number of the sample that has it."""
    whole, start, worst = packed.outputs[name], 0, (-1.0, 0)
    largest = _finite(float(whole.abs().max()))
    for number, one in enumerate(single):
        alone = one.outputs.get(name)
        if alone is None:
            continue
        part = whole[start : start + len(alone)]
        start += len(alone)
        if part.shape != alone.shape:
            return math.inf, number
        if len(alone):
            worst = max(worst, (_finite(float((part - alone).abs().max())), number), key=lambda pair: pair[0])
    return _share(max(worst[0], 0.0), largest), worst[1]


def _share(difference: float, largest: float) -> float:
    return difference / largest if 0 < largest < math.inf else (math.inf if difference else 0.0)


def _finite(value: float) -> float:
    """What is no number counts as infinitely far away."""
    return value if math.isfinite(value) else math.inf


def _finding(
    found: PackDifference, model: MultimodalModel, batch: Batch, alone: Sequence[Batch], samples: Sequence[Sample]
) -> str:
    for name, one in found.components.items():
        if one.output is not None and one.output > TOLERANCE:
            blamed = _blamed(name, model, batch, alone)
            return (
                f"{blamed}: what it makes of sample {one.sample} depends on the other samples of the pack "
                f"(it differs by {one.output:.1e} of its largest output, allowed {TOLERANCE:.0e})"
            )
    if found.loss > LOSS_TOLERANCE:
        return (
            f"the loss of sample {found.sample} depends on the other samples of the pack "
            f"(it differs by {found.loss:.1e}, allowed {LOSS_TOLERANCE:.0e})"
        )
    for name, one in found.components.items():
        if one.gradient is not None and one.gradient > TOLERANCE:
            sample = samples[_guilty(model, batch, alone, name)].id
            return (
                f"{name}: its gradient for sample {sample} depends on the other samples of the pack "
                f"(all gradients together differ by {one.gradient:.1e} of the largest, allowed {TOLERANCE:.0e})"
            )
    return ""


def _blamed(name: str, model: MultimodalModel, batch: Batch, alone: Sequence[Batch]) -> str:
    """The component whose output differs; the fusion where the backbone's does, but not without what is done between
    its layers. A pass over the pack and one over each sample."""
    if name != "backbone":
        return name

    def without_context(module: nn.Module, given: Any, output: Any) -> Any:
        return (output[0], None) if isinstance(output, tuple) else output

    hook = model.get_submodule("fusion").register_forward_hook(without_context)
    try:
        with torch.no_grad():
            packed, *single = [_run(model, one, backward=False) for one in (batch, *alone)]
    finally:
        hook.remove()
    return name if _output_difference(packed, single, name)[0] > TOLERANCE else "fusion"


def _guilty(model: MultimodalModel, batch: Batch, alone: Sequence[Batch], component: str) -> int:
    """The sample for whose loss alone the gradients of a component differ most. Two passes a sample."""
    name = TARGET if TARGET in batch.streams else TEXT
    learnt = batch.learnt
    differences, start = [], 0
    for length, one in zip(learnt.segments.lengths, alone, strict=False):
        weights = torch.zeros_like(learnt.weights)
        weights[start : start + length] = learnt.weights[start : start + length]
        start += length
        model.zero_grad(set_to_none=True)
        _run(model, batch.having(name, dataclasses.replace(learnt, weights=weights)))
        packed = _gradients(model)
        model.zero_grad(set_to_none=True)
        _run(model, one)
        differences.append(_gradient_difference(model.get_submodule(component), component, packed) or 0.0)
    return max(range(len(differences)), key=differences.__getitem__)
