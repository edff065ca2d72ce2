"""Layers of a recipe: `extends:` and the overrides of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from vitrail.contracts.errors import RecipeError
from vitrail.recipe.strict import Origin, Resolved, read


@dataclass(frozen=True)
class Adam:
    kind: Literal["adamw"] = "adamw"
    lr: float = 1e-3
    decay: float = 0.0


@dataclass(frozen=True)
class Muon:
    kind: Literal["muon"] = "muon"
    lr: float = 0.02
    momentum: float = 0.9
    inner: Adam = field(default_factory=Adam)


@dataclass(frozen=True)
class Custom:
    kind: str
    options: Mapping[str, Any]
    __custom__: ClassVar[bool] = True


@dataclass(frozen=True)
class Stage:
    name: str
    steps: int
    lr: float | None = None


@dataclass(frozen=True)
class Size:
    width: int = 64
    heads: int = 4


@dataclass(frozen=True)
class Recipe:
    name: str = "demo"
    seed: int = 0
    limit: int | None = None
    betas: tuple[float, float] = (0.9, 0.95)
    words: list[str] = field(default_factory=list)
    shares: Mapping[str, float] = field(default_factory=dict)
    free: Any = None
    prompt: str = ""
    size: Size = field(default_factory=Size)
    extra: Size | None = None
    optimizer: Adam | Muon | Custom = field(default_factory=Adam)
    stages: tuple[Stage, ...] = ()
    sizes: Mapping[str, Size] = field(default_factory=dict)


STAGES = "stages:\n- name: align\n  steps: 5\n- name: instruct\n  steps: 7\n  lr: 1e-4\n"
ALIGN, INSTRUCT = Stage("align", 5), Stage("instruct", 7, 1e-4)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, so that messages hold short relative paths."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read_text(text: str, *overrides: str, base: str = "") -> Resolved[Recipe]:
    if base:
        Path("base.yaml").write_text(base, encoding="utf-8")
        text = f"extends: base.yaml\n{text}"
    Path("demo.yaml").write_text(text, encoding="utf-8")
    return read(Recipe, Path("demo.yaml"), overrides)


def value(text: str, *overrides: str, base: str = "") -> Recipe:
    return read_text(text, *overrides, base=base).value


def errors(text: str, *overrides: str, base: str = "") -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read_text(text, *overrides, base=base)
    return str(caught.value).split("\n")


class TestMerging:
    def test_mappings_merge_and_lists_replace(self) -> None:
        base = "seed: 1\nsize: {width: 8, heads: 2}\nwords: [a, b]\n"
        resolved = read_text("size:\n  heads: 4\nwords: [c]\n", base=base)
        assert resolved.value.size == Size(8, 4)
        assert (resolved.value.seed, resolved.value.words) == (1, ["c"])
        locations = {key: resolved.origins[key] for key in ("seed", "size.width", "size.heads", "words", "name")}
        assert locations == {
            "seed": Origin("recipe", "base.yaml:1"),
            "size.width": Origin("recipe", "base.yaml:2"),
            "size.heads": Origin("recipe", "demo.yaml:3"),
            "words": Origin("recipe", "demo.yaml:4"),
            "name": Origin("default", "Recipe.name"),
        }

    def test_a_mistake_in_the_parent_is_reported_there(self) -> None:
        assert errors("seed: x", base="name: a\nsize: {heads: y}\n") == [
            "base.yaml:2: size.heads: expected a whole number, got 'y'",
            "demo.yaml:2: seed: expected a whole number, got 'x'",
        ]

    def test_only_the_parent_may_have_content(self) -> None:
        assert value("", base="seed: 1").seed == 1

    def test_named_items_merge_where_they_stand(self) -> None:
        resolved = read_text("stages: {instruct: {steps: 9}}\n", base=STAGES)
        assert resolved.value.stages == (ALIGN, Stage("instruct", 9, 1e-4))
        assert resolved.origins["stages.1.steps"] == Origin("recipe", "demo.yaml:2")
        assert resolved.origins["stages.1.lr"] == Origin("recipe", "base.yaml:6")

    def test_unknown_named_items(self) -> None:
        assert errors("stages:\n  algin: {steps: 9}\n  '0': {steps: 1}\n", base=STAGES) == [
            "demo.yaml:3: stages has no item named 'algin' (did you mean 'align'?); allowed: align, instruct",
            "demo.yaml:4: stages has no item named '0'; allowed: align, instruct",
        ]

    def test_two_items_of_the_same_name(self) -> None:
        base = "stages: [{name: a, steps: 1}, {name: a, steps: 2}]"
        assert errors("stages: {a: {steps: 9}}", base=base) == [
            "demo.yaml:2: stages: several items are named 'a'; expected different names"
        ]

    def test_a_mapping_over_a_list_without_names_replaces_it(self) -> None:
        assert errors("words: {a: 1}", base="words: [a]") == ["demo.yaml:2: words: expected a list, got a mapping"]

    def test_a_list_over_named_items_replaces_them(self) -> None:
        assert value("stages: [{name: b, steps: 1}]", base=STAGES).stages == (Stage("b", 1),)


class TestNull:
    def test_takes_a_mapping_away(self) -> None:
        base = "size: {width: 8}\nshares: {a: 1}\nfree: {x: {y: 1}, z: 2}\nsizes: {a: {width: 1}, b: {}}\nextra: {}\n"
        resolved = read_text("size: null\nshares: ~\nfree: {x: null}\nsizes: {a: null}\nextra:\n", base=base)
        found = resolved.value
        assert (found.size, found.shares, found.free, found.sizes) == (Size(), {}, {"z": 2}, {"b": Size()})
        assert found.extra is None
        assert resolved.origins["size.width"] == Origin("default", "Recipe.size")
        assert resolved.origins["extra"] == Origin("recipe", "demo.yaml:6")

    def test_takes_a_named_item_away(self) -> None:
        assert value("stages: {align: null}", base=STAGES).stages == (INSTRUCT,)
        assert value(STAGES, "stages.align=null").stages == (INSTRUCT,)

    def test_over_a_plain_value_is_a_value(self) -> None:
        assert value("limit: null", base="limit: 3").limit is None
        assert errors("seed: null", base="seed: 3") == ["demo.yaml:2: seed: expected a whole number, got null"]

    def test_over_a_removed_mapping(self) -> None:
        Path("base.yaml").write_text("size: {width: 8}")
        Path("mid.yaml").write_text("extends: base.yaml\nsize: null")
        Path("low.yaml").write_text("extends: mid.yaml\nsize: null")
        assert read(Recipe, Path("low.yaml")).value.size == Size()
        assert read(Recipe, Path("low.yaml"), ["size.heads=2"]).value.size == Size(64, 2)
        assert value("size: {width: 8}", "size=null").size == Size()


class TestKindChange:
    def test_drops_the_keys_of_the_old_kind(self) -> None:
        base = "optimizer: {kind: adamw, lr: 1, decay: 0.1}"
        assert value("optimizer: {kind: muon, momentum: 0.5}", base=base).optimizer == Muon("muon", 0.02, 0.5)
        assert value(base, "optimizer.kind=muon").optimizer == Muon()
        assert value(base, "optimizer.kind=a.b:C", "optimizer.x=1").optimizer == Custom("a.b:C", {"x": 1})

    def test_the_same_kind_keeps_them(self) -> None:
        base = "optimizer: {kind: muon, lr: 1}"
        assert value("optimizer: {kind: muon, momentum: 0.5}", base=base).optimizer == Muon("muon", 1.0, 0.5)

    def test_a_parent_without_kind_has_the_default_kind(self) -> None:
        base = "optimizer: {lr: 1}"
        assert value("optimizer: {kind: muon}", base=base).optimizer == Muon()
        assert value("optimizer: {kind: adamw}", base=base).optimizer == Adam("adamw", 1.0)
        assert value("optimizer: {kind: muon}", "optimizer.momentum=0.5", base=base).optimizer == Muon(
            "muon", 0.02, 0.5
        )
        assert value(base, "optimizer.kind=muon").optimizer == Muon()
        assert value("seed: 1", "optimizer.kind=muon").optimizer == Muon()

    @pytest.mark.parametrize("base", ["optimizer: {kind: adamw, lr: 1}", "optimizer: {lr: 1}"])
    def test_the_order_of_overrides_does_not_matter(self, base: str) -> None:
        overrides = ["optimizer.kind=muon", "optimizer.momentum=0.5", "optimizer.inner.lr=3"]
        expected = Muon("muon", 0.02, 0.5, Adam(lr=3.0))
        assert value(base, *overrides).optimizer == expected
        assert value(base, *reversed(overrides)).optimizer == expected

    def test_an_override_below_a_mapping_of_the_file_outlives_it_alone(self) -> None:
        text = "optimizer: {kind: muon, inner: {lr: 1, decay: 2}}"
        found = value(text, "optimizer.inner.lr=3", "optimizer.kind=a.b:C").optimizer
        assert found == Custom("a.b:C", {"inner": {"lr": 3}})


class TestExtends:
    def test_chain_across_folders(self) -> None:
        Path("a/b").mkdir(parents=True)
        Path("a/top.yaml").write_text("seed: 1\nlimit: 1\nname: top\n")
        Path("a/b/mid.yaml").write_text("extends: ../top.yaml\nlimit: 2\nname: mid\n")
        resolved = read_text("extends: a/b/mid.yaml\nname: low\n")
        assert (resolved.value.seed, resolved.value.limit, resolved.value.name) == (1, 2, "low")
        assert resolved.origins["seed"] == Origin("recipe", f"{Path('a/top.yaml')}:1")

    def test_cycle(self) -> None:
        Path("a.yaml").write_text("extends: b.yaml")
        Path("b.yaml").write_text("name: b\nextends: ./a.yaml")
        with pytest.raises(RecipeError) as caught:
            read(Recipe, Path("a.yaml"))
        chain = "a.yaml -> b.yaml -> a.yaml"
        assert str(caught.value) == f"b.yaml:2: extends: the files extend each other in a circle: {chain}"

    def test_missing_parent(self) -> None:
        Path("paper.yaml").write_text("")
        assert errors("name: a\nextends: papers.yaml") == [
            "demo.yaml:2: extends: papers.yaml: no such file (did you mean 'paper.yaml'?)"
        ]

    @pytest.mark.parametrize("extends", ["null", "[a.yaml]", "{a: b}"])
    def test_wrong_type(self, extends: str) -> None:
        assert errors(f"extends: {extends}") == ["demo.yaml:1: extends: expected one recipe file or name"]

    def test_only_at_the_top(self) -> None:
        assert "unknown key 'extends' in size" in errors("size: {extends: a.yaml}")[0]

    def test_bundled_name(self) -> None:
        Path("bundle").mkdir()
        Path("bundle/small.yaml").write_text("extends: tiny\nseed: 3\n")
        Path("bundle/tiny.yaml").write_text("seed: 1\nlimit: 1\n")
        Path("demo.yaml").write_text("extends: small\n")
        asked: list[tuple[str, Path]] = []

        def find(name: str, by: Path) -> Path:
            asked.append((name, by))
            return Path("bundle") / f"{name}.yaml"

        found = read(Recipe, Path("demo.yaml"), find=find).value
        assert (found.seed, found.limit) == (3, 1)
        assert asked == [("small", Path("demo.yaml")), ("tiny", Path("bundle/small.yaml"))]

    def test_a_file_beside_the_recipe_comes_before_a_bundled_name(self) -> None:
        def find(name: str, by: Path) -> Path:
            raise AssertionError("not asked")

        Path("small").write_text("seed: 3\n")
        Path("demo.yaml").write_text("extends: small\n")
        assert read(Recipe, Path("demo.yaml"), find=find).value.seed == 3

    def test_unknown_bundled_name(self) -> None:
        def find(name: str, by: Path) -> Path:
            raise RecipeError(f"no recipe '{name}'; allowed: small, tiny")

        Path("demo.yaml").write_text("name: a\nextends: smal\n")
        with pytest.raises(RecipeError, match=r"^demo.yaml:2: extends: no recipe 'smal'; allowed: small, tiny$"):
            read(Recipe, Path("demo.yaml"), find=find)


class TestOverrides:
    @pytest.mark.parametrize(
        ("override", "path", "expected"),
        [
            ("seed=1_000", "seed", 1000),
            ("limit=null", "limit", None),
            ("betas=[1e-1, 2]", "betas", (0.1, 2.0)),
            ("betas.1=0.5", "betas", (0.8, 0.5)),
            ("free={a: [1, on]}", "free", {"a": [1, "on"]}),
            ("free.a.b=1", "free", {"a": {"b": 1}}),
            ("shares.a=1", "shares", {"a": 1.0}),
            ("size.heads=2", "size", Size(8, 2)),
            ("size={heads: 2}", "size", Size(64, 2)),
            (" size.heads = 2", "size", Size(8, 2)),
            ("name='1'", "name", "1"),
            ('name="a: b"', "name", "a: b"),
            ("prompt=Question: what? # really = yes", "prompt", "Question: what? # really = yes"),
            ("prompt=*", "prompt", "*"),
            ("prompt=- a", "prompt", "- a"),
            ("stages.0.steps=50", "stages", (Stage("align", 50), INSTRUCT)),
            ("stages[0].steps=50", "stages", (Stage("align", 50), INSTRUCT)),
            ("stages.align.steps=50", "stages", (Stage("align", 50), INSTRUCT)),
            ("stages.1={name: b, steps: 1}", "stages", (ALIGN, Stage("b", 1))),
            ("stages=[]", "stages", ()),
        ],
    )
    def test_sets(self, override: str, path: str, expected: object) -> None:
        text = "limit: 3\nbetas: [0.8, 0.9]\nsize: {width: 8}\n" + STAGES
        assert getattr(value(text, override), path) == expected

    def test_the_last_one_wins(self) -> None:
        assert value("seed: 1", "seed=2", "seed=3").seed == 3

    def test_origin(self) -> None:
        resolved = read_text("betas: [0.8, 0.9]\n" + STAGES, "stages.align.steps=50", "betas.0=0.5")
        assert resolved.origins["stages.0.steps"] == Origin("override", "command line")
        assert resolved.origins["stages.0.name"] == Origin("recipe", "demo.yaml:3")
        assert resolved.origins["betas"] == Origin("override", "command line")

    def test_over_what_extends_gave(self) -> None:
        assert value("seed: 1", "stages.align.steps=50", base=STAGES).stages[0] == Stage("align", 50)

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("seed", "expected KEY=VALUE with a dotted key, for example stages.0.steps=50"),
            ("=3", "expected KEY=VALUE with a dotted key, for example stages.0.steps=50"),
            ("size..width=3", "expected KEY=VALUE with a dotted key, for example stages.0.steps=50"),
            ("extends=a.yaml", "'extends' can only be given in the recipe file"),
            ("seed=many", "seed: expected a whole number, got 'many'"),
            ("seed=", "seed: expected a whole number, got null"),
            ("seed.x=1", "seed is '1' (demo.yaml:1), not a mapping; replace the whole of it: seed={x: ...}"),
            (
                "stages.0.stpes=50",
                "unknown key 'stpes' in stages[0] (did you mean 'steps'?); allowed: name, steps, lr",
            ),
            ("stages.2.steps=1", "stages has no item 2; allowed: 0 to 1"),
            ("stages.-1.steps=1", "stages has no item -1; allowed: 0 to 1"),
            (
                "stages.algin.steps=1",
                "stages has no item named 'algin' (did you mean 'align'?); allowed: align, instruct",
            ),
            ("words.0=a", "words has no item 0; the list is empty"),
            ("words.x=a", "words is a list of 0; expected the position of an item, got 'x'"),
            (
                "betas.0=1",
                "betas is not in the recipe, so its items cannot be set one by one; give the whole list: betas=[...]",
            ),
            ("free=[1, 2", "not valid YAML: "),
            ("free={a: 1, a: 2}", "key 'a' is given twice"),
            ("free=!!int 3", ""),
            (".".join("a" * 99) + "=1", "the key has 99 parts; allowed: 64"),
        ],
    )
    def test_mistakes(self, override: str, message: str) -> None:
        text = "seed: 1\nwords: []\n" + STAGES
        if not message:
            assert value(text, override).free == "!!int 3"
            return
        (line,) = errors(text, override)
        assert line.startswith(f"override '{override}': {message}")

    def test_below_what_another_override_set(self) -> None:
        assert errors("seed: 1", "free=a", "free.x=1") == [
            "override 'free.x=1': free is 'a', not a mapping; replace the whole of it: free={x: ...}"
        ]

    def test_mistakes_of_file_and_overrides_together(self) -> None:
        assert [line.split(":")[0] for line in errors("seed: x", "name", "limit=y")] == [
            "override 'name'",
            "demo.yaml",
            "override 'limit=y'",
        ]
