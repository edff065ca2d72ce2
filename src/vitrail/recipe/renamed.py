"""What recipes and finished models of before called otherwise: the line that names today's word, and the way to open
them all the same.

A recipe is refused with the new word, since its author can change it; a finished model is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from vitrail.recipe.yaml_lines import Listing, Node, Scalar, Table

LAYOUT = 2
"""Of the description in a finished model's folder."""

KEYS: Mapping[str, str] = {
    "table": "position_table",
    "spotting": "characters",
    "contrast": "the setting 'width' of the objective contrastive_caption, which has that module of its own",
    "spotter": "the setting 'characters' of the objective contrastive_caption, which has that module of its own "
    "(char_head)",
}
"""Keys of before, and what to write now."""

VALUES: Mapping[str, str] = {
    "sines": "sinusoidal",
    "reading": "embedding_alignment",
    "listening": "ideal_features",
    "shrink_pictures": "shrink_media",
    "drop_pictures": "drop_media",
}
"""Names that keys could have, and those of today."""


def today(word: str, known: Mapping[str, str]) -> str:
    """` (it is 'x' now)` for a word of before, else an empty string. known: `KEYS` or `VALUES`."""
    now = known.get(word)
    if now is None:
        return ""
    return f" (it is {now} now)" if " " in now else f" (it is '{now}' now)"


def upgraded(tree: Table) -> Table:
    """The description of a finished model of layout 1 in today's words; any other as it is."""
    layout, model = tree.entries.get("layout"), tree.entries.get("model")
    if not isinstance(layout, Scalar) or layout.text != "1" or not isinstance(model, Table):
        return tree
    found = {**tree.entries, "layout": replace(layout, text=str(LAYOUT)), "model": _model(model)}
    objective = _with_heads(model.entries.get("contrast"), model.entries.get("spotter"), tree)
    if objective is not None:
        found["objectives"] = Listing((objective,), tree.location)
    return replace(tree, entries=found)


def upgraded_recipe(tree: Table) -> Table:
    """The recipe that lies in a run's folder, where it was written in words of before, in those of today."""
    found = dict(tree.entries)
    width: Node | None = None
    if isinstance(model := found.get("model"), Table):
        found["model"] = _model(model)
        if isinstance(contrast := model.entries.get("contrast"), Table):
            width = contrast.entries.get("width")
    if isinstance(data := found.get("data"), Table) and isinstance(pack := data.entries.get("pack"), Table):
        found["data"] = replace(data, entries={**data.entries, "pack": _renamed(pack)})
    if isinstance(stages := found.get("stages"), Listing):
        found["stages"] = replace(stages, items=tuple(_stage(stage, width) for stage in stages.items))
    return replace(tree, entries=found)


def _model(model: Table) -> Table:
    """Without the modules that are objectives' now."""
    entries = {key: node for key, node in model.entries.items() if key not in ("contrast", "spotter")}
    if isinstance(encoder := entries.get("encoder"), Table):
        entries["encoder"] = _renamed(encoder)
    return replace(model, entries=entries)


def _stage(stage: Node, width: Node | None) -> Node:
    """width: that of the model's module for a contrastive objective, which has it of its own now."""
    if not isinstance(stage, Table):
        return stage
    entries = dict(stage.entries)
    if isinstance(objective := entries.get("objective"), Table):
        objective = _renamed(objective)
        kind = objective.entries.get("kind")
        if width is not None and isinstance(kind, Scalar) and kind.text == "contrastive_caption":
            objective = replace(objective, entries={"width": width, **objective.entries})
        entries["objective"] = objective
    if isinstance(train := entries.get("train"), Table):
        rates = {("char_head" if key == "spotter" else key): rate for key, rate in train.entries.items()}
        entries["train"] = replace(train, entries=rates)
    return replace(stage, entries=entries)


def _renamed(settings: Table) -> Table:
    """Keys and values of before in a table whose keys are ours; what a user's own class is given is left alone."""
    kind = settings.entries.get("kind")
    if isinstance(kind, Scalar) and ":" in kind.text:
        return settings
    entries: dict[str, Node] = {}
    for key, node in settings.entries.items():
        if isinstance(node, Scalar) and node.text in VALUES:
            node = replace(node, text=VALUES[node.text])
        entries[KEYS.get(key, key)] = node
    return replace(settings, entries=entries)


def _with_heads(contrast: Node | None, spotter: Node | None, tree: Table) -> Table | None:
    """The objective whose modules the model has; None where it has none."""
    compared = isinstance(contrast, Table)
    spotted = isinstance(spotter, Scalar) and spotter.text == "true"
    if not compared and not spotted:
        return None

    def said(text: str) -> Scalar:
        return Scalar(text, False, tree.location)

    entries: dict[str, Node] = {"kind": said("contrastive_caption"), "contrastive": said(str(float(compared)))}
    entries["characters"] = said(str(float(spotted)))
    if isinstance(contrast, Table) and "width" in contrast.entries:
        entries["width"] = contrast.entries["width"]
    return Table(entries, tree.location)
