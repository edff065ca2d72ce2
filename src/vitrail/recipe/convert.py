"""A located tree -> dataclasses, directed by their annotations; notes the origin of every leaf and every mistake.

An annotation may be int, float, bool, str, Path, Enum, Literal, Any, a dataclass, Mapping, list, tuple, or a union of
them. A union of dataclasses is told apart by their `kind: Literal[...]`; a dataclass with `__custom__ = True` and the
fields `kind` and `options` takes any `package.module:Class`; a class method `from_scalar(text)` lets plain text stand
for a dataclass. Costs microseconds a value.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from vitrail.contracts.errors import RecipeError, nearest
from vitrail.recipe.dump import leaves
from vitrail.recipe.renamed import KEYS, VALUES, today
from vitrail.recipe.yaml_lines import (
    KeyPath,
    Listing,
    Location,
    Node,
    Origin,
    Problems,
    Scalar,
    Table,
    as_bool,
    as_float,
    as_int,
    dotted,
    plain_scalar,
    shown,
)

FAILED: Any = object()  # what a conversion returns once it has noted its mistake
_IMPORT_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_SEQUENCES = (list, tuple, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
# The narrowest reading of a text wins: `3` in `str | float | int` is a whole number.
_NARROW_FIRST = (int, float, bool, Path, str)
_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    NoneType: "null",
}


class Converter:
    """Converts one tree. origins: dotted path -> origin, of every leaf of the result and perhaps of more."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.origins: dict[str, Origin] = {}

    def convert(self, node: Node, hint: Any, path: KeyPath, default: object = None) -> Any:
        """The value that `node` gives a field annotated `hint`, or FAILED with the mistakes noted.

        default: the field's own default; where it is a dataclass, a mapping that sets some keys leaves the others.
        """
        choices = _members(hint)
        if Any in choices or object in choices:
            return self._anything(node, path)
        if isinstance(node, Scalar):
            return self._scalar(node, choices, hint, path)
        sequences = [choice for choice in choices if _base(choice) in _SEQUENCES]
        if isinstance(node, Listing):
            return self._listing(node, sequences, path) if sequences else self._wrong(node, hint, path)
        classes = [choice for choice in choices if dataclasses.is_dataclass(choice)]
        if classes:
            return self._dataclass(node, classes, path, default)
        if mapping := next((choice for choice in choices if _base(choice) in _MAPPINGS), None):
            return self._mapping(node, mapping, path)
        if sequences and node.step:
            message = f"{shown(path)} is not in the recipe, so its items cannot be set one by one"
            self.problems.add(node.location, f"{message}; give the whole list: {dotted(path)}=[...]")
            return FAILED
        return self._wrong(node, hint, path)

    def _fail(self, location: Location, path: KeyPath, message: str) -> Any:
        self.problems.add(location, f"{shown(path)}: {message}" if path else message)
        return FAILED

    def _wrong(self, node: Node, hint: Any, path: KeyPath) -> Any:
        close = ""
        if isinstance(node, Scalar):
            names = [name for choice in _members(hint) for name in _literal_names(choice)]
            close = today(node.text, VALUES) or nearest(node.text, names)
        return self._fail(node.location, path, f"expected {_describe(hint)}, got {_got(node)}{close}")

    def _scalar(self, node: Scalar, choices: Sequence[Any], hint: Any, path: KeyPath) -> Any:
        for choice in sorted(choices, key=lambda c: _NARROW_FIRST.index(c) if c in _NARROW_FIRST else -1):
            value = _parse(node, choice)
            if value is not FAILED:
                self.origins[dotted(path)] = node.location.origin
                return value
        shorthands = [c for c in choices if dataclasses.is_dataclass(c) and hasattr(c, "from_scalar")]
        if node.is_null or len(shorthands) != 1:
            return self._wrong(node, hint, path)
        try:
            value = shorthands[0].from_scalar(node.text)
        except (ValueError, RecipeError) as error:
            return self._fail(node.location, path, str(error))
        self._note(value, path, node.location.origin)
        return value

    def _note(self, value: Any, path: KeyPath, origin: Origin) -> None:
        self.origins.update(dict.fromkeys((leaf for leaf, _ in leaves(value, path)), origin))

    def _listing(self, node: Listing, sequences: Sequence[Any], path: KeyPath) -> Any:
        for sequence in sequences[:-1]:
            trial = Converter(Problems())
            value = trial._sequence(node, sequence, path)
            if value is not FAILED:
                self.origins |= trial.origins
                return value
        return self._sequence(node, sequences[-1], path)

    def _sequence(self, node: Listing, hint: Any, path: KeyPath) -> Any:
        base, args = _base(hint), get_args(hint) or (Any, ...)
        hints = [args[0]] * len(node.items)
        if base is tuple and args[-1] is not Ellipsis:
            hints = list(args)
        if len(hints) != len(node.items):
            return self._fail(node.location, path, f"expected {_describe(hint)}, got a list of {len(node.items)}")
        pairs = enumerate(zip(node.items, hints, strict=True))
        values = [self.convert(item, item_hint, (*path, i)) for i, (item, item_hint) in pairs]
        if any(value is FAILED for value in values):
            return FAILED
        self.origins[dotted(path)] = node.location.origin
        return values if base is list else tuple(values)

    def _mapping(self, node: Table, hint: Any, path: KeyPath) -> Any:
        key_hint, value_hint = get_args(hint) or (str, Any)
        values: dict[Any, Any] = {}
        failed = False
        for text, item in node.entries.items():
            key = text if key_hint is str else _parse_first(Scalar(text, False, item.location), key_hint)
            if key is FAILED:
                self._fail(item.location, path, f"expected {_describe(key_hint)} as a key, got '{text}'")
            elif _cleared(item, value_hint):
                continue
            else:
                values[key] = self.convert(item, value_hint, (*path, text))
            failed = failed or key is FAILED or values[key] is FAILED
        self.origins[dotted(path)] = node.location.origin
        return FAILED if failed else values

    def _anything(self, node: Node, path: KeyPath) -> Any:
        self.origins[dotted(path)] = node.location.origin
        if isinstance(node, Scalar):
            return plain_scalar(node)
        if isinstance(node, Listing):
            return [self._anything(item, (*path, i)) for i, item in enumerate(node.items)]
        kept = {key: item for key, item in node.entries.items() if not (isinstance(item, Scalar) and item.clears)}
        return {key: self._anything(item, (*path, key)) for key, item in kept.items()}

    def _dataclass(self, node: Table, classes: Sequence[Any], path: KeyPath, default: object) -> Any:
        """Chooses the class by `kind` (absent: the field's default, else the first class), then builds it."""
        base = default if type(default) in classes else None
        written = node.entries.get("kind")
        kind: Any = written.text if isinstance(written, Scalar) and not written.is_null else None
        usual = _default_of(classes[0], "kind") if base is None else getattr(base, "kind", None)
        entries = node.entries
        if kind is not None and kind != usual:
            base = None
            entries = entries if node.alone is None else node.alone
        if len(classes) == 1 and not getattr(classes[0], "__custom__", False):
            return self._build(classes[0], dataclasses.replace(node, entries=entries), path, base)
        if written is not None and kind is None:
            return self._wrong(written, str, (*path, "kind"))
        kind = usual if kind is None else kind
        cls = self._class_of(kind, classes, (written or node).location, path)
        if cls is None:
            return FAILED
        if getattr(cls, "__custom__", False):
            return self._custom(cls, kind, dataclasses.replace(node, entries=entries), path, base)
        return self._build(cls, dataclasses.replace(node, entries=entries), path, base, f" of kind '{kind}'")

    def _class_of(self, kind: Any, classes: Sequence[Any], location: Location, path: KeyPath) -> Any:
        """The member of a union that has this kind, or None with the mistake noted."""
        custom = next((cls for cls in classes if getattr(cls, "__custom__", False)), None)
        by_kind = {name: cls for cls in classes if cls is not custom for name in _kinds(cls)}
        if kind in by_kind:
            return by_kind[kind]
        if custom is not None and kind is not None and _IMPORT_NAME.fullmatch(kind):
            return custom
        allowed = ", ".join([*by_kind, "package.module:Class"] if custom is not None else by_kind)
        problem = "missing" if kind is None else f"unknown kind '{kind}'{today(kind, VALUES) or nearest(kind, by_kind)}"
        self._fail(location, (*path, "kind"), f"{problem}; allowed: {allowed}")
        return None

    def _custom(self, cls: Any, kind: str, node: Table, path: KeyPath, base: Any) -> Any:
        options = {} if base is None else dict(base.options)
        self._note({"kind": kind, **options}, path, Origin("default", cls.__name__))
        given = self._anything(node, path)
        given.pop("kind", None)
        return self._construct(cls, {"kind": kind, "options": options | given}, node, path)

    def _build(self, cls: Any, node: Table, path: KeyPath, base: Any, chosen: str = "") -> Any:
        fields = _fields(cls)
        known = [*fields, "extends"] if path == () else [*fields]
        hints = _hints(cls)
        given: dict[str, Any] = {}
        guesses = ""
        for key, item in node.entries.items():
            if key not in fields:
                where = f" in {shown(path)}{chosen}" if path else ""
                guesses += (close := today(key, KEYS) or nearest(key, known))
                self.problems.add(item.location, f"unknown key '{key}'{where}{close}; allowed: {', '.join(known)}")
                given[key] = FAILED
            elif not _cleared(item, hints[key]):
                given[key] = self.convert(item, hints[key], (*path, key), _default(fields[key], base))
        for name, field in fields.items():
            required = base is None and field.default is field.default_factory is dataclasses.MISSING
            # A mistyped required key is one mistake, not two.
            if required and name not in given and f"'{name}'" not in guesses:
                self._fail(node.location, (*path, name), "missing; it is required and has no default")
                given[name] = FAILED
            elif required and name not in given:
                given[name] = FAILED
        if any(value is FAILED for value in given.values()):
            return FAILED
        rest = {} if base is None else {name: value for name, value in _stated(base).items() if name not in given}
        value = self._construct(cls, rest | given, node, path)
        if value is not FAILED:
            self._note_fields(value, given, path, base)
        return value

    def _construct(self, cls: Any, arguments: Mapping[str, Any], node: Table, path: KeyPath) -> Any:
        try:
            value = cls(**arguments)
        except (ValueError, RecipeError) as error:
            locations = dict.fromkeys(str(item.location) for item in node.entries.values() if item.location.is_override)
            blamed = ", ".join(location for location in locations if location != str(node.location))
            return self._fail(node.location, path, f"{error} (with {blamed})" if blamed else str(error))
        if not _fields(cls):
            self.origins[dotted(path)] = node.location.origin
        return value

    def _note_fields(self, value: Any, given: Mapping[str, Any], path: KeyPath, base: Any) -> None:
        """Notes the origin of what the recipe did not give: defaults, and what `__post_init__` changed."""
        owner = type(value).__name__
        for name, field in _fields(type(value)).items():
            after = getattr(value, name)
            before = given[name] if name in given else _default(field, base)
            if after is not before and after != before:
                self._note(after, (*path, name), Origin("derived", owner))
            elif name not in given:
                self._note(after, (*path, name), Origin("default", f"{owner}.{name}"))


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls)


