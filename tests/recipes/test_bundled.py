"""Every bundled recipe, found recursively, is read, checked and built at tiny size."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitrail import build
from vitrail.recipe import bundled
from vitrail.recipe.read import read_recipe

TINY = [
    # Models that recipes start from are elsewhere, and not tiny.
    "model.from=null",
    "model.backbone={config: {model_type: llama, hidden_size: 32, intermediate_size: 32, num_hidden_layers: 1, "
    "num_attention_heads: 2, num_key_value_heads: 1}, tokenizer: small}",
]


TINY_ENCODER = [
    "model.encoder.depth=1",
    "model.encoder.width=32",
    "model.encoder.heads=2",
    "model.encoder.mlp_width=32",
]
"""Of a model that sees; one that only hears, or is read to, stays one."""


def test_there_are_recipes_and_each_says_what_it_is_for() -> None:
    assert "demo" in bundled.names()
    assert all(bundled.about(path) for path in bundled.names().values())


@pytest.mark.parametrize("name", sorted(bundled.names()))
def test_recipe_is_read_and_built(name: str) -> None:
    text = bundled.names()[name].read_text(encoding="utf-8")
    tiny = [*TINY, *([] if "encoder: null" in text or "encoder: {kind: text_lines}" in text else TINY_ENCODER)]
    model_config = read_recipe(name, tiny).value.model
    if model_config.positions.kind == "mrope":
        tiny.append("model.positions.sections=[2, 3, 3]")
    if hasattr(model_config.fusion, "every"):
        # One layer leaves room for blocks before every layer alone.
        tiny.append("model.fusion.every=1")
    recipe = read_recipe(name, tiny).value
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    model = build.build_model(
        recipe.model, tokenizer.vocabulary, recipe.seed, objectives=build.objectives_of(recipe.stages).values()
    )
    trained = {component for stage in recipe.stages for component in stage.train}
    assert trained <= {child for child, _ in model.named_children()}


def test_an_unknown_name_is_one_line_with_the_nearest() -> None:
    with pytest.raises(Exception, match=r"no recipe .demmo..*did you mean .demo.") as caught:
        bundled.find("demmo", Path("demmo"))
    assert "\n" not in str(caught.value)
