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


def renamed_tensor(name: str) -> str:
    """Today's name of a tensor of a finished model."""
    for before, now in (("encoder.table", "encoder.position_table"), ("spotter.", "char_head.")):
        if name.startswith(before):
            return now + name.removeprefix(before)
    return name


def upgraded(tree: Table) -> Table:
    """The description of a finished model of layout 1 in today's words; any other as it is."""
    layout, model = tree.entries.get("layout"), tree.entries.get("model")
    if not isinstance(layout, Scalar) or layout.text != "1" or not isinstance(model, Table):
        return tree
    entries = dict(model.entries)
    contrast, spotter = entries.pop("contrast", None), entries.pop("spotter", None)
    if isinstance(encoder := entries.get("encoder"), Table):
        entries["encoder"] = _renamed(encoder)
    found = {**tree.entries, "layout": replace(layout, text=str(LAYOUT)), "model": replace(model, entries=entries)}
    objective = _with_heads(contrast, spotter, tree)
    if objective is not None:
        found["objectives"] = Listing((objective,), tree.location)
    return replace(tree, entries=found)


def _renamed(encoder: Table) -> Table:
    entries: dict[str, Node] = {}
    for key, node in encoder.entries.items():
        if isinstance(node, Scalar) and node.text in VALUES:
            node = replace(node, text=VALUES[node.text])
        entries["position_table" if key == "table" else key] = node
    return replace(encoder, entries=entries)


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
