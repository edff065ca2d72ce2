"""Parts of a recipe that are right by themselves and do not fit together."""

from __future__ import annotations

import pytest

from vitrail.contracts.errors import RecipeError
from vitrail.recipe.read import read_recipe

TILES = "model.media={kind: tiles, patch: 8, merge: 2, tile: 32, max_tiles: 4}"


@pytest.mark.parametrize(
    "objective", ["{kind: reading}", "{kind: listening}", "{kind: contrastive_caption, spotting: 1.0}"]
)
def test_marks_need_whole_pictures(objective: str) -> None:
    asked = [f"stages.instruct.objective={objective}", "model.contrast={width: 8}", "model.spotter=true"]
    read_recipe("demo", asked)
    with pytest.raises(RecipeError, match=r"stages\.instruct\.objective: .* cuts them; allowed: kind native"):
        read_recipe("demo", [*asked, TILES])
    with pytest.raises(RecipeError, match="cuts them"):
        read_recipe("demo", [*asked, TILES.replace("max_tiles: 4", "max_tiles: 1, fit: crop")])
    read_recipe("demo", [*asked, TILES.replace("max_tiles: 4", "max_tiles: 1")])
    read_recipe("demo", [TILES])


def test_both_halves_agree_on_the_mixture() -> None:
    stages = "stages=[{name: a, steps: 1, train: {projector: 1e-3}, objective: {kind: reading%s}}, "
    stages += "{name: b, steps: 1, train: {backbone: 1e-3}, objective: {kind: listening}}]"
    read_recipe("demo", [stages % ""])
    with pytest.raises(RecipeError, match=r"same tokens and fade \(got a 4 and 0\.5, b 4 and 0\.6\)"):
        read_recipe("demo", [stages % ", fade: 0.5"])
