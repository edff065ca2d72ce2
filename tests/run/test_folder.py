"""Whose folder it is: the lock comes before anything that a run writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitrail.contracts.errors import RecipeError
from vitrail.recipe.read import read_recipe
from vitrail.run.folder import RunFolder


def test_another_run_does_not_touch_what_one_has_claimed(tiny_recipe_file: Path, tmp_path: Path) -> None:
    first = read_recipe(str(tiny_recipe_file), [f"run={tmp_path / 'run'}"])
    other = read_recipe(str(tiny_recipe_file), [f"run={tmp_path / 'run'}", "seed=5"])
    folder = RunFolder(tmp_path / "run")
    with folder.claimed(first):
        written = folder.recipe.read_text(encoding="utf-8")
        with pytest.raises(RecipeError, match=r"^another process is training in "), folder.claimed(other):
            pass
        assert folder.recipe.read_text(encoding="utf-8") == written


def test_a_folder_of_something_else_is_left_as_it_was(tiny_recipe_file: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "letter.txt").write_text("mine", encoding="utf-8")
    recipe = read_recipe(str(tiny_recipe_file), [f"run={theirs}"])
    with pytest.raises(RecipeError, match="is not empty and holds no run"), RunFolder(theirs).claimed(recipe):
        pass
    assert [path.name for path in theirs.iterdir()] == ["letter.txt"]