def _fields(cls: Any) -> dict[str, dataclasses.Field[Any]]:
    return {field.name: field for field in dataclasses.fields(cls) if field.init}


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _base(hint: Any) -> Any:
    return get_origin(hint) or hint


def _default(field: dataclasses.Field[Any], base: Any) -> Any:
    """What the field is where the recipe does not say: its value in `base`, else its own default, else None."""
    if base is not None:
        return getattr(base, field.name)
    if field.default is not dataclasses.MISSING:
        return field.default
    return None if field.default_factory is dataclasses.MISSING else field.default_factory()


def _stated(base: Any) -> dict[str, Any]:
    """The values of a dataclass less those its `__post_init__` would compute again: they follow what changes."""
    cls, values = type(base), {name: getattr(base, name) for name in _fields(type(base))}
    stated = dict(values)
    for name, field in _fields(cls).items():
        if values[name] != _default(field, None):
            try:
                if cls(**{key: value for key, value in values.items() if key != name}) == base:
                    del stated[name]
            except (TypeError, ValueError, RecipeError):  # the value is needed, so it was stated
                continue
    return stated


def _default_of(cls: Any, name: str) -> Any:
    field = _fields(cls).get(name)
    return None if field is None else _default(field, None)


def _kinds(cls: Any) -> tuple[str, ...]:
    kind = _hints(cls).get("kind")
    assert get_origin(kind) is Literal, f"{cls.__name__} is in a union of dataclasses, so it needs `kind: Literal[...]`"
    return get_args(kind)


