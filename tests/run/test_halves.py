"""A run whose halves learn apart: encoder and projector, the language model, then both; and its blind baseline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vitrail.recipe.read import read_recipe
from vitrail.run.train import train

STAGES = """[
  {name: glyphs, steps: 2, objective: {kind: embedding_alignment, tokens: 2},
   train: {encoder: 1.0e-3, projector: 1.0e-3}},
  {name: words, steps: 2, objective: {kind: ideal_features, tokens: 2}, train: {backbone: 1.0e-3}},
  {name: pages, steps: 2, train: {projector: 1.0e-3, backbone: 1.0e-3}}]"""


def test_each_half_is_trained_in_its_stage_and_the_blind_baseline_has_the_text(
    tiny_recipe_file: Path, tmp_path: Path
) -> None:
    drawn = "kind: lines, rows: 12"
    overrides = [
        f"run={tmp_path / 'run'}",
        f"data.train={{{drawn}}}",
        f"data.held_out={{{drawn}, split: test}}",
        f"stages={STAGES}",
        *(f"evaluate.{name}=true" for name in ("answers", "blind")),
        "evaluate.max_tokens=3",
    ]
    train(read_recipe(str(tiny_recipe_file), overrides))
    found = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    assert {"after", "blind"} <= found.keys()

    def terms(log: Path) -> dict[str, set[str]]:
        steps = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        return {step["stage"]: set(step["terms"]) for step in steps if "terms" in step}

    learnt = terms(tmp_path / "run" / "log.jsonl")
    assert learnt == {"glyphs": {"embedding_alignment", "length"}, "words": {"next_token"}, "pages": {"next_token"}}
    # Without pictures there is nothing to align, and no ideal feature: the text alone is left.
    assert terms(tmp_path / "run" / "blind" / "log.jsonl") == {"words": {"next_token"}, "pages": {"next_token"}}


OWN = """
from vitrail.training.objectives import NextToken, Objective


class Renamed(Objective):
    def counts(self, batch):
        return {"own": batch.label_weight}

    def __call__(self, model, batch):
        return {"own": NextToken()(model, batch)["next_token"]}

    def blind(self):
        return NextToken()
"""


def test_the_blind_form_of_ones_own_objective(
    tiny_recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vitrail_own_blind.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    overrides = [
        f"run={tmp_path / 'run'}",
        "stages.align=null",
        "stages.instruct.steps=1",
        "stages.instruct.objective={kind: 'vitrail_own_blind:Renamed'}",
        "data.held_out={kind: drawn, rows: 3, split: test}",
        *(f"evaluate.{name}=true" for name in ("answers", "blind")),
        "evaluate.max_tokens=2",
    ]
    train(read_recipe(str(tiny_recipe_file), overrides))
    for folder, term in (("run", "own"), ("run/blind", "next_token")):
        (step,) = [json.loads(line) for line in (tmp_path / folder / "log.jsonl").read_text().splitlines()]
        assert set(step["terms"]) == {term}
