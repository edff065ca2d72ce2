"""Published systems, ours against transformers' own class of each, with the same weights, interleaved in one run.

    python benchmarks/systems.py [--json] [--system NAME ...] [--rounds 3] [--samples 32] [--device auto] [--tiny]
                                 [--profile]

qwen2_vl   pictures of any shape, 112 to 448 px a side: 16 to 256 tokens each
internvl   tiles of 224 px (64 tokens each), 1 to 6 a picture with its thumbnail
deepseek_vl          squares of 224 px, 196 tokens each
deepseek_vl_hybrid   the same, and squares of 448 px for a SAM whose features become as many
NVLM-D and InternVL 1.5 have no class in transformers, so there is nothing to compare with; InternVL in transformers'
own layout has the same components as both.

About 100 million parameters each, random ones: written by `vitrail.export` and opened by transformers. Before the first
round both losses, and both sides' tokens of pictures, are compared on the same samples; a difference beyond rounding
ends the benchmark. Both get bfloat16 weights where the device multiplies bfloat16, else float32; which, is printed.

ratio_encode  pictures a second through encoder and projector, without gradients, in groups of 8. Ours: sorted by size,
              packed. Theirs: `get_image_features` of the same groups.
ratio_train   useful tokens a second of training every parameter: forward, backward, clipping, AdamW. A sample is one
              picture and a text of 96 to 512 tokens whose last sixth is learnt; tokens of pictures and of text count
              alike, padding does not. Ours: packs of 4096 tokens. Theirs: sorted by length, 8 a batch, padded to the
              longest of each batch.

Both are ratios of medians over rounds. Tensors are made beforehand: what is timed is the model. On CUDA each side is
compiled too, as `vitrail train` does, and its faster way counts; a class that does not compile is left out with a line
that says why. Our optimizer keeps float32 copies of bfloat16 weights, theirs does not: the difference is in their
favour. --profile adds, for each side, the operations that take the most time.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from peers import settle
from rounds import Contestant, Pass, measure, options, show, timed
from system_models import FULL, LARGEST, SMALLEST, SYSTEMS, TINY, Shown, Size, System, Tensors
from train_step import padded
from transformers import AutoModelForImageTextToText

from vitrail import build
from vitrail.contracts.devices import DeviceName
from vitrail.contracts.messages import ImagePart
from vitrail.contracts.samples import IGNORE, VISION, Batch, MediaSlot, Pack, Sample
from vitrail.data.collate import best_fit, collate, decode
from vitrail.data.encode import Encode
from vitrail.export.official import export
from vitrail.media.rule import normalised, picture_rule
from vitrail.models.assembled import MultimodalModel
from vitrail.models.config import ModelConfig
from vitrail.prompts.config import PICTURES, MRopePositionsConfig, PromptConfig
from vitrail.prompts.render import positions_of
from vitrail.training.compiling import compile_pieces
from vitrail.training.config import AdamWConfig, TrainingConfig
from vitrail.training.device import Device, choose
from vitrail.training.optimizer import Optimizer

PACK, BATCH = 4096, 8
SHORTEST, LONGEST = 96, 512
NEAR = {"float32": 1e-4, "bfloat16": 3e-2}
"""How far the losses of both may lie apart, and their tokens of pictures, as a share of their length."""


@dataclass(frozen=True)
class Work:
    """What both are given. folder: the exported model. samples: with the decoded views of their one picture."""

    system: System
    config: ModelConfig
    encode: Encode
    folder: Path
    samples: Sequence[Sample]
    device: Device

    def model(self) -> MultimodalModel:
        """Ours, opened from the same folder."""
        return build.load(self.folder, self._name).model.to(dtype=self.device.torch_dtype)

    def their_model(self) -> Any:
        """transformers' class."""
        found = AutoModelForImageTextToText.from_pretrained(self.folder, dtype=self.device.torch_dtype)
        return found.to(self.device.name)

    @property
    def _name(self) -> DeviceName:
        assert self.device.name in get_args(DeviceName), self.device.name
        return self.device.name  # type: ignore[return-value]


