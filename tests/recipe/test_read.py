"""Parts of a recipe that are right by themselves and do not fit together."""

from __future__ import annotations

import pytest

from vitrail.contracts.errors import RecipeError
from vitrail.recipe.read import read_recipe

TILES = "model.media={kind: tiles, patch: 8, merge: 2, tile: 32, max_tiles: 4}"


@pytest.mark.parametrize(
    "objective",
    ["{kind: embedding_alignment}", "{kind: ideal_features}", "{kind: contrastive_caption, characters: 1.0}"],
)
def test_known_characters_need_whole_pictures(objective: str) -> None:
    asked = [f"stages.instruct.objective={objective}"]
    read_recipe("demo", asked)
    with pytest.raises(RecipeError, match=r"stages\.instruct\.objective: .* cuts them; allowed: kind native"):
        read_recipe("demo", [*asked, TILES])
    with pytest.raises(RecipeError, match="cuts them"):
        read_recipe("demo", [*asked, TILES.replace("max_tiles: 4", "max_tiles: 1, fit: crop")])
    read_recipe("demo", [*asked, TILES.replace("max_tiles: 4", "max_tiles: 1")])
    read_recipe("demo", [TILES])


def test_both_halves_agree_on_the_mixture() -> None:
    stages = "stages=[{name: a, steps: 1, train: {projector: 1e-3}, objective: {kind: embedding_alignment%s}}, "
    stages += "{name: b, steps: 1, train: {backbone: 1e-3}, objective: {kind: ideal_features}}]"
    read_recipe("demo", [stages % ""])
    with pytest.raises(RecipeError, match=r"same tokens and fade \(got a 4 and 0\.5, b 4 and 0\.6\)"):
        read_recipe("demo", [stages % ", fade: 0.5"])


def test_modules_of_an_objective_are_trained_by_the_stages_of_recipes_that_have_it() -> None:
    stage = "stages=[{name: a, steps: 1, train: {contrast: 1e-3, char_head: 1e-3}, objective: {kind: %s}}]"
    read_recipe("demo", [stage % "contrastive_caption, characters: 1.0"])
    with pytest.raises(RecipeError, match=r"stages\.a\.train: unknown component 'char_head'"):
        read_recipe("demo", [stage % "contrastive_caption"])
    with pytest.raises(RecipeError, match=r"stages\.a\.train: unknown component 'contrast'; known: encoder, projector"):
        read_recipe("demo", [stage % "next_token"])


def test_media_streams_beside_the_vision_stream_are_components() -> None:
    stream = "{media: {kind: native}, encoder: {kind: vision_transformer}, projector: {kind: linear}}"
    overrides = [f"model.streams={{depth: {stream}}}", "stages.align.train={depth_projector: 1e-3}"]
    with pytest.raises(RecipeError, match="holds no picture in all the streams that see it: 4160 patches"):
        read_recipe("demo", overrides)
    found = read_recipe("demo", [*overrides, "data.pack.patches=8192"]).value
    assert found.model.components == (
        *("encoder", "projector", "depth_encoder", "depth_projector"),
        *("fusion", "backbone"),
    )
    for name in ("text", "vision", "target", "Depth"):
        with pytest.raises(RecipeError, match=f"model: streams: '{name}' must be small letters"):
            read_recipe("demo", [f"model.streams={{{name}: {stream}}}"])
