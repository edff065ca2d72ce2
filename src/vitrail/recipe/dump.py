"""Dataclasses -> plain mappings, and YAML text that `strict.read` reads back equal; and how two of them differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from vitrail.recipe.yaml_lines import KeyPath, dotted, must_quote


def dump(value: object) -> dict[str, Any]:
    """A dataclass as a mapping of plain YAML values, in the order of its fields; None and defaults are kept.

    Tuples become lists, paths text, enums their values. Fields that the class computes itself (`init=False`) are left
    out, and the options of a `__custom__` dataclass stand beside its kind, as they are written in a recipe.
    """
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise AssertionError(f"dump takes a dataclass, got {type(value)}")
    if getattr(value, "__custom__", False):
        return {"kind": getattr(value, "kind"), **plain(getattr(value, "options"))}  # noqa: B009
    return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}


def plain(value: Any) -> Any:
    """`dump` for any value that a recipe can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dump(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value


def leaves(value: Any, path: KeyPath = ()) -> Iterator[tuple[str, Any]]:
    """Yields (dotted path, plain value) of every leaf. A list of plain values is one leaf: `betas`, not `betas.0`."""
    value = plain(value)
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list) and any(map(is_branch, value)):
        for i, item in enumerate(value):
            yield from leaves(item, (*path, i))
    else:
        yield dotted(path), value


def is_branch(value: Any) -> bool:
    """True where a plain value holds named ones, so that a list with it is listed item by item."""
    return (isinstance(value, dict) and bool(value)) or (isinstance(value, list) and any(map(is_branch, value)))


def differences(a: object, b: object) -> list[str]:
    """`dotted.path: old -> new` for every leaf in which two dataclasses differ; empty where they are equal."""
    old, new = dict(leaves(a)), dict(leaves(b))
    pairs = {path: (_spell(old, path), _spell(new, path)) for path in [*old, *(p for p in new if p not in old)]}
    return [f"{path}: {was} -> {now}" for path, (was, now) in pairs.items() if was != now]


def to_yaml(value: object) -> str:
    """A dataclass, or plain values, as YAML text with block mappings and one-line lists of plain values."""
    text = yaml.dump(plain(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return str(text)


def _spell(values: Mapping[str, Any], path: str) -> str:
    return _flow(values[path]) if path in values else "(absent)"


def _flow(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else "{}" if value == {} else repr(value)


class _Dumper(yaml.SafeDumper):
    """Writes for our reader, which knows more numbers (`1e-3`) than PyYAML does and no anchors by accident."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    # PyYAML leaves these line breaks bare in plain and single-quoted text, where they are read back as a space.
    breaks = any(character in text for character in "\x85\u2028\u2029")
    style = '"' if breaks else "'" if must_quote(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _represent_list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=not any(map(is_branch, items)))


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(list, _represent_list)
