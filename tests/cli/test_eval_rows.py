"""Which rows `vitrail eval` asks: settings stand behind the run as behind a recipe, and nothing else is changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitrail.cli.evaluate import held_out
from vitrail.contracts.errors import RecipeError
from vitrail.data.sources.config import JsonlConfig, ParquetConfig
from vitrail.recipe.read import read_recipe
from vitrail.recipe.strict import to_yaml
from vitrail.synthetic.config import DrawnConfig


@pytest.fixture
def run(tmp_path: Path) -> Path:
    recipe = read_recipe("demo", ["data.held_out={kind: drawn, split: test, rows: 9}"]).value
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    return tmp_path


def test_settings_are_those_of_every_verb(run: Path, tmp_path: Path) -> None:
    assert held_out(run, (), None, 0) == DrawnConfig(split="test", rows=9)
    assert held_out(run, ["data.held_out=my.jsonl"], None, 0) == JsonlConfig(Path("my.jsonl"))
    assert held_out(run, ["data.held_out=my.parquet"], None, 3) == ParquetConfig(Path("my.parquet"), rows=3)
    assert held_out(run, ["data.held_out.rows=4"], None, 0) == DrawnConfig(split="test", rows=4)
    assert held_out(run, (), Path("my.parquet"), 0) == ParquetConfig(Path("my.parquet"))
    # An official folder has no recipe, and may be asked all the same.
    (tmp_path / "official").mkdir()
    alone = ["data.held_out={kind: jsonl, path: my.jsonl}", "data.held_out.allow_outside=true"]
    assert held_out(tmp_path / "official", alone, None, 2) == JsonlConfig(Path("my.jsonl"), rows=2, allow_outside=True)


@pytest.mark.parametrize(
    ("overrides", "data", "said"),
    [
        (["model.media.patch=4"], None, "'model.media.patch=4' changes what the model is, or nothing that eval reads"),
        (["data.held_outs=x"], None, "'data.held_outs=x' changes what the model is"),
        (["data.held_out=a.jsonl"], Path("b.jsonl"), "--data b.jsonl and 'data.held_out=a.jsonl' both name"),
        (["data.held_out.row=1"], None, "unknown key 'row'"),
    ],
)
def test_what_eval_cannot_change_is_refused(run: Path, overrides: list[str], data: Path | None, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        held_out(run, overrides, data, 0)
    assert said in str(caught.value)


def test_rows_that_nobody_names_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"name some with --data FILE or data\.held_out=FILE"):
        held_out(tmp_path, (), None, 0)
    with pytest.raises(RecipeError, match=r"give data\.held_out=FILE first"):
        held_out(tmp_path, ["data.held_out.rows=3"], None, 0)
