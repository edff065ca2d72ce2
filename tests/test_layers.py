"""The house's own rules, read off the source: who may import whom, how long things may be, what is imported when."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import vitrail

PACKAGE = Path(vitrail.__file__).parent
LEVELS = {
    **dict.fromkeys(("contracts", "disk"), 0),
    **dict.fromkeys(("media", "prompts", "metrics"), 1),
    **dict.fromkeys(("models", "synthetic"), 2),
    **dict.fromkeys(("data",), 3),
    **dict.fromkeys(("systems",), 4),
    **dict.fromkeys(("training", "inference"), 5),
    **dict.fromkeys(("alignment", "evaluation", "serving", "export", "curation"), 6),
    **dict.fromkeys(("report", "recipe"), 7),
    **dict.fromkeys(("build",), 8),
    **dict.fromkeys(("run",), 9),
    **dict.fromkeys(("cli",), 10),
    **dict.fromkeys(("__init__", "__main__"), 11),
}
APART = {"models", "data", "synthetic"}
"""Folders that never import each other, whatever their levels, but for `data`, which opens synthetic sources."""

JUNK_DRAWERS = {"utils", "util", "common", "helpers", "helper", "misc"}
LONGEST_FILE, LONGEST_FUNCTION = 400, 60

# What does not keep the rules yet. These lists only shrink: an entry that is no longer needed fails.
UPWARD: set[tuple[str, str]] = set()
LONG_FILES: set[str] = set()
LONG_FUNCTIONS: set[str] = set()

FILES = sorted(PACKAGE.rglob("*.py"))


@cache
def trees() -> dict[Path, ast.Module]:
    """Every file, parsed: by the tests that ask, since every worker imports this file."""
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def module_of(path: Path) -> str:
    """`vitrail.data.pack`; a folder's own `__init__` counts as the folder, the package's own as itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if len(parts) > 1 and parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(("vitrail", *parts))


def folder_of(module: str) -> str:
    """The part of the package that has a level; `vitrail` alone means what its `__init__` offers."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(path: Path, tree: ast.AST) -> Iterator[str]:
    """Every module imported anywhere in a file: in functions, under TYPE_CHECKING and relatively too."""
    package = path.relative_to(PACKAGE.parent).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*start, *([node.module] if node.module else [])))
            for alias in node.names:
                below = f"{module}.{alias.name}"
                yield below if module.startswith("vitrail") and is_module(below) else module


def is_module(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def forbidden(importer: str, imported: str) -> bool:
    """Whether an import goes up, to a neighbour of the same level, or between folders that are to stay apart."""
    here, there = folder_of(importer), folder_of(imported)
    return here != there and (LEVELS[there] >= LEVELS[here] or apart(here, there))


def apart(here: str, there: str) -> bool:
    """Whether one of two different folders must not import the other, whatever their levels."""
    return here != there and {here, there} <= APART and (here, there) != ("data", "synthetic")


def edges() -> set[tuple[str, str]]:
    return {
        (module_of(path), imported)
        for path, tree in trees().items()
        for imported in imports(path, tree)
        if imported.partition(".")[0] == "vitrail"
    }


def test_every_folder_has_a_level() -> None:
    assert {folder_of(module_of(path)) for path in FILES} <= LEVELS.keys()


def test_imports_go_down_or_stay_in_their_folder() -> None:
    found = {edge for edge in edges() if forbidden(*edge)}
    assert found - UPWARD == set()
    assert UPWARD - found == set(), "no longer needed"


def test_models_data_and_synthetic_never_import_each_other() -> None:
    """They meet in `contracts`; only `data` opens synthetic sources."""
    crossing = {(folder_of(importer), folder_of(imported)) for importer, imported in edges()}
    assert {pair for pair in crossing if apart(*pair)} == set()
    assert ("data", "synthetic") in crossing, "the exception is no longer needed"


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("data/collate.py", "from vitrail.models import config", {"vitrail.models.config"}),
        ("data/collate.py", "import vitrail.models.weights as w", {"vitrail.models.weights"}),
        ("data/collate.py", "def f():\n    from ..models.weights import unshared", {"vitrail.models.weights"}),
        ("synthetic/scenes/bars.py", "from ...models import assembled", {"vitrail.models.assembled"}),
        ("data/collate.py", "from . import ledger", {"vitrail.data.ledger"}),
        ("data/collate.py", "from .. import build", {"vitrail.build"}),
        ("data/collate.py", "from vitrail import Reply", {"vitrail"}),
        ("data/collate.py", "if TYPE_CHECKING:\n    from vitrail.build import load", {"vitrail.build"}),
    ],
)
def test_the_rule_sees_every_kind_of_import(file: str, source: str, expected: set[str]) -> None:
    path = PACKAGE / file
    assert set(imports(path, ast.parse(source))) == expected
    assert {forbidden(module_of(path), imported) for imported in expected} == {"ledger" not in source}


def test_no_junk_drawers() -> None:
    names = {path.stem for path in FILES} | {part for path in FILES for part in path.relative_to(PACKAGE).parts[:-1]}
    assert names & JUNK_DRAWERS == set()


def test_transformers_stays_with_the_backbones() -> None:
    importers = {
        path.relative_to(PACKAGE)
        for path, tree in trees().items()
        if any(imported.partition(".")[0] == "transformers" for imported in imports(path, tree))
    }
    others = {path for path in importers if path.parts[:2] != ("models", "backbones")}
    assert others == set()


def test_files_are_short() -> None:
    long = {
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST_FILE
    }
    assert long - LONG_FILES == set()
    assert LONG_FILES - long == set(), "no longer needed"


def test_functions_are_short() -> None:
    long = {
        f"{path.relative_to(PACKAGE).as_posix()}:{node.name}"
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > LONGEST_FUNCTION
    }
    assert long - LONG_FUNCTIONS == set()
    assert LONG_FUNCTIONS - long == set(), "no longer needed"


def test_every_module_says_what_it_is() -> None:
    assert [module_of(path) for path, tree in trees().items() if not ast.get_docstring(tree)] == []


def test_recipes_are_read_without_heavy_libraries() -> None:
    """In a fresh process, since this one has them all."""
    light = [
        "vitrail",
        "vitrail.cli.main",
        *map(module_of, [*PACKAGE.rglob("config.py"), *PACKAGE.glob("recipe/*.py")]),
    ]
    script = f"""
import importlib, json, sys
for name in {light}:
    importlib.import_module(name)
from vitrail.recipe.read import read_recipe
assert read_recipe("demo").value.stages
print(json.dumps(sorted(set(sys.modules) & {{"torch", "transformers", "numpy", "tokenizers", "PIL", "safetensors"}})))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
