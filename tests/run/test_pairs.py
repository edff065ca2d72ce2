"""Preferences through a whole run and before one: `train` with a blind baseline, `plan`, and every hop of `show`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from vitrail.cli.main import main
from vitrail.recipe.read import read_recipe
from vitrail.run.plan import make_plan
from vitrail.run.train import train
from vitrail.training import runlog
from vitrail.training.device import Device

PAIRS = [
    "stages.align.steps=2",
    "stages.instruct.steps=2",
    "stages.instruct.objective={kind: dpo}",
    "stages.instruct.data={kind: drawn, rows: 8, pairs: true, questions: 2, size: [64, 64], kinds: [colour]}",
    "data.held_out={kind: drawn, rows: 8, split: test, pairs: true, kinds: [colour]}",
    "data.pack={length: 400, patches: 1024, window: 8}",
]


def test_a_run_ranks_held_out_pairs_after_every_stage(tiny_recipe_file: Path, tmp_path: Path) -> None:
    measures = "evaluate={pairs: true, answers: true, before: false, blind: true, max_tokens: 2}"
    folder = train(read_recipe(str(tiny_recipe_file), [*PAIRS, measures, f"run={tmp_path / 'run'}"]))
    found = folder.results()
    assert list(found["pairs"]) == ["align", "instruct"]
    for shares in found["pairs"].values():
        assert shares["right"]["n"] == shares["withheld"]["n"] == 8
    assert found["after"]["exact_match"]["n"] == 8, "asked for the chosen answer"
    assert "Are answers ranked as people rank them?" in folder.report.read_text(encoding="utf-8")
    blind = runlog.read(folder.blind.path / "log.jsonl")
    assert [list(record["terms"]) for record in blind] == [["dpo"], ["dpo"]]


@pytest.mark.usefixtures("quick_plan")
def test_the_start_is_planned_for(tiny_recipe_file: Path) -> None:
    """The copy of what the stage trains: in a model so wide, and packs so short, that it outweighs the passes."""
    wide = ["model.backbone.config.hidden_size=512", "model.backbone.config.intermediate_size=1536"]
    large = [*PAIRS, *wide, "stages.align=null", "data.pack={length: 200, patches: 512, window: 8}"]
    plans = [
        make_plan(
            read_recipe(str(tiny_recipe_file), [*large, *more]).value, Device("cpu", "float32", 1, compiled=False)
        )
        for more in ([], ["stages.instruct.objective={kind: next_token}"])
    ]
    dpo, ordinary = (plan.stages[0] for plan in plans)
    assert dpo.trainable == ordinary.trainable
    assert dpo.memory_gib is not None
    assert ordinary.memory_gib is not None
    copy = 4 * dpo.trainable / 2**30
    assert dpo.memory_gib - ordinary.memory_gib > copy / 2


@pytest.mark.parametrize("hop", ["row", "conversation", "sample", "pack", "batch", "terms"])
def test_both_answers_are_shown(
    hop: str, tiny_recipe_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["vitrail", "show", str(tiny_recipe_file), "--stage", "1", "--at", hop, *PAIRS]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    said = capsys.readouterr().out
    recipe = read_recipe(str(tiny_recipe_file), PAIRS).value
    from vitrail import build

    source, _ = build.build_source(recipe.stages[1].data)  # type: ignore[arg-type]
    fields = source.row(0).fields  # type: ignore[union-attr]
    if hop in ("row", "conversation", "sample"):
        for name in ("chosen", "rejected"):
            assert fields[name][0]["content"] in said
    expected = {
        "row": "rejected: ",
        "conversation": " rejected: ",
        "sample": "2 of 2 ways to go on",
        "pack": "segment 1: tokens",
        "batch": "text.segments: [",
        "terms": "reward_accuracy: 0.0000",
    }
    assert expected[hop] in said
    if hop == "terms":
        assert "= 0.6931, weight 1" in said
    if hop == "batch":
        lengths = json.loads(said.replace("\n", " ").split("text.segments: ")[1].split("]")[0] + "]")
        assert len(lengths) % 2 == 0
