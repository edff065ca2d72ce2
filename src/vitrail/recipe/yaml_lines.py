"""YAML text -> a tree of scalars, listings and tables in which every value remembers where it was written.

Works on PyYAML's events, not on its composed nodes: libyaml's composer recurses in C and ends the whole process on a
deeply nested file, and events tell an explicit tag from an implied one. Scalars stay text: what `1e-3`, `on` or `007`
means is decided later, by the type that is expected there. Costs one pass over the file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from vitrail.contracts.errors import RecipeError, nearest

MAX_DEPTH = 64  # far above any recipe, far below Python's recursion limit
MAX_VALUES = 100_000  # counted after aliases are expanded, so that a few nested anchors cannot fill the memory

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "false": False}
_BOOL_WORDS = _BOOL | {"yes": True, "on": True, "no": False, "off": False}
# A leading zero is refused: `010` is 8 in YAML 1.1 and 10 in YAML 1.2.
_INT = re.compile(r"[-+]?(0|[1-9](_?[0-9])*)")
_FLOAT = re.compile(r"[-+]?((0|[1-9](_?[0-9])*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_SPECIAL = {".inf": math.inf, "+.inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}
_STR_TAG = "tag:yaml.org,2002:str"
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C parser is an order faster, where it was built


@dataclass(frozen=True)
class Origin:
    """Where a value came from: location is `file:line`, `command line`, or the `Class.field` that has the default."""

    kind: Literal["default", "recipe", "override", "derived"]
    location: str


@dataclass(frozen=True)
class Location:
    """Where a value was written. source: the file as the user named it, or `override '...'`.

    line: 0 for overrides, -1 for a file that is no recipe.
    """

    source: str
    line: int = 0

    @property
    def is_override(self) -> bool:
        """Whether it was written on the command line."""
        return self.line == 0

    @property
    def origin(self) -> Origin:
        """The same, as an origin."""
        return Origin("override", "command line") if self.is_override else Origin("recipe", str(self))

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line > 0 else self.source


@dataclass(frozen=True)
class Scalar:
    """One value as text. quoted: it can only be text. clears: a null laid over a mapping, which takes it away."""

    text: str
    quoted: bool
    location: Location
    clears: bool = False

    @property
    def is_null(self) -> bool:
        """Whether it spells null."""
        return not self.quoted and self.text in _NULL


@dataclass(frozen=True)
class Listing:
    """A YAML sequence."""

    items: tuple[Node, ...]
    location: Location


@dataclass(frozen=True)
class Table:
    """A YAML mapping; the location of an entry is the line of its key.

    alone: the entries that stay when `kind`, set by a later layer over a layer without one, is not the default kind.
    step: made from the dotted key of an override, not from a mapping that somebody wrote.
    """

    entries: Mapping[str, Node]
    location: Location
    alone: Mapping[str, Node] | None = None
    step: bool = False


Node = Scalar | Listing | Table
KeyPath = tuple[str | int, ...]  # keys and list positions from the top of the recipe to a value


@dataclass
class Problems:
    """The mistakes found so far; reported together, in the order of the files' lines."""

    found: list[tuple[Location, str]] = field(default_factory=list)

    def add(self, location: Location, message: str) -> None:
        """Notes one mistake; a message of several lines is folded into one."""
        self.found.append((location, " ".join(message.split())))

    def raise_if_any(self) -> None:
        """Raises RecipeError with one line a mistake, the first mistake first."""
        sources = {location.source: 0 for location, _ in self.found}
        order = {source: i for i, source in enumerate(sources)}
        ranked = sorted(self.found, key=lambda item: (order[item[0].source], item[0].line))
        if ranked:
            raise RecipeError("\n".join(dict.fromkeys(f"{location}: {message}" for location, message in ranked)))


def dotted(path: KeyPath) -> str:
    """`stages.0.steps`: how origins and overrides spell a path."""
    return ".".join(map(str, path))


def shown(path: KeyPath) -> str:
    """`stages[0].steps`: how messages spell a path."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def as_int(text: str) -> int | None:
    """The whole number that `text` spells (`1_000` too), else None."""
    try:
        return int(text) if _INT.fullmatch(text) else None
    except ValueError:  # more digits than Python agrees to read
        return None


def as_float(text: str) -> float | None:
    """The number that `text` spells (`1e-3`, `3`, `.inf` too), else None."""
    return float(text) if _FLOAT.fullmatch(text) else _SPECIAL.get(text.lower())


def as_bool(text: str) -> bool | None:
    """The truth value that `text` spells where one is expected: true, false, yes, no, on, off; else None."""
    return _BOOL_WORDS.get(text.lower())


def plain_scalar(node: Scalar) -> Any:
    """The value of a scalar where anything is allowed: null, true, false, a number, else text (`yes`, `on` too)."""
    if node.quoted:
        return node.text
    if node.is_null:
        return None
    values = (_BOOL.get(node.text.lower()), as_int(node.text), as_float(node.text))
    return next((value for value in values if value is not None), node.text)


def must_quote(text: str) -> bool:
    """True where `text`, written without quotes, could be read as something other than text."""
    value = plain_scalar(Scalar(text, False, Location("")))
    return not isinstance(value, str) or as_bool(text) is not None


def read_table(path: Path, problems: Problems, asked: str = "") -> Table:
    """Reads one file. asked: `file:line: extends: ` where a recipe asked for it, put before what went wrong.

    Raises RecipeError: no such file, unreadable, not UTF-8, not YAML, or not a mapping at the top.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{asked}{path}:{line}: not UTF-8 text; save the recipe as UTF-8") from None
    except FileNotFoundError:
        raise RecipeError(asked + _missing(path)) from None
    except OSError as error:
        raise RecipeError(f"{asked}{path}: cannot be read: {error.strerror}; expected a YAML file") from None
    node = _parse(text, str(path), lambda line: Location(str(path), line), problems)
    if node is None or (isinstance(node, Scalar) and node.is_null):
        raise RecipeError(f"{asked}{path}:1: the file is empty; expected a mapping")
    if not isinstance(node, Table):
        what = "a list" if isinstance(node, Listing) else "one value"
        raise RecipeError(f"{asked}{node.location}: expected a mapping at the top of the file, got {what}")
    return node


