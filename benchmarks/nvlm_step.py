"""A training step of NVLM-D, NVLM-X and NVLM-H on the same rows, as the tiles of their pictures grow; interleaved.

    python benchmarks/nvlm_step.py [--json] [--tiles 1 2 4 6] [--rounds 3] [--samples 8] [--device auto] [--tiny]

The published trade-off (arXiv 2409.11402, the 34B, 1,024 tokens of text, six tiles and a thumbnail of 256 each): X 1.76
and H 1.26 times the samples a second of D. Here the same in small: 64 tokens a tile, 256 of text, a block every 6 of 12
layers, a frozen encoder, everything else trained. A row is a picture of so many tiles side by side, with a thumbnail
where there are several, and a text whose second half is learnt. Forward, backward, clipping and AdamW over packs of up
to four rows; the encoder's forward pass is in it, tensors are made beforehand.

samples_per_second_NAME_TILES  medians over rounds
ratio_NAME_TILES               the same divided by that of D
text_NAME_TILES                tokens of a row's text stream, of which the layers' work follows
flop_NAME_TILES                floating-point operations of a row's step, counted: what a ratio would be where every
                               operation costs the same
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import torch
from peers import settle
from rounds import Contestant, measure, options, show, timed
from torch.utils.flop_counter import FlopCounterMode

from vitrail import build
from vitrail.contracts.devices import DeviceName
from vitrail.contracts.messages import Conversation, ImagePart, Message, TextPart
from vitrail.contracts.samples import Batch, Pack, Sample
from vitrail.data.collate import collate
from vitrail.data.encode import Encode
from vitrail.media.config import TilesConfig
from vitrail.models.assembled import MultimodalModel
from vitrail.models.config import (
    DecoderConfig,
    FusionConfig,
    GatedCrossAttentionConfig,
    HybridConfig,
    LinearProjectorConfig,
    MLPProjectorConfig,
    ModelConfig,
    ProjectorConfig,
    SpliceConfig,
    VisionTransformerConfig,
)
from vitrail.models.weights import in_format
from vitrail.prompts.config import PromptConfig
from vitrail.training.config import AdamWConfig, TrainingConfig
from vitrail.training.device import Device, choose
from vitrail.training.optimizer import Optimizer, freeze_all_but

TEXT = 256
"""Tokens of a row beside its picture's, about."""
ROWS = 4
"""Of a pack."""
PROJECTOR = MLPProjectorConfig(norm="layer", norm_at="merged", bias=False)
MODELS: dict[str, tuple[ProjectorConfig, FusionConfig]] = {
    "d": (PROJECTOR, SpliceConfig()),
    "x": (LinearProjectorConfig(norm="layer", bias=False), GatedCrossAttentionConfig(every=6, sees="tag")),
    "h": (PROJECTOR, HybridConfig(every=6)),
}