def prepare(name: str, size: Size, count: int, folder: Path, device: Device) -> Work:
    """Writes the model to `folder` and makes the samples."""
    system = SYSTEMS[name]
    config = system.model(size)
    prompt = prompt_of(name)
    tokenizer = build.build_tokenizer(config.backbone, prompt)
    encode = build.build_encode(config, prompt, tokenizer)
    model = build.build_model(config, tokenizer.vocabulary, seed=0)
    print(f"{name}: {sum(part.numel() for part in model.parameters()) / 1e6:.1f} M parameters, {device.dtype}")
    # In the format that both compute in, so that what they open is the same.
    export(model, encode, config, folder, "bfloat16" if device.dtype == "bfloat16" else "float32")
    return Work(system, config, encode, folder, make_samples(config, encode, count), device)


def prompt_of(name: str) -> PromptConfig:
    """With pictures as the system has them, and an end of answers."""
    system = SYSTEMS[name]
    return PromptConfig(template=system.template, picture=PICTURES[system.picture or name])


def make_samples(config: ModelConfig, encode: Encode, count: int) -> list[Sample]:
    """A picture of noise of any shape, then random text of which the last sixth is learnt."""
    chance = np.random.default_rng(0)
    picture, tokenizer = encode.prompt.picture, encode.tokenizer
    # Some systems have nothing around a picture.
    start, token, end = ([tokenizer.special(one)] if one else [] for one in (picture.start, picture.token, picture.end))
    plain = np.setdiff1d(np.arange(tokenizer.vocabulary), [*start, *token, *end])
    samples = []
    for number in range(count):
        height, width = chance.integers(SMALLEST, LARGEST + 1, 2)
        noise = chance.integers(0, 256, (height, width, 3), dtype=np.uint8)
        views = encode.views(ImagePart(noise))
        starts = np.cumsum([len(start), *(view.tokens if view.spliced else 0 for view in views)])
        slots = tuple(MediaSlot(int(first), 0, view) for first, view in zip(starts[:-1], views, strict=True))
        words = chance.choice(plain, int(chance.integers(SHORTEST, LONGEST + 1)))
        shown = np.full(starts[-1] - len(start), token[0])
        ids = np.concatenate([start, shown, end, words]).astype(np.int64)
        labels = np.full(len(ids), IGNORE, np.int64)
        learnt = len(words) // 6
        labels[-1 - learnt : -1] = ids[-learnt:]
        sample = Sample(str(number), "random", ids, labels, (labels != IGNORE).astype(np.float32), slots)
        positions = positions_of(config.positions, len(ids), slots)
        samples.append(replace(sample, media=(ImagePart(noise),), positions=positions))
    return samples


def groups(samples: Sequence[Sample]) -> list[Sequence[Sample]]:
    return [samples[start : start + BATCH] for start in range(0, len(samples), BATCH)]


def our_batch(work: Work, samples: Sequence[Sample], pad_to: int = 0) -> Batch:
    batch, _ = collate(Pack(tuple(samples)), work.encode.media, pad_to)
    assert batch is not None, "noise can be read"
    batch = batch.to(work.device.name)
    assert batch.vision is not None, "every sample has a picture"
    # The stem would do it: theirs come in the format of the weights too.
    for name, stream in batch.media.items():
        batch = batch.having(name, replace(stream, values=stream.values.to(work.device.torch_dtype)))
    return batch


def their_pictures(work: Work, samples: Sequence[Sample]) -> Tensors:
    rules = {name: picture_rule(tower.media) for name, tower in work.config.towers.items()}
    shown: list[Shown] = []
    for sample in samples:
        pairs = list(zip(sample.slots, decode(sample, work.encode.media), strict=True))
        shown.append(
            {
                name: tuple(normalised(rule, view) for slot, view in pairs if slot.view.stream == name)
                for name, rule in rules.items()
            }
        )
    found = work.system.inputs(shown, rules[VISION])
    of_pictures = {
        name: value.to(work.device.torch_dtype) for name, value in found.items() if value.is_floating_point()
    }
    return {name: value.to(work.device.name) for name, value in (found | of_pictures).items()}


