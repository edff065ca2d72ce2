"""The way back: dataclasses to mappings and YAML, the differences of two, and the round trip of any recipe."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from example_settings import Adam, Custom, Data, Drawn, Files, Muon, Optimizer, Size, Stage
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.recipe.strict import differences, dump, leaves, read, to_yaml


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


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
    size: Size = field(default_factory=lambda: Size(width=32, heads=2))
    optimizer: Optimizer = field(default_factory=Adam)
    stages: tuple[Stage, ...] = ()


class TestDump:
    def test_plain_values(self) -> None:
        data = Data(Files("files", Path("my.jsonl")))
        found = dump(Recipe(where=Path("a/b"), pair=(2, "b"), colour=Colour.BLUE, data=data))
        assert found["where"] == "a/b"
        assert found["pair"] == [2, "b"]
        assert found["colour"] == "blue"
        assert found["limit"] is None
        assert found["data"] == {"train": {"kind": "files", "path": "my.jsonl"}, "held_out": None}
        assert found["size"] == {"width": 32, "heads": 2, "wide": 128}

    def test_yaml_is_readable(self) -> None:
        text = to_yaml(Stage("yes", 5, lr=1e-5, freeze=("1e-3", "vision"), optimizer=Custom("a:B", {"x": {}})))
        assert text == (
            "name: 'yes'\nsteps: 5\nlr: 1.0e-05\nfreeze: ['1e-3', vision]\noptimizer:\n  kind: a:B\n  x: {}\n"
        )

    def test_shared_values_get_no_anchor(self) -> None:
        shared = [1, 2]
        assert "&" not in to_yaml(Recipe(free=[shared, shared]))


class TestDifferences:
    def test_one_line_a_leaf(self) -> None:
        old = Recipe(stages=(Stage("a", 50),), words=["x"], limit=3)
        new = Recipe(stages=(Stage("a", 60, optimizer=Muon(0.9)), Stage("b", 1)), flag=True)
        found = differences(old, new)
        assert found[:6] == [
            "flag: false -> true",
            "limit: 3 -> null",
            "words: ['x'] -> []",
            "stages.0.steps: 50 -> 60",
            "stages.0.optimizer.kind: 'adamw' -> 'muon'",
            "stages.0.optimizer.lr: 0.001 -> 0.02",
        ]
        assert "stages.0.optimizer.betas: [0.9, 0.95] -> (absent)" in found
        assert "stages.1.name: (absent) -> 'b'" in found

    def test_equal(self) -> None:
        assert differences(Recipe(rate=math.nan), Recipe(rate=math.nan)) == []


text_values = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "",
        "null",
        "~",
        "yes",
        "1e-3",
        "1_0",
        "007",
        "0x1f",
        ".inf",
        "1:30",
        "=",
        "<<",
        "- a",
        "a: b",
        "#",
        "2024-01-01",
        "\r",
    ]
)
floats = st.floats(allow_nan=False)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | text_values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text_values, inner, max_size=3),
    max_leaves=8,
)
options = st.dictionaries(text_values.filter(lambda key: key != "kind"), anything, max_size=3)
optimizers = st.one_of(
    st.builds(Adam, kind=st.sampled_from(["adamw", "adam"]), lr=floats, betas=st.tuples(floats, floats)),
    st.builds(Muon, momentum=floats, lr=floats),
    st.builds(Custom, kind=st.just("my.pkg:Lion"), options=options),
)
sources = st.one_of(
    st.builds(Files, kind=st.just("files"), path=st.builds(Path, st.text("ab/. é", min_size=1))),
    st.builds(Drawn, kind=st.just("drawn"), count=st.integers()),
)
stages = st.builds(
    Stage,
    name=text_values,
    steps=st.integers(1),
    lr=st.none() | floats,
    freeze=st.lists(text_values, max_size=3).map(tuple),
    optimizer=optimizers,
)
recipes = st.builds(
    Recipe,
    name=text_values,
    seed=st.integers(),
    rate=floats,
    flag=st.booleans(),
    mode=st.sampled_from(["train", "eval", 3, True]),
    colour=st.sampled_from(Colour),
    limit=st.none() | st.integers(),
    words=st.lists(text_values, max_size=3),
    pair=st.tuples(st.integers(), text_values),
    shares=st.dictionaries(text_values, floats, max_size=3),
    counts=st.dictionaries(st.integers(), st.integers(), max_size=3),
    free=anything,
    loose=st.integers() | floats | text_values | st.lists(st.integers(), min_size=1, max_size=3),
    data=st.builds(Data, train=sources, held_out=st.none() | sources),
    size=st.builds(Size, width=st.integers(1, 99), heads=st.integers(1, 9)),
    optimizer=optimizers,
    stages=st.lists(stages, max_size=2).map(tuple),
)


@settings(max_examples=100, deadline=None)
@given(recipe=recipes)
def test_dump_to_yaml_read_is_the_identity(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.yaml"
    path.write_text(to_yaml(recipe), encoding="utf-8", newline="")
    resolved = read(Recipe, path)
    assert resolved.value == recipe
    assert differences(recipe, resolved.value) == []
    assert list(resolved.origins) == [leaf for leaf, _ in leaves(recipe)]
