"""Words of before: a recipe is refused with today's word; what a run of before has written is read all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitrail.contracts.errors import RecipeError
from vitrail.recipe.read import read_recipe
from vitrail.recipe.renamed import upgraded_recipe
from vitrail.recipe.schema import Recipe
from vitrail.recipe.strict import read
from vitrail.run.folder import RunFolder

CONTRASTIVE = "{kind: contrastive_caption%s}"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "model.encoder={absolute: learnt, table: [4, 4]}",
            "unknown key 'table' in model.encoder of kind 'vision_transformer' (it is 'position_table' now); allowed: ",
        ),
        (
            "model.encoder.absolute=sines",
            "model.encoder.absolute: expected one of 'none', 'sinusoidal', 'learnt', ",
        ),
        ("model.encoder.absolute=sines", "got 'sines' (it is 'sinusoidal' now)"),
        (
            "stages.align.objective={kind: reading}",
            "stages[0].objective.kind: unknown kind 'reading' (it is 'embedding_alignment' now); allowed: next_token, ",
        ),
        (
            "stages.align.objective={kind: listening}",
            "stages[0].objective.kind: unknown kind 'listening' (it is 'ideal_features' now); allowed: next_token, ",
        ),
        (
            f"stages.align.objective={CONTRASTIVE % ', spotting: 1.0'}",
            "unknown key 'spotting' in stages[0].objective of kind 'contrastive_caption' (it is 'characters' now)",
        ),
        (
            "model.contrast={width: 8}",
            "unknown key 'contrast' in model (it is the setting 'width' of the objective contrastive_caption, ",
        ),
        (
            "model.spotter=true",
            "unknown key 'spotter' in model (it is the setting 'characters' of the objective contrastive_caption, "
            "which has that module of its own (char_head) now)",
        ),
        ("data.pack.overlong=shrink_pictures", "got 'shrink_pictures' (it is 'shrink_media' now)"),
        ("data.pack.overlong=drop_pictures", "got 'drop_pictures' (it is 'drop_media' now)"),
    ],
)
def test_a_word_of_before_is_refused_in_one_line_that_names_the_new_one(override: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe("demo", [override])
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


BEFORE = """
run: elsewhere
model:
  media: {patch: 8, merge: 2, max_tokens: 64}
  encoder: {width: 32, depth: 2, heads: 2, absolute: %s}
  contrast: {width: 8}
  spotter: true
  backbone: {tokenizer: bytes, config: {model_type: llama, hidden_size: 32}}
prompt: {template: terse}
data:
  train: {kind: documents, rows: 8}
  pack: {length: 800, patches: 1024, overlong: shrink_pictures}
stages:
  - name: reading
    steps: 6
    train: {encoder: 1.0e-2, contrast: 1.0e-2, spotter: 1.0e-3}
    objective: {kind: contrastive_caption, spotting: 0.5}
  - {name: sines, steps: 2, train: {backbone: 1.0e-2}, objective: {kind: listening, tokens: 2}}
"""
TODAY = """
run: here
model:
  media: {patch: 8, merge: 2, max_tokens: 64}
  encoder: {width: 32, depth: 2, heads: 2, absolute: %s}
  backbone: {tokenizer: bytes, config: {model_type: llama, hidden_size: 32}}
prompt: {template: terse}
data:
  train: {kind: documents, rows: 8}
  pack: {length: 800, patches: 1024, overlong: shrink_media}
stages:
  - name: reading
    steps: 6
    train: {encoder: 1.0e-2, contrast: 1.0e-2, char_head: 1.0e-3}
    objective: {kind: contrastive_caption, characters: 0.5, width: 8}
  - {name: sines, steps: 2, train: {backbone: 1.0e-2}, objective: {kind: ideal_features, tokens: 2}}
"""
ENCODERS = [("sines", "sinusoidal"), ("learnt, table: [4, 4]", "learnt, position_table: [4, 4]")]


@pytest.mark.parametrize(("before", "today"), ENCODERS)
def test_a_run_of_before_is_gone_on_with_by_its_recipe_of_today(before: str, today: str, tmp_path: Path) -> None:
    """The recipe in its folder means the same, and another one is still told apart."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(BEFORE % before, encoding="utf-8")
    (run / "log.jsonl").write_text("", encoding="utf-8")
    (tmp_path / "today.yaml").write_text(TODAY % today, encoding="utf-8")
    with RunFolder(run).claimed(read(Recipe, tmp_path / "today.yaml")):
        pass
    other = read(Recipe, tmp_path / "today.yaml", ["stages.reading.objective.width=9"])
    refused = pytest.raises(RecipeError, match=r"another recipe \(stages\.0\.objective\.width: 8 -> 9\)")
    with refused, RunFolder(run).claimed(other):
        pass


def test_what_a_users_own_class_is_given_keeps_its_name(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(TODAY % "none", encoding="utf-8")
    own = "model.encoder={kind: 'mine:Encoder', table: 3, of: sines}"
    recipe = read(Recipe, path, [own], beneath=upgraded_recipe).value
    assert recipe.model.encoder.options == {"table": 3, "of": "sines"}