def their_batch(work: Work, samples: Sequence[Sample]) -> Tensors:
    """Padded at the right to the longest, with their labels, which their class shifts."""
    found = padded(list(samples))
    kinds = found["input_ids"].eq(work.encode.tokenizer.special(work.encode.prompt.picture.token))
    if isinstance(work.config.positions, MRopePositionsConfig):
        found["mm_token_type_ids"] = kinds.long()
    return {name: value.to(work.device.name) for name, value in found.items()} | their_pictures(work, samples)


@torch.no_grad()
def compare(work: Work) -> tuple[float, float]:
    """Losses of the same samples, ours and theirs. Raises AssertionError where both do not do the same work.

    Before training a loss says little about pictures, so their tokens are compared too.
    """
    samples, most = work.samples[:4], NEAR[work.device.dtype]
    batch = our_batch(work, samples)
    ours, theirs = work.model(), work.their_model().eval()
    assert batch.vision is not None, "every sample has a picture"
    tokens = ours.tokens(VISION, batch.media)
    same = features_of(encoder_of(theirs)(**their_pictures(work, samples)))
    off = float((tokens - same).float().norm() / same.float().norm())
    assert off <= most, f"the same pictures' tokens lie {off:.1%} apart"
    mine = float(ours.loss_sum(batch) / batch.label_weight)
    their = float(theirs(**their_batch(work, samples)).loss)
    assert math.isclose(mine, their, abs_tol=most, rel_tol=0), f"our loss is {mine:.4f}, theirs {their:.4f}"
    return mine, their


def encoder_of(model: Any) -> Any:
    """Their `get_image_features`, which some of their classes have inside alone."""
    return getattr(model, "get_image_features", None) or model.model.get_image_features


def features_of(found: Any) -> torch.Tensor:
    """What their `get_image_features` returns, as float[M, D]."""
    found = getattr(found, "pooler_output", found)
    return torch.cat(list(found)) if isinstance(found, tuple | list) else found.flatten(0, -2)


def our_encoding(work: Work, compiled: bool) -> Contestant:
    """Groups of pictures, those of like size together."""
    model = work.model()
    if compiled:
        compile_pieces(model)
    by_size = sorted(work.samples, key=lambda sample: sample.patches)
    batches = [our_batch(work, group) for group in groups(by_size)]
    return encoding(work, lambda batch: model.tokens(VISION, batch.media), batches)


def their_encoding(work: Work, compiled: bool) -> Contestant:
    model = work.their_model().eval()
    features = torch.compile(encoder_of(model)) if compiled else encoder_of(model)
    return encoding(
        work, lambda given: features(**given), [their_pictures(work, part) for part in groups(work.samples)]
    )


def encoding(work: Work, encode: Callable[[Any], object], given: Sequence[Any]) -> Contestant:
    """A pass is all pictures; what counts are pictures instead of tokens."""

    @torch.no_grad()
    def run(warming: bool) -> int:
        for one in given:
            encode(one)
        settle(work.device.name)
        return len(work.samples)

    return timed(run)


def our_training(work: Work, compiled: bool) -> Contestant:
    """A step a pack; packs are of one length where it is compiled, as `vitrail train` makes them."""
    model = work.model().train()
    if compiled:
        compile_pieces(model)
    optimizer = Optimizer(model, dict.fromkeys(("encoder", "projector", "backbone"), 1e-5), AdamWConfig())
    packs = best_fit(work.samples, PACK, sum(sample.patches for sample in work.samples))
    batches = [our_batch(work, pack.samples, PACK if compiled else 0) for pack in packs]

    def step(batch: Batch) -> int:
        (model.loss_sum(batch) / batch.label_weight).backward()
        optimizer.step(1.0)
        return batch.tokens

    return training(work, step, batches, compiled)


def their_training(work: Work, compiled: bool) -> Contestant:
    """A step a batch of samples of like length."""
    model: Any = work.their_model().train()
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True)
    parts = groups(sorted(work.samples, key=len))
    batches = [(their_batch(work, part), sum(map(len, part))) for part in parts]
    forward = torch.compile(model) if compiled else model

    def step(batch: tuple[Tensors, int]) -> int:
        forward(**batch[0]).loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return batch[1]

    return training(work, step, batches, compiled)


