"""The recipes that come with the package."""

from __future__ import annotations

from pathlib import Path

from vitrail.contracts.errors import RecipeError, nearest

_PACKAGE = Path(__file__).parents[1]


def folder() -> Path:
    """Where the bundled recipes are: in the package once installed, at the top of the repository in a checkout."""
    installed = _PACKAGE / "bundled_recipes"
    return installed if installed.is_dir() else _PACKAGE.parents[1] / "recipes"


def names() -> dict[str, Path]:
    """Name (path below the folder, without .yaml) to file."""
    root = folder()
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.yaml"))}


def about(path: Path) -> str:
    """A recipe's first comment line: what it is for."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def find(name: str, asking: Path) -> Path:
    """The file of a bundled recipe: `demo`, `demo.yaml` or `recipes/demo.yaml`. Raises RecipeError for unknown ones."""
    known = names()
    short = name.removeprefix("recipes/").removesuffix(".yaml")
    if short in known:
        return known[short]
    beside = [path.name for path in Path(name).parent.glob("*.yaml")] if Path(name).parent.is_dir() else []
    raise RecipeError(f"no recipe '{name}'{nearest(Path(name).name, [*beside, *known])}; bundled: {', '.join(known)}")