def config(name: str, *, tiny: bool) -> ModelConfig:
    """Qwen2's layers behind InternVL's tiles."""
    projector, fusion = MODELS[name]
    width, layers = (32, 6) if tiny else (512, 12)
    backbone = {
        "model_type": "qwen2",
        "hidden_size": width,
        "intermediate_size": 11 * width // 4,
        "num_hidden_layers": layers,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
    }
    encoder = VisionTransformerConfig(width=width // 2, depth=1 if tiny else 4, heads=4, mlp_width=width)
    media = TilesConfig(tile=56 if tiny else 224, max_tiles=6, tags="number")
    return ModelConfig(DecoderConfig(config=backbone, tokenizer="small"), media, encoder, projector, fusion=fusion)


def samples_of(encode: Encode, tiles: int, side: int, count: int) -> list[Sample]:
    """Rows of one picture of so many tiles and the same words, whatever the model."""
    pixels, chance = np.random.default_rng(0), np.random.default_rng(1)
    words = ["what", "the", "chart", "says", "of", "a", "month", "and", "its", "price"]

    def text() -> str:
        made = ""
        while len(encode.tokenizer.encode(made)) < TEXT // 2:
            made += f" {words[int(chance.integers(len(words)))]}"
        return made

    found = []
    for number in range(count):
        picture = ImagePart(pixels.integers(0, 256, (side, side * tiles, 3), dtype=np.uint8))
        asked = Message("user", (picture, TextPart(text())))
        sample = encode(Conversation(str(number), (asked, Message("assistant", (TextPart(text()),)))))
        expected = tiles + (tiles > 1)
        assert len(sample.slots) == expected, f"{len(sample.slots)} views, expected {expected}"
        found.append(sample)
    return found


def batches_of(encode: Encode, samples: Sequence[Sample], device: Device) -> list[Batch]:
    made = [
        collate(Pack(tuple(samples[start : start + ROWS])), encode.media)[0] for start in range(0, len(samples), ROWS)
    ]
    return [batch.to(device.name) for batch in made if batch is not None]


def prepared(name: str, device: Device, *, tiny: bool) -> tuple[Encode, MultimodalModel, list[str]]:
    """Rows' encoder, the model with its gates open, and what it trains."""
    settings, prompt = config(name, tiny=tiny), PromptConfig("chatml")
    tokenizer = build.build_tokenizer(settings.backbone, prompt)
    model = build.build_model(settings, tokenizer.vocabulary, seed=0)
    for parameter in model.get_submodule("fusion").parameters():
        if parameter.numel() == 1:
            torch.nn.init.constant_(parameter, 0.1)
    trained = ["projector", "backbone", *([] if name == "d" else ["fusion"])]
    freeze_all_but(model, dict.fromkeys(trained, 1e-5), "step")
    in_format(model, device.torch_dtype)
    return build.build_encode(settings, prompt, tokenizer), model.to(device.name).train(), trained


def step_of(model: MultimodalModel, trained: Sequence[str], batches: Sequence[Batch], device: Device) -> Contestant:
    """A pass is a step a pack; what counts are rows instead of tokens."""
    optimizer = Optimizer(model, dict.fromkeys(trained, 1e-5), AdamWConfig())

    def run(warming: bool) -> int:
        rows = 0
        for batch in batches[:1] if warming else batches:
            (model.loss_sum(batch) / batch.label_weight).backward()
            optimizer.step(1.0)
            rows += len(batch.sample_ids)
        settle(device.name)
        return rows

    return timed(run)


def flop_of(model: MultimodalModel, batch: Batch) -> float:
    """Of a row."""
    with FlopCounterMode(display=False) as work:
        (model.loss_sum(batch) / batch.label_weight).backward()
    model.zero_grad()
    return float(work.get_total_flops()) / len(batch.sample_ids)


def measured(tiles: Sequence[int], rounds: int, count: int, device: Device, *, tiny: bool) -> dict[str, Any]:
    contestants: dict[str, Contestant] = {}
    result: dict[str, Any] = {}
    for name in MODELS:
        encode, model, trained = prepared(name, device, tiny=tiny)
        side = config(name, tiny=tiny).media.tile  # type: ignore[union-attr]
        for number in tiles:
            batches = batches_of(encode, samples_of(encode, number, side, count), device)
            contestants[f"{name}_{number}"] = step_of(model, trained, batches, device)
            result[f"text_{name}_{number}"] = batches[0].text.segments.lengths[0]
            result[f"flop_{name}_{number}"] = flop_of(model, batches[0])
    for key, speeds in measure(contestants, rounds).items():
        result[f"samples_per_second_{key}"] = round(statistics.median(speeds), 3)
    for name in MODELS:
        for number in tiles:
            mine, theirs = (result[f"samples_per_second_{one}_{number}"] for one in (name, "d"))
            result[f"ratio_{name}_{number}"] = round(mine / theirs, 3)
    return result


def main() -> None:
    parser: argparse.ArgumentParser = options(__doc__, samples=8)
    parser.add_argument("--tiles", type=int, nargs="+", default=[1, 2, 4, 6], help="of each picture")
    parser.add_argument("--device", choices=get_args(DeviceName), default="auto")
    parser.add_argument("--tiny", action="store_true", help="models of a few thousand parameters, to see that it runs")
    asked = parser.parse_args()
    device = choose(TrainingConfig(device=asked.device))
    torch.set_num_threads(device.threads)
    result: dict[str, Any] = {"device": device.name, "dtype": device.dtype, "threads": device.threads}
    result |= measured(asked.tiles, asked.rounds, asked.samples, device, tiny=asked.tiny)
    show(result, asked.json)


if __name__ == "__main__":
    main()
