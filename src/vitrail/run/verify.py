"""Whether a recipe's own model sees, in a pack of the recipe's own data, across the border between two samples.

A pack is computed as training would, then each of its samples alone; of a sample of several segments, such as the two
answers of a preference pair, each segment. What every component makes of every sample, the loss of every sample and the
summed gradients must agree: first in float32, where nothing but a leak can hide, and then, where the run computes in
another format or with other kernels (bfloat16, compiled), in those. There, what rounding may explain is measured: the
samples alone, which no other can leak into, in the run's own format against float32, times `MARGIN`.

Costs three passes over the pack and two backward, twice that for a format of the run's own; and memory for the weights
and three times their gradients.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.nn.modules.dropout import _DropoutNd

from vitrail import build
from vitrail.contracts.errors import DataError, RecipeError
from vitrail.contracts.samples import Batch, Pack, Sample
from vitrail.data.collate import Rules, collate
from vitrail.models.assembled import MultimodalModel
from vitrail.models.weights import in_format
from vitrail.recipe.schema import Recipe
from vitrail.run.verify_passes import (
    LOSS_TOLERANCE,
    MOST,
    TOLERANCE,
    Passes,
    Tolerance,
    blamed,
    gradient_difference,
    guilty,
    loss_difference,
    output_difference,
    passes,
    run,
    seen,
    tolerance,
)
from vitrail.training.compiling import compile_pieces
from vitrail.training.config import StageConfig
from vitrail.training.device import Device, choose
from vitrail.training.objectives import NextToken, Objective

__all__ = ["LOSS_TOLERANCE", "TOLERANCE", "PackDifference", "Verification", "verify"]

GATE = 0.02
"""Deviation of what is put in the place of parameters that are all zero: a closed gate would hide what is behind it."""


@dataclass(frozen=True)
class ComponentDifference:
    """One component. output, gradient: largest difference relative to the largest value; None where it has none.

    output_allowed, gradient_allowed: what rounding explains. sample: the one whose output differs most.
    """

    output: float | None = None
    gradient: float | None = None
    sample: str = ""
    output_allowed: float = TOLERANCE
    gradient_allowed: float = TOLERANCE


@dataclass(frozen=True)
class PackDifference:
    """One pack: what is in it, and how far it is from its samples one by one.

    pictured: samples with pictures. loss: largest relative difference of a sample's loss, relative to 1 nat a token
    where the loss is less. sample: that sample. finding: what is above its tolerance, in one line; "" for nothing.
    format: number format, and kernels where they are not the usual ones. loss_allowed: what rounding explains.
    """

    samples: int
    pictured: int
    tokens: int
    patches: int
    loss: float
    sample: str
    components: Mapping[str, ComponentDifference]
    finding: str = ""
    format: str = "float32"
    loss_allowed: float = LOSS_TOLERANCE


@dataclass(frozen=True)
class Verification:
    """What was found. packs: every one in float32, then, if the run's own format is another, every one in that.

    notes: what a reader must know about how it was looked for.
    """

    stage: str
    device: str
    packs: Sequence[PackDifference]
    notes: Sequence[str] = ()

    @property
    def finding(self) -> str:
        """The first thing above its tolerance; "" when no sample sees another."""
        return next((pack.finding for pack in self.packs if pack.finding), "")


_Batches = tuple[Batch, list[Batch], list[Sample]]


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
    dtype = device.torch_dtype
    model = build.starting_model(recipe.model, tokenizer.vocabulary, recipe.seed, dtype).to(device.name)
    notes = _notes(recipe.stages[stage], build.build_objective(recipe.stages[stage]))
    if len(batches) < packs:
        notes.append(
            f"packs of two samples or more in the first window: {len(batches)}, fewer than the {packs} asked for"
        )
    _prepare(model, recipe.seed)
    # The same weights, which the run's own format has rounded already.
    in_format(model, torch.float32)
    with _exact():
        _check_repeats(model, batches[0][0], notes)
        found, exact = _in_float32(model, batches)
    if dtype != torch.float32 or device.compiled:
        in_format(model, dtype)
        if device.compiled:
            compile_pieces(model)
        found += _in_own_format(model, batches, exact, device, notes)
    return Verification(recipe.stages[stage].name, device.name, found, notes)


def _in_float32(model: MultimodalModel, batches: Sequence[_Batches]) -> tuple[list[PackDifference], list[Passes]]:
    """What is found in every pack, and its samples one by one, for what rounding comes to elsewhere."""
    found, exact = [], []
    for batch, alone, samples in batches:
        ran = passes(model, batch, alone)
        found.append(_compared(model, batch, alone, samples, ran, Tolerance()))
        exact.append(ran.on_cpu())
    return found, exact


def _in_own_format(
    model: MultimodalModel, batches: Sequence[_Batches], exact: Sequence[Passes], device: Device, notes: list[str]
) -> list[PackDifference]:
    """What is found where only rounding and kernels are others."""
    name = f"{device.dtype}, compiled" if device.compiled else device.dtype
    found = []
    for (batch, alone, samples), right in zip(batches, exact, strict=True):
        ran = passes(model, batch, alone)
        allowed = tolerance(model, ran, right, alone, device.torch_dtype)
        found.append(_compared(model, batch, alone, samples, ran, allowed, name))
        coarse = [one for one, value in allowed.output.items() if value >= MOST]
        notes += [f"{one}: {name} moves it by more than rounding explains, of single samples too" for one in coarse]
    return found


def _check_repeats(model: MultimodalModel, batch: Batch, notes: list[str]) -> None:
    """Leaves training mode where the model draws by chance in it. Raises RecipeError where it does so without too."""
    if _repeats(model, batch):
        return
    model.eval()
    notes.append("the model draws by chance in training mode: compared in evaluation mode")
    if not _repeats(model, batch):
        raise RecipeError("model: two passes over the same pack disagree, so packs cannot be compared")


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
        one, two = (run(model, batch, backward=False).losses for _ in range(2))
    weight = max(batch.label_weight, 1.0)
    return all(abs(a - b) <= LOSS_TOLERANCE * max(weight, abs(a)) for a, b in zip(one, two, strict=True))


def _compared(
    model: MultimodalModel,
    batch: Batch,
    alone: Sequence[Batch],
    samples: Sequence[Sample],
    ran: Passes,
    allowed: Tolerance,
    name_of_format: str = "float32",
) -> PackDifference:
    outputs = {
        name: output_difference(ran.packed, ran.single, name) for name in seen(model) if name in ran.packed.outputs
    }
    components: dict[str, ComponentDifference] = {}
    for name, child in model.named_children():
        gradient = gradient_difference(child, name, ran.together, ran.apart)
        output, worst = outputs.get(name, (None, -1))
        if output is not None or gradient is not None:
            who = samples[worst].id if worst >= 0 else ""
            limits = allowed.of_output(name), allowed.of_gradient(name)
            components[name] = ComponentDifference(output, gradient, who, *limits)
    pairs = zip(ran.packed.losses, ran.single, alone, strict=True)
    losses = [loss_difference(together, one.losses[0], sample_batch) for together, one, sample_batch in pairs]
    worst = max(range(len(losses)), key=losses.__getitem__)
    found = PackDifference(
        samples=len(samples),
        pictured=sum(bool(sample.slots) for sample in samples),
        tokens=sum(sample.tokens for sample in samples),
        patches=sum(sample.patches for sample in samples),
        loss=losses[worst],
        sample=samples[worst].id,
        components=components,
        format=name_of_format,
        loss_allowed=allowed.loss,
    )
    finding = _finding(found, model, batch, alone, samples, allowed)
    if finding and name_of_format != "float32":
        finding += f"; in {name_of_format}"
    return dataclasses.replace(found, finding=finding)


def _finding(
    found: PackDifference,
    model: MultimodalModel,
    batch: Batch,
    alone: Sequence[Batch],
    samples: Sequence[Sample],
    allowed: Tolerance,
) -> str:
    for name, one in found.components.items():
        if one.output is not None and one.output > one.output_allowed:
            at_fault = blamed(name, model, batch, alone, allowed)
            return (
                f"{at_fault}: what it makes of sample {one.sample} depends on the other samples of the pack "
                f"(it differs by {one.output:.1e} of its largest output, allowed {one.output_allowed:.0e})"
            )
    if found.loss > found.loss_allowed:
        return (
            f"the loss of sample {found.sample} depends on the other samples of the pack "
            f"(it differs by {found.loss:.1e}, allowed {found.loss_allowed:.0e})"
        )
    for name, one in found.components.items():
        if one.gradient is not None and one.gradient > one.gradient_allowed:
            sample = samples[guilty(model, batch, alone, name)].id
            return (
                f"{name}: its gradient for sample {sample} depends on the other samples of the pack "
                f"(all gradients together differ by {one.gradient:.1e} of the largest, allowed "
                f"{one.gradient_allowed:.0e})"
            )
    return ""
