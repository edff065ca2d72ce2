"""Strict YAML -> nested dataclasses: `read` a recipe with overrides, `dump` it back, tell two apart.

Every key must be known and every value must have the type that its dataclass field declares; all mistakes of a recipe
are reported at once, one line each, with file, line and the nearest right name. Every leaf of the result knows its
origin. The work is in `yaml_lines` (text -> tree), `layers` (`extends:` and overrides), `convert` (tree -> dataclasses)
and `dump` (the way back). Imports PyYAML and nothing heavier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from vitrail.recipe.convert import Converter
from vitrail.recipe.dump import differences, dump, leaves, to_yaml
from vitrail.recipe.layers import Finder, apply_override, read_layers
from vitrail.recipe.yaml_lines import Origin, Problems, Table

__all__ = ["Finder", "Origin", "Resolved", "differences", "dump", "leaves", "read", "to_yaml"]

T = TypeVar("T")


@dataclass(frozen=True)
class Resolved(Generic[T]):
    """A recipe as read. origins: dotted path -> origin, for exactly the leaves of `leaves(value)`, in that order."""

    value: T
    origins: Mapping[str, Origin]


def read(
    cls: type[T],
    path: Path,
    overrides: Sequence[str] = (),
    find: Finder | None = None,
    beneath: Callable[[Table], Table] | None = None,
) -> Resolved[T]:
    """Reads the recipe at `path` as a `cls`.

    overrides: `dotted.key=VALUE` strings, applied in order; list items by position (`stages.0.steps=5`) or, where all
    have a `name`, by name (`stages.align.steps=5`).
    find: where `extends:` names no file beside the recipe, (name, the file that asks) -> path of a bundled recipe; it
    raises RecipeError for a name it does not know.
    beneath: the recipe with overrides -> the same, laid over something that it names.

    Raises RecipeError: one line for each mistake, the first one first.
    """
    problems = Problems()
    tree = read_layers(Path(path), find, problems)
    for text in overrides:
        tree = apply_override(tree, text, problems)
    if beneath is not None:
        tree = beneath(tree)
    converter = Converter(problems)
    value = converter.convert(tree, cls, ())
    problems.raise_if_any()
    return Resolved(value, {leaf: converter.origins[leaf] for leaf, _ in leaves(value)})
