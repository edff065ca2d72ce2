"""The strict recipe reader: keys, locations of mistakes, tagged unions, shorthands, defaults and origins."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from example_settings import Adam, Custom, Data, Drawn, Files, Muon, Optimizer, Size, Stage

from vitrail.contracts.errors import RecipeError
from vitrail.recipe import strict
from vitrail.recipe.strict import Origin, dump, leaves, read


@dataclass(frozen=True)
class Recipe:
    name: str = "demo"
    seed: int = 0
    flag: bool = False
    limit: int | None = None
    pair: tuple[int, str] = (1, "a")
    shares: Mapping[str, float] = field(default_factory=dict)
    free: Any = None
    data: Data = field(default_factory=lambda: Data(Drawn("drawn")))
    size: Size = field(default_factory=lambda: Size(width=32, heads=2))
    optimizer: Optimizer = field(default_factory=Adam)
    stages: tuple[Stage, ...] = ()


@dataclass(frozen=True)
class Needy:
    name: str
    inner: Stage
    optimizer: Optimizer
    data: Files | Drawn


@dataclass(frozen=True)
class Kindless:
    thing: Size | Stage | None = None


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, so that messages hold short relative paths."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read_text(text: str, *overrides: str) -> strict.Resolved[Recipe]:
    Path("demo.yaml").write_text(text, encoding="utf-8")
    return read(Recipe, Path("demo.yaml"), overrides)


def value(text: str, *overrides: str) -> Recipe:
    return read_text(text, *overrides).value


def errors(text: str, *overrides: str, cls: type[Any] = Recipe) -> list[str]:
    Path("demo.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        read(cls, Path("demo.yaml"), overrides)
    return str(caught.value).split("\n")


STAGES = "stages:\n- name: align\n  steps: 5\n- name: instruct\n  steps: 7\n  lr: 1e-4\n"


class TestKeys:
    def test_unknown_key(self) -> None:
        assert errors("name: a\nsize:\n  widht: 3\n") == [
            "demo.yaml:3: unknown key 'widht' in size (did you mean 'width'?); allowed: width, heads, wide"
        ]

    def test_unknown_key_at_the_top_may_be_extends(self) -> None:
        (line,) = errors("extend: a.yaml")
        assert line.startswith("demo.yaml:1: unknown key 'extend' (did you mean 'extends'?); allowed: name, seed,")

    def test_a_field_that_the_class_computes_is_not_a_key(self) -> None:
        assert "unknown key 'area' in size" in errors("size: {area: 3}")[0]

    def test_missing_key_names_its_path_and_the_line_of_the_mapping(self) -> None:
        assert errors("seed: 1\nstages:\n- name: a\n  steps: 1\n- name: b\n") == [
            "demo.yaml:5: stages[1].steps: missing; it is required and has no default"
        ]

    def test_missing_at_the_top(self) -> None:
        found = errors("inner: {name: a, steps: 1}\noptimizer: {}\ndata: x.jsonl\n", cls=Needy)
        assert found == ["demo.yaml:1: name: missing; it is required and has no default"]

    def test_a_mistyped_required_key_is_one_mistake(self) -> None:
        assert errors("stages:\n- {name: a, stpes: 3}\n") == [
            "demo.yaml:2: unknown key 'stpes' in stages[0] (did you mean 'steps'?);"
            " allowed: name, steps, lr, freeze, optimizer"
        ]

    def test_duplicate_key(self) -> None:
        assert errors("name: a\nseed: 1\nname: b\n") == ["demo.yaml:3: key 'name' is given twice (first in line 1)"]

    def test_value_error_of_a_class_gets_the_location_of_its_mapping(self) -> None:
        assert errors("name: x\nstages:\n- name: a\n  steps: 0\n") == [
            "demo.yaml:3: stages[0]: steps must be positive, got 0"
        ]

    def test_value_error_names_the_override_that_caused_it(self) -> None:
        assert errors(STAGES, "stages.0.steps=-1") == [
            "demo.yaml:2: stages[0]: steps must be positive, got -1 (with override 'stages.0.steps=-1')"
        ]

    def test_all_mistakes_at_once_in_the_order_of_lines(self) -> None:
        text = "seed: x\nstages:\n- name: a\nname: a\nflag: maybe\nname: b\nnmae: c\n"
        found = errors(text)
        assert [line.split(":")[1] for line in found] == ["1", "3", "5", "6", "7"]
        assert found[0] == "demo.yaml:1: seed: expected a whole number, got 'x'"


class TestTaggedUnions:
    def test_kind_chooses(self) -> None:
        assert value("optimizer: {kind: muon, momentum: 0.9}").optimizer == Muon(0.9)
        assert value("optimizer: {kind: adam}").optimizer == Adam("adam")

    def test_absent_kind_is_the_first_members(self) -> None:
        Path("demo.yaml").write_text("name: a\ninner: {name: a, steps: 1}\noptimizer: {lr: 2}\ndata: x")
        assert read(Needy, Path("demo.yaml")).value.optimizer == Adam(lr=2.0)

    def test_absent_kind_without_a_default_kind_is_an_error(self) -> None:
        found = errors("name: a\ninner: {name: a, steps: 1}\noptimizer: {}\ndata: {path: x}", cls=Needy)
        assert found == ["demo.yaml:4: data.kind: missing; allowed: files, drawn"]

    def test_absent_kind_keeps_that_of_the_fields_default(self) -> None:
        assert value("data: {}").data.train == Drawn("drawn")
        assert value("seed: 1", "data.train.count=3").data.train == Drawn("drawn", 3)

    def test_unknown_kind(self) -> None:
        assert errors("optimizer:\n  kind: moun") == [
            "demo.yaml:2: optimizer.kind: unknown kind 'moun' (did you mean 'muon'?);"
            " allowed: adamw, adam, muon, package.module:Class"
        ]

    @pytest.mark.parametrize("kind", ["a:", ":b", "a.b", "a b:c", "a:b:c", "1a:B"])
    def test_malformed_import_name(self, kind: str) -> None:
        assert f"unknown kind '{kind}'" in errors(f"optimizer: {{kind: '{kind}'}}")[0]

    def test_import_name_where_none_is_allowed(self) -> None:
        assert "allowed: files, drawn" in errors("data: {train: {kind: 'a.b:C'}}")[0]

    @pytest.mark.parametrize(("kind", "got"), [("null", "null"), ("[a]", "a list"), ("{}", "a mapping")])
    def test_kind_must_be_text(self, kind: str, got: str) -> None:
        assert errors(f"optimizer: {{kind: {kind}}}") == [f"demo.yaml:1: optimizer.kind: expected text, got {got}"]

    def test_custom_takes_all_other_keys_verbatim(self) -> None:
        resolved = read_text("optimizer:\n  kind: my.pkg:Lion\n  lr: 1e-4\n  inner: {on: yes}\n")
        assert resolved.value.optimizer == Custom("my.pkg:Lion", {"lr": 1e-4, "inner": {"on": "yes"}})
        assert resolved.origins["optimizer.inner.on"] == Origin("recipe", "demo.yaml:4")
        assert dump(resolved.value)["optimizer"] == {"kind": "my.pkg:Lion", "lr": 1e-4, "inner": {"on": "yes"}}

    def test_keys_of_another_kind_are_unknown(self) -> None:
        assert (
            "unknown key 'momentum' in optimizer of kind 'adamw'; allowed: kind, lr, betas"
            in errors("optimizer: {momentum: 0.9}")[0]
        )

    def test_a_union_needs_kinds(self) -> None:
        Path("demo.yaml").write_text("thing: {kind: a}")
        with pytest.raises(AssertionError, match="Size is in a union of dataclasses"):
            read(Kindless, Path("demo.yaml"))


class TestShorthand:
    def test_text_stands_for_a_dataclass(self) -> None:
        resolved = read_text("data:\n  train: my.jsonl\n  held_out: 2024\n")
        assert resolved.value.data == Data(Files("files", Path("my.jsonl")), Files("files", Path("2024")))
        assert resolved.origins["data.train.path"] == Origin("recipe", "demo.yaml:2")

    def test_null_is_not_text(self) -> None:
        assert errors("data: {train: null}") == ["demo.yaml:1: data.train: expected text or a mapping, got null"]

    def test_its_value_error_has_a_location(self) -> None:
        assert errors("data:\n  train: dir/") == ["demo.yaml:2: data.train: expected a file, got the folder 'dir/'"]

    def test_in_an_override(self) -> None:
        found = value("data: {train: {kind: drawn, count: 3}}", "data.train=my.jsonl").data.train
        assert found == Files("files", Path("my.jsonl"))


class TestDefaults:
    def test_a_partial_mapping_keeps_the_fields_default(self) -> None:
        assert value("size: {heads: 8}").size == Size(32, 8, 128)

    def test_what_the_default_computed_is_computed_again(self) -> None:
        resolved = read_text("size: {width: 8}")
        assert resolved.value.size == Size(8, 2, 32)
        assert resolved.origins["size.heads"] == Origin("default", "Size.heads")
        assert resolved.origins["size.wide"] == Origin("derived", "Size")

    def test_another_kind_does_not(self) -> None:
        assert value("optimizer: {kind: adam}").optimizer == Adam("adam")

    def test_the_mapping_of_a_required_class_may_be_partial_where_the_default_has_it(self) -> None:
        assert value("data: {held_out: x}").data == Data(Drawn("drawn"), Files("files", Path("x")))


class TestOrigins:
    def test_every_leaf_has_one_in_the_order_of_the_fields(self) -> None:
        resolved = read_text(STAGES + "size: {width: 8}\nfree: [1, {a: {}}]\nshares: {a: 1}\n")
        assert list(resolved.origins) == [path for path, _ in leaves(resolved.value)]
        assert resolved.origins["stages.1.lr"] == Origin("recipe", "demo.yaml:6")
        assert resolved.origins["stages.0.lr"] == Origin("default", "Stage.lr")
        assert resolved.origins["shares.a"] == Origin("recipe", "demo.yaml:9")
        assert resolved.origins["free.1.a"] == Origin("recipe", "demo.yaml:8")
        assert resolved.origins["optimizer.lr"] == Origin("default", "Recipe.optimizer")
        assert resolved.origins["pair"] == Origin("default", "Recipe.pair")

    def test_what_post_init_computes_is_derived(self) -> None:
        Path("demo.yaml").write_text("width: 8")
        resolved = read(Size, Path("demo.yaml"))
        assert (resolved.value.wide, resolved.origins["wide"]) == (32, Origin("derived", "Size"))
        Path("demo.yaml").write_text("wide: 8")
        assert read(Size, Path("demo.yaml")).origins["wide"] == Origin("recipe", "demo.yaml:1")


def test_reading_recipes_imports_nothing_heavy() -> None:
    heavy = "[m for m in ('torch', 'transformers', 'numpy', 'pydantic') if m in sys.modules]"
    code = f"import sys; sys.path[:0] = {sys.path!r}; import vitrail.recipe.strict; print({heavy})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
