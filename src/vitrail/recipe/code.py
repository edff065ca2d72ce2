"""Which code a description names: every `kind: package.module:Class`, wherever it stands. Nothing of it is imported.

A recipe on the command line is its author's own word. A folder's description came with the folder, and so may have
come from anybody: `kind: torch.hub:load` in it would be run on opening.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vitrail.recipe.dump import plain
from vitrail.recipe.yaml_lines import KeyPath, Listing, Node, Scalar, Table, dotted

SIGN = ":"
"""What no kind of our own has in its name."""


def code_named(value: Any, path: KeyPath = ()) -> Iterator[tuple[str, str]]:
    """(dotted path, kind) of every class outside this package that dataclasses, or plain values, name."""
    value = plain(value)
    if isinstance(value, dict):
        kind = value.get("kind")
        if isinstance(kind, str) and SIGN in kind:
            yield dotted((*path, "kind")), kind
        for key, item in value.items():
            yield from code_named(item, (*path, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from code_named(item, (*path, number))


def code_from(tree: Node, source: str, path: KeyPath = ()) -> Iterator[tuple[str, str]]:
    """The same of a located tree, of what was written in `source` alone."""
    if isinstance(tree, Table):
        kind = tree.entries.get("kind")
        if isinstance(kind, Scalar) and SIGN in kind.text and kind.location.source == source:
            yield dotted((*path, "kind")), kind.text
        for key, item in tree.entries.items():
            yield from code_from(item, source, (*path, key))
    elif isinstance(tree, Listing):
        for number, item in enumerate(tree.items):
            yield from code_from(item, source, (*path, number))
