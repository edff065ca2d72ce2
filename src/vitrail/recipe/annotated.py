"""A resolved recipe as YAML in which every value says where it comes from."""

from __future__ import annotations

from typing import Any

from vitrail.recipe.strict import Resolved, leaves, to_yaml

COLUMN = 60
"""Where the comments start."""


def annotated(resolved: Resolved[Any]) -> str:
    """YAML that reads back equal, with the origin of each value as a comment."""
    lines = to_yaml(resolved.value).splitlines()
    paths = [path for path, _ in leaves(resolved.value)]
    # A line that only opens a mapping or a list ends with its colon; every other line is one leaf.
    holders = [number for number, line in enumerate(lines) if not line.endswith(":")]
    if len(holders) != len(paths):
        # A text of several lines: the values matter more than the comments.
        return "\n".join(lines) + "\n"
    for number, path in zip(holders, paths, strict=True):
        origin = resolved.origins[path]
        if origin.kind != "default":
            lines[number] = f"{lines[number]:<{COLUMN}}  # {origin.location}"
    return "\n".join(lines) + "\n"