def training(work: Work, step: Callable[[Any], int], batches: Sequence[Any], compiled: bool) -> Contestant:
    def run(warming: bool) -> int:
        tokens = sum(map(step, batches if compiled or not warming else batches[:1]))
        settle(work.device.name)
        return tokens

    return timed(run)


CONTESTS: Mapping[str, Mapping[str, Callable[[Work, bool], Contestant]]] = {
    "encode": {"ours": our_encoding, "theirs": their_encoding},
    "train": {"ours": our_training, "theirs": their_training},
}
UNITS = {"encode": "images_per_second", "train": "tokens_per_second"}


def contest(work: Work, what: str, rounds: int) -> dict[str, list[float]]:
    """Speeds of both sides, eager and, where `vitrail train` would compile, compiled."""
    contestants = {name: make(work, False) for name, make in CONTESTS[what].items()}
    if work.device.compiled:
        contestants |= {f"{name}_compiled": make(work, True) for name, make in CONTESTS[what].items()}
    return measure(contestants, rounds, may_fail=["theirs_compiled"])


def summary(speeds: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, float]:
    """Medians of a system's contests, and the ratio of our fastest way to theirs."""
    result: dict[str, float] = {}
    for what, found in speeds.items():
        medians = {name: statistics.median(values) for name, values in found.items()}
        result |= {f"{what}_{name}_{UNITS[what]}": round(value, 2) for name, value in medians.items()}
        ours, theirs = (
            max(value for name, value in medians.items() if name.startswith(side)) for side in ("ours", "theirs")
        )
        result[f"ratio_{what}"] = round(ours / theirs, 3)
    return result


def profiled(once: Contestant, device: Device, rows: int = 10) -> tuple[Pass, str]:
    """One pass, and a table of the operations that took the most time themselves."""
    from torch.profiler import ProfilerActivity, profile

    on = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.name == "cuda" else [])]
    once(True)
    with profile(activities=on) as seen:
        passed = once(False)
    by = "self_cuda_time_total" if device.name == "cuda" else "self_cpu_time_total"
    return passed, seen.key_averages().table(sort_by=by, row_limit=rows, max_name_column_width=60)


def measured(work: Work, rounds: int, profile: bool) -> dict[str, float]:
    """Both contests of one system."""
    ours, theirs = compare(work)
    print(f"losses of the same samples: ours {ours:.4f}, theirs {theirs:.4f}")
    result = summary({what: contest(work, what, rounds) for what in CONTESTS})
    if profile:
        for what, makers in CONTESTS.items():
            for name, make in makers.items():
                passed, table = profiled(make(work, False), work.device)
                print(f"{what}, {name}: {passed.seconds:.1f} s\n{table}")
    return result


def main() -> None:
    parser: argparse.ArgumentParser = options(__doc__, samples=32)
    parser.add_argument("--system", action="append", choices=list(SYSTEMS), help="one or more; all unless given")
    parser.add_argument("--device", choices=get_args(DeviceName), default="auto")
    parser.add_argument("--tiny", action="store_true", help="a model of a few thousand parameters, to see that it runs")
    parser.add_argument("--profile", action="store_true", help="show where the time goes")
    asked = parser.parse_args()
    device = choose(TrainingConfig(device=asked.device))
    torch.set_num_threads(device.threads)
    print(f"{device.name}, {device.dtype}, {device.threads} threads, {'' if device.compiled else 'not '}compiled")
    result: dict[str, Any] = {"device": device.name, "dtype": device.dtype, "threads": device.threads}
    for name in asked.system or SYSTEMS:
        with tempfile.TemporaryDirectory() as folder:
            work = prepare(name, TINY if asked.tiny else FULL, asked.samples, Path(folder) / "model", device)
            result[name] = measured(work, asked.rounds, asked.profile)
    print("nvlm_d and internvl_1_5: no class in transformers to compare with")
    show(result, asked.json)


if __name__ == "__main__":
    main()
