"""Reading recipe files: missing, broken, hostile and odd ones; anchors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from vitrail.contracts.errors import RecipeError
from vitrail.recipe.strict import Origin, Resolved, read


@dataclass(frozen=True)
class Stage:
    name: str
    steps: int
    lr: float | None = None


@dataclass(frozen=True)
class Recipe:
    name: str = "demo"
    seed: int = 0
    limit: int | None = None
    free: Any = None
    stages: tuple[Stage, ...] = ()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, so that messages hold short relative paths."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read_text(text: str) -> Resolved[Recipe]:
    Path("demo.yaml").write_text(text, encoding="utf-8")
    return read(Recipe, Path("demo.yaml"))


def errors(text: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read_text(text)
    return str(caught.value).split("\n")


class TestFiles:
    def test_missing_file_names_the_nearest(self) -> None:
        Path("receipts.yaml").write_text("")
        with pytest.raises(RecipeError, match=r"^reciepts.yaml: no such file \(did you mean 'receipts.yaml'\?\)$"):
            read(Recipe, Path("reciepts.yaml"))

    def test_missing_folder(self) -> None:
        with pytest.raises(RecipeError, match=r"^no/demo.yaml: no such file; there is no folder no$"):
            read(Recipe, Path("no/demo.yaml"))

    def test_a_folder_is_not_a_recipe(self) -> None:
        Path("sub").mkdir()
        with pytest.raises(RecipeError, match=r"^sub: cannot be read: .*; expected a YAML file$"):
            read(Recipe, Path("sub"))

    @pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n", "null\n"])
    def test_empty(self, text: str) -> None:
        assert errors(text) == ["demo.yaml:1: the file is empty; expected a mapping"]

    @pytest.mark.parametrize(("text", "got"), [("\n- a\n", "2: {}a list"), ("just text", "1: {}one value")])
    def test_top_level_must_be_a_mapping(self, text: str, got: str) -> None:
        assert errors(text) == ["demo.yaml:" + got.format("expected a mapping at the top of the file, got ")]

    def test_not_utf8(self) -> None:
        Path("demo.yaml").write_bytes("name: a\nwhere: café\n".encode("latin-1"))
        with pytest.raises(RecipeError, match=r"^demo.yaml:2: not UTF-8 text; save the recipe as UTF-8$"):
            read(Recipe, Path("demo.yaml"))

    def test_byte_order_mark(self) -> None:
        Path("demo.yaml").write_bytes("name: vigne\n".encode("utf-8-sig"))
        assert read(Recipe, Path("demo.yaml")).value.name == "vigne"

    @pytest.mark.parametrize(
        ("text", "location"),
        [("name: a\nseed: [1,\nrate: }", "3:"), ("a: b: c", "1:5:"), ("name:\n\t- a", "2:1:"), ("a: \x01", "1:")],
    )
    def test_syntax_error_has_line_and_column(self, text: str, location: str) -> None:
        (line,) = errors(text)
        assert line.startswith(f"demo.yaml:{location}")
        assert "not valid YAML" in line

    def test_two_documents(self) -> None:
        assert errors("name: a\n---\nname: b\n") == ["demo.yaml:2: a second document starts here ('---'); expected one"]

    @pytest.mark.parametrize("tag", ["!mine 1", "!!python/name:os.system ''", "!!binary aaaa", "!mine {a: 1}"])
    def test_tags_are_refused(self, tag: str) -> None:
        assert "is not allowed in a recipe; only !!str is" in errors(f"name: a\nfree: {tag}")[0]

    def test_key_must_be_text(self) -> None:
        assert errors("? [a]\n: 1") == ["demo.yaml:1: a key must be text, got a list or a mapping"]

    @pytest.mark.parametrize("loader", ["CSafeLoader", "SafeLoader"])
    @pytest.mark.parametrize("depth", [70, 100_000])
    def test_hostile_depth(self, depth: int, loader: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("vitrail.recipe.yaml_lines._Loader", getattr(yaml, loader, yaml.SafeLoader))
        assert "nested more than 64 levels deep" in errors("free: " + "[" * depth + "]" * depth)[0]

    def test_hostile_aliases(self) -> None:
        text = "free:\n- &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        text += "".join(f"- &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]\n" for i in range(12))
        assert "more than 100000 values" in errors(text)[0]
        deep = "free:\n- &a0 [x]\n" + "".join(f"- &a{i + 1} [[[[*a{i}]]]]\n" for i in range(200))
        assert "nested more than 64 levels deep" in errors(deep)[0]


class TestAnchors:
    def test_alias_and_merge_key(self) -> None:
        text = (
            "seed: &n 7\nlimit: *n\nstages:\n- &first {name: a, steps: 3, lr: 0.1}\n"
            "- <<: *first\n  name: b\n- <<: [{steps: 9}, *first]\n  name: c\n"
        )
        resolved = read_text(text)
        assert (resolved.value.seed, resolved.value.limit) == (7, 7)
        assert [(s.name, s.steps, s.lr) for s in resolved.value.stages] == [("a", 3, 0.1), ("b", 3, 0.1), ("c", 9, 0.1)]
        assert resolved.origins["limit"] == Origin("recipe", "demo.yaml:2")

    def test_merge_of_something_else(self) -> None:
        assert errors("<<: 3\nname: a") == ["demo.yaml:1: '<<' merges mappings only; expected an alias of a mapping"]

    @pytest.mark.parametrize("text", ["free: *a", "free: &a [*a]"])
    def test_alias_without_anchor(self, text: str) -> None:
        assert errors(text) == ["demo.yaml:1: alias '*a' has no complete anchor '&a' before it"]
