"""What a recipe will cost, before anything is spent.

Parameters are counted on the meta device. Time and memory come from a calibration of a few seconds: one layer of each
component, at its real width and on a full pack, forward and backward, times the depth. A model of any size can be
planned on a machine that could not hold it. Where even that calibration would take minutes, it is left out: the
rest can be counted.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vitrail import build
from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import AudioPart, ImagePart, MediaPart
from vitrail.contracts.samples import IGNORE, TEXT, VISION, Batch, MediaSlot, Pack, Sample, TargetText
from vitrail.data.collate import collate
from vitrail.data.encode import Encode
from vitrail.models.assembled import MultimodalModel
from vitrail.models.backbones import construct
from vitrail.models.config import CrossAttentionConfig, EncoderConfig, ModelConfig, StackedConfig, blocks
from vitrail.models.ops import nf4
from vitrail.models.weights import in_format
from vitrail.prompts.render import positions_of
from vitrail.recipe.schema import Recipe
from vitrail.training.config import StageConfig
from vitrail.training.device import Device
from vitrail.training.objectives import Objective
from vitrail.training.optimizer import freeze_all_but

CALIBRATION_SECONDS = 3.0
LONGEST_CALIBRATION = 120.0
"""Seconds. Models of billions, on a processor, take longer."""
MOMENTS_BYTES = 8
"""AdamW keeps two float32 numbers a trained parameter."""
UNTIMED = Device("meta", "bfloat16", 1, compiled=False)
"""Where packs are counted that would take too long: no storage, and the number format of the devices that take them."""
PROCESS_GIB = 0.5
"""Python, torch and transformers before any model."""


@dataclass(frozen=True)
class StagePlan:
    """One stage. trainable: parameters. steps: None for epochs of data that is not there. seconds, memory_gib: of the
    stage and of the process, estimates; None where a calibration would take too long, or steps are not known.

    flop: of a step, floating-point operations; counted where it is not timed.

    packing: share of real tokens in packs. missing: why the stage's data could not be opened, and a pack was made up;
    "" when it was measured.
    """

    name: str
    trainable: int
    steps: float | None
    seconds: float | None
    memory_gib: float | None
    packing: float
    missing: str
    flop: float | None = None


@dataclass(frozen=True)
class Plan:
    """parameters: by component."""

    parameters: Mapping[str, int]
    stages: Sequence[StagePlan]


@dataclass(frozen=True)
class Cost:
    """One pass forward and backward over one pack. kept: bytes held for the backward pass. flop: where not timed."""

    seconds: float
    kept: float
    flop: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, self.kept + other.kept, self.flop + other.flop)

    def beyond(self, other: Cost) -> Cost:
        """What this costs more; a difference of two timings may come out below nothing, a layer cannot."""
        less = (self.seconds - other.seconds, self.kept - other.kept, self.flop - other.flop)
        return Cost(*(max(0.0, one) for one in less))

    def times(self, count: int) -> Cost:
        """That many of them."""
        return Cost(self.seconds * count, self.kept * count, self.flop * count)


@dataclass(frozen=True)
class Load:
    """What the stream brings: a typical pack, how many an epoch has, and how full they are."""

    batch: Batch
    packs_per_epoch: float
    packing: float
    missing: str = ""


def make_plan(recipe: Recipe, device: Device) -> Plan:
    """Counts and measures. Raises RecipeError for a recipe that does not fit together."""
    torch.set_num_threads(device.threads)
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    encode = build.build_encode(recipe.model, recipe.prompt, tokenizer, recipe.data.fetch)
    with torch.device("meta"):
        objectives = build.objectives_of(recipe.stages).values()
        whole = _shaped(recipe.model, tokenizer.vocabulary, objectives=objectives)
    parameters = {name: _count(child) for name, child in whole.named_children() if _count(child)}
    loads: dict[tuple[object, ...], Load] = {}
    stages = []
    for number, stage in enumerate(recipe.stages):
        # Stages that read the same are measured on the same pack.
        key = (stage.data, stage.resolution, *sorted(stage.replay.items()))
        if key not in loads:
            loads[key] = _load(recipe, number, encode, device)
        stages.append(_stage(recipe, stage, whole, tokenizer.vocabulary, loads[key], device))
    return Plan(parameters, stages)


def _stage(
    recipe: Recipe, stage: StageConfig, whole: MultimodalModel, vocabulary: int, load: Load, device: Device
) -> StagePlan:
    freeze_all_but(whole, stage.train, stage.name)
    trainable = sum(parameter.numel() for parameter in whole.parameters() if parameter.requires_grad)
    steps: float | None
    if stage.steps is not None:
        steps = float(stage.steps)
    elif stage.tokens is not None:
        steps = stage.tokens / (load.batch.tokens * stage.accumulate)
    else:
        assert stage.epochs is not None, "a stage is counted in steps, tokens or epochs"
        steps = None if load.missing else stage.epochs * load.packs_per_epoch / stage.accumulate
    timed = _calibration(recipe, vocabulary, load.batch, device) <= LONGEST_CALIBRATION
    cost = _cost_of_pack(recipe, stage, vocabulary, load.batch, device if timed else UNTIMED)
    width = device.torch_dtype.itemsize if timed else UNTIMED.torch_dtype.itemsize
    masters = 0 if width == 4 else 4
    (objective,) = build.objectives_of([stage]).values()
    start = width if objective.remembers_start else 0
    weights = _bytes_of(whole, width) + trainable * (width + MOMENTS_BYTES + masters + start)
    memory = PROCESS_GIB + (weights + cost.kept) / 2**30
    if not timed:
        flop = stage.accumulate * cost.flop
        return StagePlan(stage.name, trainable, steps, None, memory, load.packing, load.missing, flop)
    # A step of the optimizer goes over parameter, gradient and both moments, some of them twice.
    moving = trainable * 8 * 4 / _memory_bandwidth()
    seconds = None if steps is None else steps * (stage.accumulate * cost.seconds + moving)
    return StagePlan(stage.name, trainable, steps, seconds, memory, load.packing, load.missing)


def _calibration(recipe: Recipe, vocabulary: int, batch: Batch, device: Device) -> float:
    """About how many seconds `_cost_of_pack` will take at least: two passes over each of its three models."""
    with torch.device("meta"):
        stacks = construct.backbone_depths(recipe.model.backbone, vocabulary)
        towers = dict.fromkeys(recipe.model.towers, 2)
        model = _shaped(_crossed(recipe.model, 1), vocabulary, towers, dict.fromkeys(stacks, 2))
    learnt = int(batch.learnt.weights.count_nonzero())
    products = sum(_count(stack) * _length(batch, name) for name, stack in model.language_model.stacks.items())
    products += _count(model.fusion) * batch.text.segments.total
    products += sum(_count(model.encoder_of(name)) * stream.segments.total for name, stream in batch.media.items())
    products += model.backbone.head_weight().numel() * learnt
    square = torch.ones(1024, 1024, device=device.name, dtype=device.torch_dtype)
    fastest = float("inf")
    for _ in range(3):
        begun = time.perf_counter()
        _ = float((square @ square)[0, 0])  # asking for a number waits for the device
        fastest = min(fastest, time.perf_counter() - begun)
    # A product of a matrix forward is two backward; the larger of the models counts in full, the others almost.
    return float(3 * 2 * 3 * products / (1024**3 / fastest))


def _cost_of_pack(recipe: Recipe, stage: StageConfig, vocabulary: int, batch: Batch, device: Device) -> Cost:
    """One layer of each, and what a second one of each adds, times the depth.

    Before the first layer of the language model stands a block of its fusion, if it has any: what a second layer adds
    is measured without another block, what another block adds is measured besides.
    """
    depths = {name: _depth(stream.encoder) for name, stream in recipe.model.towers.items()}
    stacks = construct.backbone_depths(recipe.model.backbone, vocabulary)
    share = CALIBRATION_SECONDS / len(recipe.stages) / 3

    def measured(tower: str = "", stack: str = "", every: int = 2) -> Cost:
        """One block of every encoder and one layer of every stack, two of those named; a block of fusion before every
        n-th layer."""
        with torch.device(device.name):
            shallow = {name: 2 if name == tower else 1 for name in depths}
            layers = {name: 2 if name == stack else 1 for name in stacks}
            model = _shaped(_crossed(recipe.model, every), vocabulary, shallow, layers)
        in_format(model, device.torch_dtype)
        model = model.to(device.name)
        freeze_all_but(model, _without_heads(stage.train, model), stage.name)
        model.language_model.recompute = False
        return _measure(model, batch.to(device.name), share)

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
    return Cost(cost.seconds * again, taken, cost.flop * again)


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


def _shaped(
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


def _measure(model: MultimodalModel, batch: Batch, seconds: float) -> Cost:
    """The fastest of as many passes as fit into the time; two at least, since the first warms up."""
    if batch.text.ids.is_meta:
        return _counted(model, batch)
    fastest, kept, started, passes = float("inf"), 0.0, time.perf_counter(), 0
    while passes < 2 or time.perf_counter() - started < seconds:
        begun = time.perf_counter()
        with _bytes_kept(model) as counted:
            loss = model.loss_sum(batch) / max(1.0, batch.label_weight)
        if loss.requires_grad:
            loss.backward()
        if batch.text.ids.is_cuda:
            torch.cuda.synchronize()
        fastest, kept, passes = min(fastest, time.perf_counter() - begun), float(sum(counted.values())), passes + 1
        model.zero_grad()
    return Cost(fastest, kept)


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


def _load(recipe: Recipe, number: int, encode: Encode, device: Device) -> Load:
    """A middling pack of the stage's first window, or a made-up one where its data is not there."""
    length = recipe.data.pack.length
    try:
        stream = build.build_stages(recipe, encode, device)[number].stream
    except DataError as error:
        batch, _ = collate(_made_up(encode, length, recipe.data.pack.patches), encode.media)
        assert batch is not None, "made-up samples can be read"
        return Load(batch, 1.0, batch.tokens / length, missing=str(error))
    packs = stream.first_window().packs
    batch = collate(packs[len(packs) // 2], encode.media, stream.pad_to)[0] if packs else None
    if batch is None:
        raise DataError("no usable row in the first window; `vitrail show RECIPE --at pack` says why")
    # The last pack of a window holds what is left over.
    full = packs[:-1] or packs
    packing = sum(pack.tokens for pack in full) / (length * len(full))
    return Load(batch, float(len(packs) * (stream.windows or 1)), packing)


def _made_up(encode: Encode, length: int, patches: int) -> Pack:
    """Pictures of 448 px, or ten seconds of sound for a model that sees none, with 64 tokens of text each, half of them
    learnt, as many as a pack holds."""
    medium: MediaPart = ImagePart(np.zeros((448, 448, 3), np.uint8))
    if not any(rule.reads(medium) for rule in encode.media.values()):
        medium = AudioPart(np.zeros(160_000, np.float32), 16_000)
    views = encode.views(medium) if any(rule.reads(medium) for rule in encode.media.values()) else ()
    slots, total = [], 0
    for view in views:
        slots.append(MediaSlot(total, 0, view))
        total += view.tokens if view.spliced else 0
    patches_each, total = max(1, sum(view.patches for view in views)), total + 64
    ids = np.zeros(total, np.int64)
    weights = (np.arange(total) >= total - 32).astype(np.float32)
    labels = np.where(weights > 0, 0, IGNORE)
    positions = positions_of(encode.positions, total, slots)
    sample = Sample("made up", "made up", ids, labels, weights, tuple(slots), (medium,) if views else (), positions)
    if encode.start is not None:
        said = weights > 0
        sample = dataclasses.replace(sample, target=TargetText(ids[said], labels[said], weights[said]))
    return Pack((sample,) * max(1, min(length // sample.tokens, patches // patches_each)))


def _memory_bandwidth() -> float:
    """Bytes a second of a large copy."""
    block = torch.ones(16 * 2**20)
    target = torch.empty_like(block)
    fastest = float("inf")
    for _ in range(3):
        begun = time.perf_counter()
        target.copy_(block)
        fastest = min(fastest, time.perf_counter() - begun)
    return 2 * block.nbytes / fastest


def _count(module: Any) -> int:
    return int(sum(parameter.numel() for parameter in module.parameters())) + nf4.weights(module)


def _bytes_of(module: Any, width: int) -> int:
    """Bytes of the weights: `width` for each, less for those in codes."""
    codes = sum(tensor.nbytes for name, tensor in module.named_buffers() if name.endswith(f".{nf4.CODES}"))
    scales = sum(2 * tensor.numel() for name, tensor in module.named_buffers() if name.endswith(f".{nf4.SCALES}"))
    return int(width * (_count(module) - nf4.weights(module)) + codes + scales)
