"""`model.from`: a recipe that starts from a finished model, official or ours, and says only what is to be otherwise.

The model's own settings lie beneath the recipe, as a file does that a recipe extends: components and their sizes, the
rule for pictures, the prompt, the tokenizer, and `model.weights` of every component. What the recipe or the command
line says of any of them is laid over. Weights are not read here, and of a hub id not fetched.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from vitrail.contracts.errors import RecipeError, WeightsError
from vitrail.contracts.samples import VISION
from vitrail.models.config import components_of
from vitrail.recipe.code import code_from
from vitrail.recipe.dump import plain
from vitrail.recipe.layers import lay_over
from vitrail.recipe.renamed import upgraded
from vitrail.recipe.yaml_lines import Listing, Location, Node, Problems, Scalar, Table, plain_node, read_table

FROM = "from"


def over_model(tree: Table) -> Table:
    """The recipe over the model that its `model.from` names; unchanged where it names none.

    Raises RecipeError: what is named there is no finished model, or one that is not known, or it names classes of
    somebody's own that the recipe does not name too.
    """
    model = tree.entries.get("model")
    if not isinstance(model, Table) or FROM not in model.entries:
        return tree
    named = model.entries[FROM]
    rest = replace(model, entries={key: node for key, node in model.entries.items() if key != FROM})
    tree = replace(tree, entries={**tree.entries, "model": rest})
    if isinstance(named, Scalar) and named.is_null:
        return tree
    if not isinstance(named, Scalar):
        raise RecipeError(f"{named.location}: model.from: expected a folder or a hub id")
    try:
        settings, source = settings_of(named.text)
    except WeightsError as error:
        raise RecipeError(f"{named.location}: model.from: {error}") from error
    beneath = _node(settings, Location(source, -1))
    assert isinstance(beneath, Table), "a model is a mapping"
    whole = lay_over(beneath, tree)
    code = list(code_from(whole, source))
    if code:
        said = " ".join(f"{path}={kind}" for path, kind in code)
        raise RecipeError(
            f"{named.location}: model.from: '{source}' names code that is not part of vitrail, which a recipe runs "
            f"only if it says so itself: {said}"
        )
    return whole


def settings_of(source: str) -> tuple[dict[str, Any], str]:
    """What a finished model says of `model` and `prompt`, as plain values, and the file that says it.

    Raises WeightsError.
    """
    # Recipes that start from nothing are read without torch, which these import.
    from vitrail.models.backbones.weights_source import local_folder
    from vitrail.systems.folder import CONFIG, DESCRIPTION, is_official, own_folder
    from vitrail.systems.opening import official_settings

    folder = local_folder(source, weights=False)
    own = own_folder(folder)
    if own is not None:
        model, prompt = _own(own / DESCRIPTION)
        tokenizer: str | None = str(own)
        name = DESCRIPTION
    elif is_official(folder):
        spec = official_settings(folder)
        model, prompt = plain(spec.model), plain(spec.prompt)
        name = CONFIG
        # In the recipe of the run stands the id that was given, not where it was fetched to.
        tokenizer = source if spec.model.backbone.tokenizer == str(folder) else None
    else:
        raise WeightsError(f"'{source}' holds no finished model: neither {DESCRIPTION} nor {CONFIG} is there")
    kept = {name: model["backbone"][name] for name in ("kind", "config") if name in model["backbone"]}
    backbone = {**kept, **({"tokenizer": tokenizer} if tokenizer else {})}
    streams = ([VISION] if model.get("encoder") else []) + list(model.get("streams") or ())
    # A fusion that splices has no weights.
    fuses = (model.get("fusion") or {}).get("kind", "splice") != "splice"
    weights = {name: source for name in components_of(streams) if name != "fusion" or fuses}
    return {"model": {**model, "backbone": backbone, "weights": weights}, "prompt": prompt}, f"{source}/{name}"


def _own(description: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model and prompt of a run's description, with the language model's settings within its backbone."""
    problems = Problems()
    tree = read_table(description, problems)
    problems.raise_if_any()
    found = plain_node(upgraded(tree))
    try:
        backbone = {**found["model"]["backbone"], "config": found["backbone"]}
        return {**found["model"], "backbone": backbone}, found["prompt"]
    except (TypeError, KeyError) as error:
        raise WeightsError(f"'{description}' is no description of a model: it lacks {error}") from error


def _node(value: Any, location: Location) -> Node:
    """Plain values as the tree that a YAML file makes."""
    if isinstance(value, dict):
        return Table({str(key): _node(item, location) for key, item in value.items()}, location)
    if isinstance(value, list):
        return Listing(tuple(_node(item, location) for item in value), location)
    if isinstance(value, str):
        return Scalar(value, True, location)
    words = {None: "null", True: "true", False: "false"}
    return Scalar(words[value] if value is None or isinstance(value, bool) else repr(value), False, location)
