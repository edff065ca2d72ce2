"""Several layers -> one tree: what a recipe `extends:`, the recipe itself, then the overrides of the command line.

Mappings merge key by key; everything else is replaced. Three rules make short recipes possible: a list of mappings that
all have a `name` may be amended by a mapping `name: changes`; `null` over a mapping takes it away; and another `kind`
takes away the keys that belonged to the old one. Nothing here knows the dataclasses: types are checked afterwards, on
the merged tree.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from vitrail.contracts.errors import RecipeError, nearest
from vitrail.recipe.yaml_lines import (
    MAX_DEPTH,
    KeyPath,
    Listing,
    Location,
    Node,
    Problems,
    Scalar,
    Table,
    dotted,
    read_table,
    read_value,
    shown,
)

Finder = Callable[[str, Path], Path]


def read_layers(path: Path, find: Finder | None, problems: Problems) -> Table:
    """Reads `path` and all that it extends, merged.

    find: (name, the file that asks) -> a bundled recipe; asked where no such file lies beside the one that asks.
    Raises RecipeError: a file cannot be read, or the files extend each other in a circle.
    """
    layers: list[Table] = []
    seen: list[Path] = []
    asked = ""
    while True:
        table = read_table(path, problems, asked)
        seen.append(path)
        extends = table.entries.get("extends")
        layers.append(replace(table, entries={k: v for k, v in table.entries.items() if k != "extends"}))
        if extends is None:
            break
        asked = f"{extends.location}: extends: "
        path = _parent(extends, path, find)
        if path.resolve() in [file.resolve() for file in seen]:
            chain = " -> ".join(str(file) for file in [*seen, path])
            raise RecipeError(f"{asked}the files extend each other in a circle: {chain}")
    tree = layers.pop()
    while layers:
        tree = _merge_tables(tree, layers.pop(), (), problems)
    return tree


def apply_override(tree: Table, text: str, problems: Problems) -> Table:
    """The tree with one `key.to.value=VALUE` of the command line laid over it; a mistake goes to `problems`.

    A mapping given as the value replaces what was there: `=` assigns, it does not merge.
    """
    location = Location(f"override {text!r}")
    key, equals, value = text.partition("=")
    steps = re.sub(r"\[(\d+)\]", r".\1", key.strip()).split(".")
    if not equals or not all(steps):
        problems.add(location, "expected KEY=VALUE with a dotted key, for example stages.0.steps=50")
        return tree
    if len(steps) > MAX_DEPTH:
        problems.add(location, f"the key has {len(steps)} parts; allowed: {MAX_DEPTH}")
        return tree
    if steps[0] == "extends":
        problems.add(location, "'extends' can only be given in the recipe file")
        return tree
    try:
        node = read_value(value, location, problems)
    except RecipeError as error:
        problems.add(location, str(error).removeprefix(f"{location}: "))
        return tree
    for step in reversed(steps):
        node = Table({step: node}, location, step=True)
    assert isinstance(node, Table), "a dotted key has at least one part"
    return _merge_tables(tree, node, (), problems)


def lay_over(under: Table, over: Table) -> Table:
    """`over` laid on `under`, as a recipe is laid on what it extends."""
    return _merge_tables(under, over, (), Problems())


def _parent(extends: Node, path: Path, find: Finder | None) -> Path:
    if not isinstance(extends, Scalar) or extends.is_null:
        raise RecipeError(f"{extends.location}: extends: expected one recipe file or name")
    beside = Path(os.path.normpath(path.parent / extends.text))
    if beside.is_file() or find is None:
        return beside
    try:
        return find(extends.text, path)
    except RecipeError as error:
        raise RecipeError(f"{extends.location}: extends: {error}") from None


def _merge(under: Node, over: Node, path: KeyPath, problems: Problems) -> Node:
    """What stands at `path` when `over` is laid on `under`."""
    if isinstance(over, Scalar) and over.is_null:
        return replace(over, clears=isinstance(under, Table) or (isinstance(under, Scalar) and under.clears))
    assigned = isinstance(over, Table) and over.location.is_override and not over.step
    if not isinstance(over, Table) or assigned:
        return over
    if isinstance(under, Table):
        return _merge_tables(under, over, path, problems)
    if isinstance(under, Listing) and (over.step or _names(under)):
        return _merge_items(under, over, path, problems)
    if over.step and not (isinstance(under, Scalar) and under.is_null):
        what = repr(under.text) if isinstance(under, Scalar) else "a list"
        whole = f"{dotted(path)}={{{next(iter(over.entries))}: ...}}"
        where = "" if under.location.is_override else f" ({under.location})"
        problems.add(over.location, f"{shown(path)} is {what}{where}, not a mapping; replace the whole of it: {whole}")
        return under
    return over


def _merge_tables(under: Table, over: Table, path: KeyPath, problems: Problems) -> Table:
    base, alone = under.entries, under.alone
    old, new = base.get("kind"), over.entries.get("kind")
    if new is not None and old is None:
        # Whether this changes the kind depends on the default kind, which the dataclasses know: keep both readings.
        alone = _kept(base)
    elif new is not None and not _same_text(old, new):
        base, alone = _kept(base), None
    # An override must not move the blame: a mapping that lacks a key lacks it in the file that wrote the mapping.
    location = under.location if over.step else over.location
    entries = _lay(base, over.entries, path, problems)
    return Table(entries, location, None if alone is None else _lay(alone, over.entries, path, Problems()))


def _lay(base: Mapping[str, Node], over: Mapping[str, Node], path: KeyPath, problems: Problems) -> dict[str, Node]:
    changed = {key: _merge(base[key], node, (*path, key), problems) for key, node in over.items() if key in base}
    return {**base, **over, **changed}


def _kept(entries: Mapping[str, Node]) -> dict[str, Node]:
    """What of a mapping outlives a change of its kind: what overrides set, so that their order does not matter."""
    kept: dict[str, Node] = {}
    for key, node in entries.items():
        if node.location.is_override or (
            isinstance(node, Listing) and any(item.location.is_override for item in node.items)
        ):
            kept[key] = node
        elif isinstance(node, Table) and (inner := _kept(node.entries)):
            kept[key] = replace(node, entries=inner, alone=None)
    return kept


def _same_text(a: Node | None, b: Node) -> bool:
    return isinstance(a, Scalar) and isinstance(b, Scalar) and a.text == b.text


def _names(listing: Listing) -> list[str] | None:
    """The names of the items where every item is a mapping with a `name`, else None."""
    names: list[str] = []
    for item in listing.items:
        name = item.entries.get("name") if isinstance(item, Table) else None
        if not isinstance(name, Scalar):
            return None
        names.append(name.text)
    return names or None


def _merge_items(under: Listing, over: Table, path: KeyPath, problems: Problems) -> Listing:
    """Amends items by name where they stand; overrides also by position. A null takes a mapping out of the list."""
    items: list[Node | None] = list(under.items)
    location = under.location
    for key, change in over.entries.items():
        index = _index(under, key, over.step, change.location, path, problems)
        if index is None:
            continue
        old = under.items[index]
        new = _merge(old, change, (*path, index), problems)
        items[index] = None if isinstance(new, Scalar) and new.clears else new
        if not isinstance(old, Table):
            location = change.location  # a list of plain values has one origin
    return Listing(tuple(item for item in items if item is not None), location)


def _index(under: Listing, key: str, step: bool, location: Location, path: KeyPath, problems: Problems) -> int | None:
    names = _names(under) or []
    if names.count(key) == 1:
        return names.index(key)
    count = len(under.items)
    if names.count(key) > 1:
        problems.add(location, f"{shown(path)}: several items are named '{key}'; expected different names")
    elif step and re.fullmatch(r"-?\d+", key):
        if 0 <= int(key) < count:
            return int(key)
        allowed = f"allowed: 0 to {count - 1}" if count else "the list is empty"
        problems.add(location, f"{shown(path)} has no item {key}; {allowed}")
    elif names:
        problems.add(
            location, f"{shown(path)} has no item named '{key}'{nearest(key, names)}; allowed: {', '.join(names)}"
        )
    else:
        problems.add(location, f"{shown(path)} is a list of {count}; expected the position of an item, got '{key}'")
    return None
