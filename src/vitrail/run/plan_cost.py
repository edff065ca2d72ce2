"""What one pack costs a stage: one layer of each component, timed at its real width, times the depth.

The stage's own objective is run, so that what it runs twice, or not at all, is counted as often as it runs.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vitrail import build
from vitrail.contracts.samples import TEXT, VISION, Batch
from vitrail.models.assembled import MultimodalModel
from vitrail.models.backbones import construct
from vitrail.models.config import CrossAttentionConfig, EncoderConfig, ModelConfig, StackedConfig, blocks
from vitrail.models.ops import nf4
from vitrail.models.weights import in_format
from vitrail.recipe.schema import Recipe
from vitrail.training.config import StageConfig
from vitrail.training.device import Device
from vitrail.training.objectives import NextToken, Objective
from vitrail.training.optimizer import freeze_all_but

CALIBRATION_SECONDS = 3.0
LONGEST_CALIBRATION = 120.0
"""Seconds. Models of billions, on a processor, take longer."""
UNTIMED = Device("meta", "bfloat16", 1, compiled=False)
"""Where packs are counted that would take too long: no storage, and the number format of the devices that take them."""


@dataclass(frozen=True)
class Cost:
    """What a stage does with one pack. kept: bytes held for the backward pass. flop: where not timed.

    once: seconds more where the pack is met for the first time, for objectives that must see it at their start.
    """

    seconds: float
    kept: float
    flop: float = 0.0
    once: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.seconds + other.seconds, self.kept + other.kept, self.flop + other.flop, self.once + other.once
        )

    def beyond(self, other: Cost) -> Cost:
        """What this costs more; a difference of two timings may come out below nothing, a layer cannot."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Cost(*(max(0.0, mine - its) for mine, its in pairs))

    def times(self, count: int) -> Cost:
        """That many of them."""
        return Cost(*(one * count for one in dataclasses.astuple(self)))


def calibration(recipe: Recipe, vocabulary: int, batch: Batch, device: Device) -> float:
    """About how many seconds `cost_of_pack` will take at least: two passes over each of its three models."""
    with torch.device("meta"):
        stacks = construct.backbone_depths(recipe.model.backbone, vocabulary)
        towers = dict.fromkeys(recipe.model.towers, 2)
        model = shaped(_crossed(recipe.model, 1), vocabulary, towers, dict.fromkeys(stacks, 2))
    learnt = int(batch.learnt.weights.count_nonzero())
    products = sum(count(stack) * _length(batch, name) for name, stack in model.language_model.stacks.items())
    products += count(model.fusion) * batch.text.segments.total
    products += sum(count(model.encoder_of(name)) * stream.segments.total for name, stream in batch.media.items())
    products += model.backbone.head_weight().numel() * learnt
    square = torch.ones(1024, 1024, device=device.name, dtype=device.torch_dtype)
    fastest = float("inf")
    for _ in range(3):
        begun = time.perf_counter()
        _ = float((square @ square)[0, 0])  # asking for a number waits for the device
        fastest = min(fastest, time.perf_counter() - begun)
    # A product of a matrix forward is two backward; the larger of the models counts in full, the others almost.
    return float(3 * 2 * 3 * products / (1024**3 / fastest))


