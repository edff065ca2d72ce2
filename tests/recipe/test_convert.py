"""Type-directed conversion of a recipe: what each annotation accepts, and what it says when it refuses."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from example_settings import Data, Drawn

from vitrail.contracts.errors import RecipeError
from vitrail.recipe.strict import read


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Size:
    width: int = 64


@dataclass(frozen=True)
class Stage:
    name: str
    steps: int


@dataclass(frozen=True)
class Recipe:
    name: str = "demo"
    seed: int = 0
    rate: float = 0.5
    flag: bool = False
    where: Path = Path("runs")
    mode: Literal["train", "eval", 3, True] = "train"
    colour: Colour = Colour.RED
    limit: int | None = None
    words: list[str] = field(default_factory=list)
    pair: tuple[int, str] = (1, "a")
    shares: Mapping[str, float] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)
    free: Any = None
    loose: int | float | str | list[int] | tuple[float, ...] = "auto"
    data: Data = field(default_factory=lambda: Data(Drawn("drawn")))
    size: Size = field(default_factory=Size)
    stages: tuple[Stage, ...] = ()


@dataclass(frozen=True)
class Unsupported:
    thing: complex = 0j


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, so that messages hold short relative paths."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def value(text: str) -> Recipe:
    Path("demo.yaml").write_text(text, encoding="utf-8")
    return read(Recipe, Path("demo.yaml")).value


def errors(text: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        value(text)
    return str(caught.value).split("\n")


class TestConversion:
    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("seed: 1_000", 1000),
            ("seed: -3", -3),
            ("seed: 0", 0),
            ("rate: 1e-3", 1e-3),
            ("rate: 1E+3", 1000.0),
            ("rate: 3", 3.0),
            ("rate: .5", 0.5),
            ("rate: 1_000.5", 1000.5),
            ("rate: .inf", math.inf),
            ("rate: -.INF", -math.inf),
            ("flag: yes", True),
            ("flag: off", False),
            ("flag: On", True),
            ("flag: true", True),
            ("name: yes", "yes"),
            ("name: 1e10", "1e10"),
            ("name: 007", "007"),
            ("name: 2024-01-02", "2024-01-02"),
            ("name: 'null'", "null"),
            ("name: ''", ""),
            ("name: !!str null", "null"),
            ("name: |\n  two\n  lines\n", "two\nlines\n"),
            ("where: data/x", Path("data/x")),
            ("mode: eval", "eval"),
            ("mode: 3", 3),
            ("mode: true", True),
            ("colour: blue", Colour.BLUE),
            ("limit: null", None),
            ("limit: ~", None),
            ("limit:", None),
            ("limit: 4", 4),
            ("words: [a, 1, 'b']", ["a", "1", "b"]),
            ("words: []", []),
            ("pair: [3, x]", (3, "x")),
            ("shares: {a: 1, b: 5e-1}", {"a": 1.0, "b": 0.5}),
            ("shares: {}", {}),
            ("counts: {1: 2}", {1: 2}),
            (
                "free: {a: [1, 1e-3, on, 'on', null, true, 007, x]}",
                {"a": [1, 1e-3, "on", "on", None, True, "007", "x"]},
            ),
            ("free: '1'", "1"),
            ("loose: 3", 3),
            ("loose: 3.5", 3.5),
            ("loose: auto", "auto"),
            ("loose: '3'", "3"),
            ("loose: [1, 2]", [1, 2]),
            ("loose: [1, 2.5]", (1.0, 2.5)),
        ],
    )
    def test_value_has_the_type_of_its_field(self, line: str, expected: object) -> None:
        found = getattr(value(line), line.split(":")[0])
        assert found == expected
        assert type(found) is type(expected)

    def test_nan(self) -> None:
        assert math.isnan(value("rate: .nan").rate)

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("seed: many", "seed: expected a whole number, got 'many'"),
            ("seed: 1.0", "seed: expected a whole number, got '1.0'"),
            ("seed: 010", "seed: expected a whole number, got '010'"),
            ("seed: '3'", "seed: expected a whole number, got the quoted text '3'"),
            ("seed: true", "seed: expected a whole number, got 'true'"),
            ("seed: null", "seed: expected a whole number, got null"),
            ("seed: [1]", "seed: expected a whole number, got a list"),
            ("seed: {a: 1}", "seed: expected a whole number, got a mapping"),
            ("seed: " + "9" * 5000, "seed: expected a whole number, got '" + "9" * 57 + "...'"),
            ("rate: 1e", "rate: expected a number, got '1e'"),
            ("flag: 1", "flag: expected true or false, got '1'"),
            ("name: null", "name: expected text, got null"),
            ("name: [a]", "name: expected text, got a list"),
            ("where: {}", "where: expected a path, got a mapping"),
            ("mode: trian", "mode: expected one of 'train', 'eval', 3, True, got 'trian' (did you mean 'train'?)"),
            ("mode: '3'", "mode: expected one of 'train', 'eval', 3, True, got the quoted text '3'"),
            ("colour: rde", "colour: expected one of 'red', 'blue', got 'rde' (did you mean 'red'?)"),
            ("limit: x", "limit: expected a whole number or null, got 'x'"),
            ("words: a", "words: expected a list, got 'a'"),
            ("words: {a: 1}", "words: expected a list, got a mapping"),
            ("pair: [1]", "pair: expected a list of 2, got a list of 1"),
            ("pair: [x, a]", "pair[0]: expected a whole number, got 'x'"),
            ("shares: [1]", "shares: expected a mapping, got a list"),
            ("shares: {a: b}", "shares.a: expected a number, got 'b'"),
            ("counts: {a: 1}", "counts: expected a whole number as a key, got 'a'"),
            ("loose: {a: 1}", "loose: expected a whole number or a number or text or a list, got a mapping"),
            ("loose: [a]", "loose[0]: expected a number, got 'a'"),
            ("size: 3", "size: expected a mapping, got '3'"),
            ("size: [3]", "size: expected a mapping, got a list"),
            ("data: {train: [a]}", "data.train: expected text or a mapping, got a list"),
        ],
    )
    def test_wrong_type(self, line: str, message: str) -> None:
        assert errors(line) == [f"demo.yaml:1: {message}"]

    def test_location_of_a_wrong_type_deep_inside(self) -> None:
        text = "name: x\nstages:\n  - name: align\n    steps: many\n"
        assert errors(text) == ["demo.yaml:4: stages[0].steps: expected a whole number, got 'many'"]

    def test_unsupported_annotation_is_our_own_mistake(self) -> None:
        Path("demo.yaml").write_text("thing: 1")
        with pytest.raises(AssertionError, match="cannot hold a field annotated"):
            read(Unsupported, Path("demo.yaml"))