def _literal_names(choice: Any) -> list[str]:
    if isinstance(choice, type) and issubclass(choice, Enum):
        return [str(member.value) for member in choice]
    return [value for value in get_args(choice) if isinstance(value, str)] if get_origin(choice) is Literal else []


def _cleared(node: Node, hint: Any) -> bool:
    """True for a null laid over a mapping, unless the field takes null as a value of its own."""
    if not (isinstance(node, Scalar) and node.clears):
        return False
    return _parse_first(node, hint) is FAILED


def _parse_first(node: Scalar, hint: Any) -> Any:
    return next((value for value in (_parse(node, choice) for choice in _members(hint)) if value is not FAILED), FAILED)


def _parse(node: Scalar, choice: Any) -> Any:
    """The value of a scalar as `choice`, or FAILED."""
    if get_origin(choice) is Literal:
        values: Sequence[Any] = get_args(choice)
        return next((value for value in values if _spells(node, value)), FAILED)
    if isinstance(choice, type) and issubclass(choice, Enum):
        return next((member for member in choice if _spells(node, member.value)), FAILED)
    if node.is_null:
        return None if choice is NoneType else FAILED
    if choice in (str, Path):
        return choice(node.text)
    if node.quoted:
        return FAILED
    parsers: dict[Any, Any] = {int: as_int, float: as_float, bool: as_bool}
    value = parsers[choice](node.text) if choice in parsers else None
    return FAILED if value is None else value