def cost_of_pack(
    recipe: Recipe, stage: StageConfig, vocabulary: int, batch: Batch, device: Device, *, made_up: bool = False
) -> Cost:
    """One layer of each, and what a second one of each adds, times the depth.

    made_up: the batch has no targets, so an objective that needs them is measured as the next-token loss.

    Before the first layer of the language model stands a block of its fusion, if it has any: what a second layer adds
    is measured without another block, what another block adds is measured besides.
    """
    depths = {name: _depth(stream.encoder) for name, stream in recipe.model.towers.items()}
    stacks = construct.backbone_depths(recipe.model.backbone, vocabulary)
    share = CALIBRATION_SECONDS / len(recipe.stages) / 3
    objective = build.build_objective(stage)
    if made_up and objective.needs.targets:
        objective = NextToken()

    def measured(tower: str = "", stack: str = "", every: int = 2) -> Cost:
        """One block of every encoder and one layer of every stack, two of those named; a block of fusion before every
        n-th layer."""
        with torch.device(device.name):
            shallow = {name: 2 if name == tower else 1 for name in depths}
            layers = {name: 2 if name == stack else 1 for name in stacks}
            model = shaped(_crossed(recipe.model, every), vocabulary, shallow, layers, [objective])
        in_format(model, device.torch_dtype)
        model = model.to(device.name)
        freeze_all_but(model, _without_heads(stage.train, model), stage.name)
        model.language_model.recompute = False
        return _measure(model, objective, batch.to(device.name), share)

    one = measured()
    parts = [measured(tower=name).beyond(one).times(depth - 1) for name, depth in depths.items() if depth > 1]
    recompute = recipe.model.backbone.recompute
    for name, layers in stacks.items():
        two = measured(stack=name) if layers > 1 else one
        taken = _length(batch, name) * _width(recipe, vocabulary) * device.torch_dtype.itemsize
        layer = two.beyond(one)
        if recompute:
            layer = _recomputed(layer, taken, frozen=recipe.model.backbone.lora is not None)
        parts.append(layer.times(layers - 1))
        crossing = blocks(recipe.model.fusion, layers)
        if crossing > 1:
            crossed = measured(stack=name, every=1).beyond(two)
            if recompute:
                crossed = _recomputed(crossed, taken, frozen="fusion" not in stage.train)
            parts.append(crossed.times(crossing - 1))
    return sum(parts, one)


def _length(batch: Batch, stream: str) -> int:
    """Tokens of a stream of text, padding included."""
    return (batch.text if stream == TEXT else batch.learnt).segments.total


def _recomputed(cost: Cost, taken: int, *, frozen: bool) -> Cost:
    """Of each layer its input alone is kept, so many bytes; all of it in the one that is on its way back.

    Forward once more: on top of three products for each matrix that learns, of two for one that does not.
    """
    again = 3 / 2 if frozen else 4 / 3
    return Cost(cost.seconds * again, taken, cost.flop * again, cost.once)


def _crossed(config: ModelConfig, every: int) -> ModelConfig:
    """With a block of its fusion before the first layer of the language model, and before every n-th after it."""
    if not isinstance(config.fusion, CrossAttentionConfig):
        return config
    return dataclasses.replace(config, fusion=dataclasses.replace(config.fusion, every=every, first=0, at=None))


def _depth(encoder: EncoderConfig) -> int:
    """Blocks of an encoder; 1 for one that has none, or of the user's own, which is measured as it is."""
    return encoder.depth if isinstance(encoder, StackedConfig) else 1


def _width(recipe: Recipe, vocabulary: int) -> int:
    """Width of what goes from layer to layer of the language model."""
    return int(construct.backbone_config(recipe.model.backbone, vocabulary).hidden_size)


def shaped(
    config: ModelConfig,
    vocabulary: int,
    depths: Mapping[str, int] | None = None,
    layers: Mapping[str, int] | None = None,
    objectives: Iterable[Objective] = (),
) -> MultimodalModel:
    """The model with random weights, cut to that many blocks and layers of each stack where numbers are given."""
    if depths is not None:
        config = _shallow(config, depths)
    backbone = construct.untrained_backbone(config.backbone, vocabulary, layers)
    model = build.build_model(config, vocabulary, seed=0, backbone=backbone, objectives=objectives)
    if config.backbone.quantised:
        backbone.quantise()
    return model


