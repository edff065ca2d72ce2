"""Numbers of the official code: which folders there are, and a case with its tolerances.

The root is `fixtures/` here, or the folder that VITRAIL_GOLDEN names. A test module says in SYSTEM which folders it
reads; a test that asks for `case` runs once for every case of every such folder, one that asks for `golden` once for
every folder.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

HERE = Path(__file__).parent
ROOT = Path(os.environ.get("VITRAIL_GOLDEN") or HERE / "fixtures")
FOLDERS = sorted(path for path in ROOT.iterdir() if path.is_dir())


def meta(folder: Path) -> dict[str, Any]:
    path = folder / "meta.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


@dataclass
class Case:
    """inputs, outputs: tensors by name. differences: what was compared -> the largest one found."""

    folder: Path
    name: str
    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, tensor in load_file(self.folder / f"{self.name}.safetensors").items():
            kind, _, rest = name.partition(".")
            {"in": self.inputs, "out": self.outputs}[kind][rest] = tensor

    def compare(self, name: str, found: Tensor, where: Tensor | None = None) -> None:
        """Within the tensor's own tolerance; integers exactly. where: bool, the places that mean something.

        An output that the case does not have is passed over.
        """
        if name not in self.outputs:
            return
        expected = self.outputs[name]
        assert found.shape == expected.shape, f"{name}: {list(found.shape)}, expected {list(expected.shape)}"
        if where is not None:
            found, expected = found[where], expected[where]
        if not expected.is_floating_point():
            assert torch.equal(found, expected), f"{name}: {found.tolist()}, expected {expected.tolist()}"
            self.differences[name] = 0.0
            return
        described = meta(self.folder)
        own = described["cases"][self.name]["tensors"][f"out.{name}"]
        atol = own["atol"] if "atol" in own else described["suggested_tolerance"]["atol"]
        self.differences[name] = float((found - expected).abs().max())
        assert self.differences[name] <= atol, f"{name}: off by {self.differences[name]:.3g}, allowed {atol:.3g}"

    def nothing_is_left(self) -> None:
        """Every output was compared."""
        assert self.outputs.keys() == self.differences.keys()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    system = getattr(metafunc.module, "SYSTEM", None)
    folders = [folder for folder in FOLDERS if system and meta(folder).get("system") == system]
    if "golden" in metafunc.fixturenames:
        metafunc.parametrize("golden", folders, ids=[folder.name for folder in folders])
    if "case" in metafunc.fixturenames:
        cases = [(folder, name) for folder in folders for name in meta(folder)["cases"]]
        ids = [f"{folder.name}-{name}" for folder, name in cases]
        metafunc.parametrize("case", cases, ids=ids, indirect=True)
    if "any_folder" in metafunc.fixturenames:
        metafunc.parametrize("any_folder", FOLDERS, ids=[folder.name for folder in FOLDERS])


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    return Case(*request.param)
