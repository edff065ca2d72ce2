"""Any encoder with any projector, fusion and language model of the house: from YAML to a finished model that answers.

Each case is read, planned, verified, trained for a step, saved, opened and asked. Cases are chosen until every two
choices have met that may; a few of them, in which every choice comes at least once, run each time, all of them with
`make test-all`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from vitrail import build
from vitrail.build import model as tables
from vitrail.contracts.errors import RecipeError
from vitrail.contracts.messages import AudioPart, ImagePart
from vitrail.models.backbones.construct import KINDS
from vitrail.models.config import JoinedConfig, TextLinesEncoderConfig
from vitrail.recipe.read import read_recipe
from vitrail.run import plan, verify
from vitrail.run.train import train
from vitrail.training.device import choose

VIT = {"kind": "vision_transformer", "width": 32, "depth": 1, "heads": 2, "mlp_width": 48}
TOWERS: dict[str, dict[str, Any]] = {
    "native": {"media": {"kind": "native", "patch": 8, "max_tokens": 64}, "encoder": VIT},
    "tiles": {
        "media": {"kind": "tiles", "patch": 8, "tile": 32, "max_tiles": 4, "tags": "number"},
        "encoder": {**VIT, "absolute": "learnt", "position_table": [4, 4], "rope": "none", "class_token": "dropped"},
    },
    "padded": {
        "media": {"kind": "padded", "patch": 8, "side": 32},
        "encoder": {
            **VIT,
            "absolute": "learnt",
            "position_table": [4, 4],
            "rope": "none",
            "window": 3,
            "relative": True,
            "neck": 24,
        },
    },
    "canvas": {
        "media": {"kind": "canvas", "patch": 8, "tile": 32},
        "encoder": {
            "kind": "mllama",
            "width": 16,
            "depth": 2,
            "global_depth": 1,
            "heads": 2,
            "mlp_width": 24,
            "kept": [0],
        }
        | {"side": 4},
    },
    "sound": {
        "media": {"kind": "log_mel", "seconds": 8, "padded": False},
        "encoder": {"kind": "whisper", "width": 32, "depth": 1, "heads": 2, "mlp_width": 48, "max_positions": 400},
    },
}
GRID = {
    "resampler": {"queries": [2, 2], "heads": 2, "key_positions": "own"},
    "perceiver": {"queries": 4, "depth": 1, "heads": 2, "head_width": 8},
    "downsample": {"grid": [2, 2], "channels": [16, 32], "early": None},
}
"""Projectors that make the same tokens of every view: patches do not merge before them."""
PROJECTORS: dict[str, dict[str, Any]] = {"mlp": {}, "linear": {}, "patch_merger": {}, **GRID}
FUSIONS: dict[str, dict[str, Any]] = {
    "splice": {},
    "gated_cross_attention": {"every": 1, "sees": "tag"},
    "hybrid": {"every": 1},
}
FAMILIES = tuple(family for kind in KINDS.values() for family in kind.families)
Case = tuple[str, str, str, str]


def fits(tower: str, projector: str, fusion: str, family: str) -> bool:
    """What may meet: see `refused` for what may not."""
    no_grid = tower == "canvas" or (tower == "sound" and projector == "downsample")
    return not (projector in GRID and no_grid) and not (family == "t5" and fusion != "splice")


def pairs(case: Case) -> set[tuple[int, str, int, str]]:
    chosen = list(enumerate(case))
    return {(*one, *two) for one, two in itertools.combinations(chosen, 2)}


def covering() -> Iterator[Case]:
    """Cases until every pair that fits anywhere has met, each the one that brings the most new choices, then pairs."""
    every = [case for case in itertools.product(TOWERS, PROJECTORS, FUSIONS, FAMILIES) if fits(*case)]
    left, values = set().union(*map(pairs, every)), {choice for case in every for choice in enumerate(case)}
    while left:
        best = max(every, key=lambda case: (len(values & set(enumerate(case))), len(left & pairs(case))))
        left -= pairs(best)
        values -= set(enumerate(best))
        yield best


CASES = list(covering())
CHOICES = len((*TOWERS, *PROJECTORS, *FUSIONS, *FAMILIES))
FEW = next(count for count in range(len(CASES)) if len({v for c in CASES[:count] for v in enumerate(c)}) == CHOICES)
MARKED = [
    pytest.param(*case, marks=() if number < FEW else pytest.mark.long, id="-".join(case))
    for number, case in enumerate(CASES)
]


def recipe(case: Case, folder: Path) -> Path:
    tower, projector, fusion, family = case
    made = {"projector": {"kind": projector, **PROJECTORS[projector]}, **TOWERS[tower]}
    if tower != "canvas":
        made["media"] = {**made["media"], "merge": 1 if projector in GRID else 2}
    heard = tower == "sound"
    name = "audio_" if heard else ""
    backbone = decoder(family) if family != "t5" else encoder_decoder()
    content = {
        "run": str(folder / "run"),
        "model": {
            **({"encoder": None, "streams": {"audio": made}} if heard else made),
            "fusion": {"kind": fusion, **FUSIONS[fusion]},
            "backbone": backbone,
        },
        "prompt": {"template": "text_to_text" if family == "t5" else "terse"},
        "data": {
            "train": {"kind": "spoken", "rows": 4} if heard else {"kind": "drawn", "rows": 4, "questions": 1},
            "pack": {"length": 512, "patches": 2048, "window": 4},
        },
        "stages": [
            {
                "name": "learn",
                "train": {f"{name}encoder": 1e-3, f"{name}projector": 1e-3, "backbone": 1e-3}
                | ({} if fusion == "splice" else {"fusion": 1e-3}),
                "steps": 1,
            }
        ],
        "training": {"device": "cpu", "dtype": "float32", "threads": 1, "compile": "off"},
        "evaluate": {"answers": False, "before": False, "blind": False},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def decoder(family: str) -> dict[str, Any]:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    return {"tokenizer": "small", "config": {"model_type": family, **sizes, "num_key_value_heads": 2}}


def encoder_decoder() -> dict[str, Any]:
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_heads": 4, "num_layers": 1, "num_decoder_layers": 1}
    rest = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "decoder_start_token_id": 512}
    return {"kind": "encoder_decoder", "tokenizer": "small", "config": {"model_type": "t5", **sizes, **rest}}


def test_nothing_of_the_house_is_left_out() -> None:
    """But for text lines, which need a reader's weights, and joined streams (`tests/golden/test_deepseek_vl.py`)."""

    def kinds(table: Any, *but: type) -> set[str]:
        return {made.__dataclass_fields__["kind"].default for made in table if made not in but}

    encoders = {tower["encoder"]["kind"] for tower in TOWERS.values()}
    assert encoders == kinds(tables.ENCODERS, TextLinesEncoderConfig)
    assert set(PROJECTORS) == kinds(tables.PROJECTORS, JoinedConfig)
    assert set(FUSIONS) == kinds(tables.FUSIONS)
    met = set().union(*map(pairs, CASES))
    assert all(pairs(case) <= met for case in itertools.product(TOWERS, PROJECTORS, FUSIONS, FAMILIES) if fits(*case))


