"""What `import vitrail` offers, and the family of its errors."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import vitrail
from vitrail.contracts import errors

PACKAGE = Path(vitrail.__file__).parent
NO_MISTAKE_OF_THE_USER = {"Stopped", "UnfitError", "_LostError"}
"""Exceptions that are no errors, or none that leaves its file."""


def offered() -> set[str]:
    """Public names that the package's `__init__` takes from inside, the lazy ones (under TYPE_CHECKING) included."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    top = [node for node in tree.body if not isinstance(node, ast.FunctionDef)]
    return {
        alias.asname or alias.name
        for statement in top
        for node in ast.walk(statement)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vitrail")
        for alias in node.names
    }


def test_all_is_what_can_be_imported() -> None:
    assert set(vitrail.__all__) == offered()
    assert sorted(vitrail.__all__) == vitrail.__all__
    for name in vitrail.__all__:
        assert getattr(vitrail, name).__module__.startswith("vitrail."), name
        assert getattr(vitrail, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'laod'"):
        _ = vitrail.laod


def test_errors_share_one_base_and_are_public() -> None:
    classes = {name: cls for name, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, Exception)}
    assert classes.pop("VitrailError") is vitrail.VitrailError
    assert classes
    for name, cls in classes.items():
        assert issubclass(cls, vitrail.VitrailError), name
        assert getattr(vitrail, name) is cls


def test_no_other_family_of_errors_grows_elsewhere() -> None:
    family = {name for name in vars(errors) if name.endswith("Error")}
    strangers = {
        node.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id.endswith(("Error", "Exception")) for base in node.bases)
        and not any(isinstance(base, ast.Name) and base.id in family for base in node.bases)
    }
    assert strangers - {"VitrailError"} == NO_MISTAKE_OF_THE_USER