def plain_node(node: Node) -> Any:
    """A tree as plain values."""
    if isinstance(node, Scalar):
        return plain_scalar(node)
    if isinstance(node, Listing):
        return [plain_node(item) for item in node.items]
    return {key: plain_node(item) for key, item in node.entries.items()}


def read_value(text: str, location: Location, problems: Problems) -> Node:
    """Reads the value of an override. Only `[`, `{` and quotes start YAML: `Name: a plant` is text, not a mapping.

    Raises RecipeError where such YAML is broken.
    """
    stripped = text.strip()
    if not stripped.startswith(("[", "{", '"', "'")):
        return Scalar(stripped, False, location)
    node = _parse(stripped, str(location), lambda _: location, problems)
    assert node is not None, "text that starts with a bracket or a quote holds a value"
    return node


def _missing(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"{path}: no such file; there is no folder {folder}"
    return f"{path}: no such file{nearest(path.name, sorted(p.name for p in folder.iterdir()))}"


def _parse(text: str, source: str, locate: Callable[[int], Location], problems: Problems) -> Node | None:
    try:
        return _Builder(yaml.parse(text, Loader=_Loader), source, locate, problems).document()
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        location = f"{source}:{at.line + 1}:{at.column + 1}" if at and locate(1).line else source
        context = f" ({error.context})" if error.context else ""
        raise RecipeError(f"{location}: not valid YAML: {error.problem}{context}") from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        location = f"{source}:{before.count(chr(10)) + 1}" if locate(1).line else source
        raise RecipeError(f"{location}: not valid YAML: {error.reason}") from None


class _Builder:
    """Turns the events of one YAML text into nodes."""

    def __init__(
        self, events: Iterator[Any], source: str, locate: Callable[[int], Location], problems: Problems
    ) -> None:
        self.events, self.source, self.locate, self.problems = events, source, locate, problems
        self.anchors: dict[
            str, tuple[Node, int, int]
        ] = {}  # name -> the node, how many values it holds, how deep it is
        self.count = 0
        self.deepest = 0

    def document(self) -> Node | None:
        """The single document of the text, or None where there is none."""
        node: Node | None = None
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise RecipeError(f"{self._at(event)}: a second document starts here ('---'); expected one")
                node = self._node(next(self.events), 0)
        return node

    def _at(self, event: Any) -> Location:
        return self.locate(event.start_mark.line + 1)

    def _node(self, event: Any, depth: int) -> Node:
        at = self._at(event)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise RecipeError(f"{at}: alias '*{event.anchor}' has no complete anchor '&{event.anchor}' before it")
            node, size, height = self.anchors[event.anchor]
            self._counted(size, depth + height, at)
            return replace(node, location=at)
        if event.tag not in (None, "!", _STR_TAG):
            raise RecipeError(f"{at}: the tag '{event.tag}' is not allowed in a recipe; only !!str is")
        count, deepest, self.deepest = self.count, self.deepest, depth
        self._counted(1, depth, at)
        node = self._fresh(event, at, depth)
        if event.anchor:
            self.anchors[event.anchor] = (node, self.count - count, self.deepest - depth)
        self.deepest = max(deepest, self.deepest)
        return node

    def _counted(self, size: int, depth: int, at: Location) -> None:
        """Counts values down to `depth`; aliases count in full, since that is what converting them will cost."""
        self.count += size
        self.deepest = max(self.deepest, depth)
        if self.deepest > MAX_DEPTH:
            raise RecipeError(f"{at}: nested more than {MAX_DEPTH} levels deep")
        if self.count > MAX_VALUES:
            raise RecipeError(f"{at}: the file holds more than {MAX_VALUES} values, aliases counted in full")

    def _fresh(self, event: Any, at: Location, depth: int) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            return Scalar(event.value, not event.implicit[0], at)
        if isinstance(event, yaml.MappingStartEvent):
            return self._table(at, depth)
        items = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return Listing(tuple(items), at)

    def _table(self, at: Location, depth: int) -> Table:
        entries: dict[str, Node] = {}
        merged: list[Node] = []
        lines: dict[str, int] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            if not isinstance(key, Scalar):
                raise RecipeError(f"{key.location}: a key must be text, got a list or a mapping")
            value = replace(self._node(next(self.events), depth + 1), location=key.location)
            if key.text in lines:
                self.problems.add(key.location, f"key '{key.text}' is given twice (first in line {lines[key.text]})")
                continue
            lines[key.text] = key.location.line
            if key.text == "<<" and not key.quoted:
                merged += value.items if isinstance(value, Listing) else (value,)
            else:
                entries[key.text] = value
        for table in merged:  # `<<: *anchor`: earlier ones win over later ones, and written keys over all
            if isinstance(table, Table):
                entries |= {name: node for name, node in table.entries.items() if name not in entries}
            else:
                self.problems.add(table.location, "'<<' merges mappings only; expected an alias of a mapping")
        return Table(entries, at)