@pytest.mark.parametrize(("tower", "projector", "fusion", "family"), MARKED)
@pytest.mark.usefixtures("quick_plan")
def test_it_goes_the_whole_way(tower: str, projector: str, fusion: str, family: str, tmp_path: Path) -> None:
    path = recipe((tower, projector, fusion, family), tmp_path)
    resolved = read_recipe(str(path))
    planned = plan.make_plan(resolved.value, choose(resolved.value.training))
    assert planned.stages[0].trainable == sum(planned.parameters.values()) > 0
    found = verify.verify(resolved.value)
    assert found.finding == ""
    train(resolved)
    opened = build.load(tmp_path / "run", "cpu")
    before = build.build_model(resolved.value.model, opened.model.backbone.vocabulary, resolved.value.seed)
    pairs_ = zip(before.parameters(), opened.model.parameters(), strict=True)
    assert any(not torch.equal(one, two) for one, two in pairs_), "a step was taken"
    chance = np.random.default_rng(0)
    if tower == "sound":
        media: Any = AudioPart(chance.normal(size=16_000).astype(np.float32), 16_000)
    else:
        media = ImagePart(chance.integers(0, 256, (48, 80, 3), dtype=np.uint8))
    assert opened.chat(media, "What?").tokens > 0


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (("canvas", "resampler", "splice", "llama"), "encoder"),
        (("native", "mlp", "hybrid", "t5"), "layers of a decoder"),
    ],
)
def test_what_cannot_meet_is_one_line(case: Case, why: str, tmp_path: Path) -> None:
    def assembled() -> None:
        build.build_model(read_recipe(str(recipe(case, tmp_path))).value.model, 600, 0)

    with pytest.raises(RecipeError, match=why) as caught:
        assembled()
    assert "\n" not in str(caught.value)