def _spells(node: Scalar, value: Any) -> bool:
    """True where the text of a scalar spells a member of a Literal or an Enum."""
    if isinstance(value, str):
        return node.text == value
    return bool(type(value) is NoneType and node.is_null) or (value is not None and _parse(node, type(value)) == value)


def _got(node: Node) -> str:
    if isinstance(node, Listing):
        return "a list"
    if isinstance(node, Table):
        return "a mapping"
    text = repr(node.text if len(node.text) <= 60 else node.text[:57] + "...")
    return "null" if node.is_null else f"the quoted text {text}" if node.quoted else text


def _describe(hint: Any) -> str:
    """What an annotation allows, in the words of messages."""
    return " or ".join(dict.fromkeys(word for choice in _members(hint) for word in _words(choice)))


def _words(choice: Any) -> list[str]:
    base, args = _base(choice), get_args(choice)
    if dataclasses.is_dataclass(choice):
        return ["text", "a mapping"] if hasattr(choice, "from_scalar") else ["a mapping"]
    if base is Literal or (isinstance(choice, type) and issubclass(choice, Enum)):
        values = args or [member.value for member in choice]
        return [("one of " if len(values) > 1 else "") + ", ".join("null" if v is None else repr(v) for v in values)]
    if base in _SEQUENCES:
        return [f"a list of {len(args)}" if base is tuple and args and args[-1] is not Ellipsis else "a list"]
    if base in _MAPPINGS:
        return ["a mapping"]
    assert choice in _WORDS, f"a recipe cannot hold a field annotated {choice!r}"
    return [_WORDS[choice]]