def _shallow(config: ModelConfig, depths: Mapping[str, int]) -> ModelConfig:
    """With the encoder of each stream cut to that many blocks."""

    def cut(encoder: EncoderConfig, stream: str) -> EncoderConfig:
        if isinstance(encoder, StackedConfig):
            return dataclasses.replace(encoder, depth=depths[stream])
        return encoder

    streams = {name: dataclasses.replace(one, encoder=cut(one.encoder, name)) for name, one in config.streams.items()}
    vision = None if config.encoder is None else cut(config.encoder, VISION)
    return dataclasses.replace(config, encoder=vision, streams=streams)


def _without_heads(train: Mapping[str, float], model: MultimodalModel) -> Mapping[str, float]:
    """Of what a stage trains, the components that a pass of the model alone takes."""
    known = {name for name, _ in model.named_children()}
    return {name: rate for name, rate in train.items() if name in known}


def _measure(model: MultimodalModel, objective: Objective, batch: Batch, seconds: float) -> Cost:
    """The fastest of as many passes as fit into the time; two at least, since the first warms up."""
    if batch.text.ids.is_meta:
        return _counted(model, batch)
    objective.prepare(model)
    fastest, kept, started, passes = float("inf"), 0.0, time.perf_counter(), 0
    while passes < 2 or time.perf_counter() - started < seconds:
        spent, kept = _timed(model, objective, batch)
        fastest, passes = min(fastest, spent), passes + 1
    if not objective.remembers_start:
        return Cost(fastest, kept)
    firsts = []
    for _ in range(2):
        # As at the beginning of its stage, when it knows no pack yet.
        objective.load_state({})
        firsts.append(_timed(model, objective, batch)[0])
    return Cost(fastest, kept, once=max(0.0, min(firsts) - fastest))


def _timed(model: MultimodalModel, objective: Objective, batch: Batch) -> tuple[float, float]:
    """Seconds of one pass forward and backward, and the bytes that it kept on its way."""
    begun = time.perf_counter()
    with _bytes_kept(model) as counted:
        terms = objective(model, batch).values()
        shares = [term.weight * term.loss_sum / max(1.0, term.count) for term in terms]
    loss = sum(shares, torch.zeros((), device=batch.text.ids.device))
    if loss.requires_grad:
        loss.backward()
    if batch.text.ids.is_cuda:
        torch.cuda.synchronize()
    spent = time.perf_counter() - begun
    model.zero_grad()
    return spent, float(sum(counted.values()))


def _counted(model: MultimodalModel, batch: Batch) -> Cost:
    """What a pass keeps and computes, but for the vocabulary head, whose work depends on what is learnt."""
    with FlopCounterMode(display=False) as work, _bytes_kept(model) as counted:
        hidden = model(batch).float().sum()
        if hidden.requires_grad:
            hidden.backward()
    return Cost(0.0, float(sum(counted.values())), float(work.get_total_flops()))


@contextmanager
def _bytes_kept(model: MultimodalModel) -> Iterator[dict[int, int]]:
    """Counts, storage by storage, what autograd keeps; the weights themselves are counted elsewhere."""
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    counted: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            counted[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield counted


def memory_bandwidth() -> float:
    """Bytes a second of a large copy."""
    block = torch.ones(16 * 2**20)
    target = torch.empty_like(block)
    fastest = float("inf")
    for _ in range(3):
        begun = time.perf_counter()
        target.copy_(block)
        fastest = min(fastest, time.perf_counter() - begun)
    return 2 * block.nbytes / fastest


def count(module: Any) -> int:
    """Parameters, those in codes included."""
    return int(sum(parameter.numel() for parameter in module.parameters())) + nf4.weights(module)


def bytes_of(module: Any, width: int) -> int:
    """Bytes of the weights: `width` for each, less for those in codes."""
    codes = sum(tensor.nbytes for name, tensor in module.named_buffers() if name.endswith(f".{nf4.CODES}"))
    scales = sum(2 * tensor.numel() for name, tensor in module.named_buffers() if name.endswith(f".{nf4.SCALES}"))
    return int(width * (count(module) - nf4.weights(module)) + codes + scales)
