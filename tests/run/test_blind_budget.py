"""The blind baseline learns from the same rows in the same steps, however a stage is counted, and takes no more memory.

Its packs are those of the sighted run with the media taken out: packed by itself it would read twice the rows a step.
"""

from __future__ import annotations

import dataclasses
import gc
import itertools
import json
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitrail import build
from vitrail.contracts.samples import IGNORE
from vitrail.data.ledger import Ledger
from vitrail.data.loader import Cursor, Item
from vitrail.models.assembled import MultimodalModel
from vitrail.recipe.read import read_recipe
from vitrail.recipe.schema import Recipe
from vitrail.run.opened import Run
from vitrail.run.train import text_stages, train
from vitrail.training import runlog
from vitrail.training.device import Device
from vitrail.training.objectives import ContrastiveCaption, EmbeddingAlignment

CPU = Device("cpu", "float32", 1, compiled=False)
STAGES = """
  - {name: align, train: {projector: 1.0e-2}, steps: 2}
  - {name: by_steps, train: {projector: 1.0e-3, backbone: 1.0e-3}, steps: 4, accumulate: 2, replay: {align: 0.3}}
  - {name: by_epochs, train: {backbone: 1.0e-3}, epochs: 1.0, accumulate: 4}
  - {name: by_tokens, train: {backbone: 1.0e-3}, tokens: 1500}
"""


@pytest.fixture
def recipe_file(tiny_recipe_text: str, tmp_path: Path) -> Path:
    head, _, rest = tiny_recipe_text.partition("stages:")
    path = tmp_path / "stages.yaml"
    path.write_text(f"{head}stages:{STAGES}training:{rest.partition('training:')[2]}", encoding="utf-8")
    return path


def steps(path: Path) -> dict[str, list[dict[str, int]]]:
    """The rows that each step of each stage took, by outcome."""
    found: dict[str, list[dict[str, int]]] = {}
    before: dict[str, int] = {}
    for record in runlog.read(path):
        now: dict[str, int] = record["rows"]
        grown = {name: count - before.get(name, 0) for name, count in now.items() if count > before.get(name, 0)}
        found.setdefault(record["stage"], []).append(grown)
        before = now
    return found


def test_equal_rows_in_equal_steps_and_one_model_at_a_time(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = "data.held_out={kind: drawn, split: test, rows: 2, size: [64, 64]}"
    measures = "evaluate={answers: true, losses: false, before: false, blind: true, max_tokens: 1}"
    made: list[weakref.ref[MultimodalModel]] = []
    fresh = Run.fresh_model

    def counted(run: Run) -> MultimodalModel:
        gc.collect()
        assert all(one() is None for one in made), "the trained model is still there when the blind one is made"
        model = fresh(run)
        made.append(weakref.ref(model))
        return model

    monkeypatch.setattr(Run, "fresh_model", counted)
    folder = train(read_recipe(str(recipe_file), [f"run={tmp_path / 'run'}", held_out, measures]))
    assert len(made) == 2
    sighted, blind = steps(folder.path / "log.jsonl"), steps(folder.blind.path / "log.jsonl")
    assert len(sighted.pop("align")) == 2
    assert sighted == blind
    assert {name: len(taken) for name, taken in blind.items()}["by_steps"] == 4
    assert len(blind["by_epochs"]) > 1
    assert len(blind["by_tokens"]) > 2
    page = folder.report.read_text(encoding="utf-8")
    assert "Blind steps" in page
    assert "Blind rows" in page


def streams(recipe: Recipe, count: int) -> tuple[list[Item], list[Item]]:
    """The first packs of the last stage, sighted and blind."""
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    encode = build.build_encode(recipe.model, recipe.prompt, tokenizer)
    sighted = build.build_stages(recipe, encode, CPU)[-1]
    withheld = dataclasses.replace(encode, withhold="nothing")
    blind = build.build_stages(recipe, withheld, CPU, stages=text_stages(recipe.stages))[-1]
    first, second = (list(itertools.islice(s.stream.items(Cursor(), Ledger()), count)) for s in (sighted, blind))
    return first, second


def learnt(item: Item, segment: int) -> list[int]:
    """The ids that are learnt of one row."""
    text = item.batch.learnt
    part = text.labels.split(text.segments.lengths)[segment]
    return [int(label) for label in part if label != IGNORE]


@pytest.mark.parametrize(
    "changes",
    [
        ("data.pack={length: 280, patches: 512, window: 6}",),
        ("data.pack={length: 100, patches: 512, window: 6, overlong: truncate_text}",),
        ("data.pack={length: 100, patches: 512, window: 6, overlong: shrink_media}",),
        ("data.pack={length: 150, patches: 512, window: 6, policy: fixed_length}",),
        ("stages.instruct.resolution={kind: growing, least: 4, most: 40}",),
    ],
)
def test_a_pack_has_the_same_rows_and_teaches_the_same_words(changes: Sequence[str], tiny_recipe_file: Path) -> None:
    recipe = read_recipe(str(tiny_recipe_file), list(changes)).value
    sighted, blind = streams(recipe, 8)
    for one, other in zip(sighted, blind, strict=True):
        assert one.batch.sample_ids == other.batch.sample_ids
        assert (one.after, one.epochs, one.events) == (other.after, other.epochs, other.events)
        assert one.batch.media
        assert not other.batch.media
        assert other.batch.tokens + other.batch.withheld == one.batch.tokens > other.batch.tokens
        for segment in range(len(one.batch.sample_ids)):
            assert learnt(one, segment) == learnt(other, segment) != []


def test_a_row_that_cannot_be_shown_is_lost_to_both(tiny_recipe_file: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "whole.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "whole.png").read_bytes()[:3000])
    rows: list[dict[str, Any]] = [
        {"id": name, "images": [f"{shown}.png"], "messages": [{"role": "user", "content": "<image>Why?"}, said]}
        for name, shown in (("a", "whole"), ("bad", "broken"), ("b", "whole"))
        for said in [{"role": "assistant", "content": f"Because of {name}."}]
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = read_recipe(str(tiny_recipe_file), [f"data.train={tmp_path / 'rows.jsonl'}"]).value
    for items in streams(recipe, 2):
        assert set(items[0].batch.sample_ids) == {"a", "b"}
        assert {event.id: event.outcome for event in items[0].events}["bad"] == "unreadable"


def test_stages_that_learn_from_media_alone_have_no_blind_form(tiny_recipe: Recipe) -> None:
    """They would be stages without a loss, after hours of training."""
    _, stage = tiny_recipe.stages
    for objective, left in (
        (ContrastiveCaption(caption=0), 0),
        (EmbeddingAlignment(), 0),
        (ContrastiveCaption(caption=1), 1),
    ):
        assert len(text_stages([dataclasses.replace(stage, objective=objective)])) == left
