"""Parts of a recipe that are right by themselves and do not fit together."""

from __future__ import annotations

import pytest

from vitrail.contracts.errors import RecipeError
from vitrail.recipe.read import read_recipe

TILES = "model.media={kind: tiles, patch: 8, merge: 2, tile: 32, max_tiles: 4}"


@pytest.mark.parametrize("objective", ["{kind: reading}", "{kind: contrastive_caption, spotting: 1.0}"])
def test_marks_need_whole_pictures(objective: str) -> None:
    asked = [f"stages.instruct.objective={objective}", "model.contrast={width: 8}", "model.spotter=true"]
    read_recipe("demo", asked)
    with pytest.raises(RecipeError, match=r"stages\.instruct\.objective: .* cuts them; allowed: native"):
        read_recipe("demo", [*asked, TILES])
    read_recipe("demo", [TILES])
