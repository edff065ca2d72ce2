"""Numbers of the official code: which folders there are, and a case with its tolerances.

The root is `fixtures/` here, or the folder that VITRAIL_GOLDEN names. A test module says in SYSTEM which folders it
reads, or in SYSTEMS, or in TOWERS if it reads no more than their encoders; a test that asks for `case` runs once for
every case of every such folder, one that asks for `golden` once for every folder.
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


def cases_of(folder: Path) -> list[str]:
    """Names of a folder's cases: meta.json lists them, or they are the files that are called so."""
    return list(meta(folder).get("cases") or sorted(path.stem for path in folder.glob("case_*.safetensors")))


INPUTS = ("pixel_values", "input_ids", "attention_mask", "image_flags", "image_grid_hws", "labels")
"""What is given, in folders whose tensors do not say so by their names."""


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
            if kind in ("in", "out"):
                {"in": self.inputs, "out": self.outputs}[kind][rest] = tensor
            else:
                (self.inputs if name in INPUTS else self.outputs)[name] = tensor

    def compare(self, name: str, found: Tensor, where: Tensor | None = None, kind: str = "") -> None:
        """Within the tensor's own tolerance; integers exactly. where: bool, the places that mean something.

        kind: which tolerance is meant, in folders that name a few for all tensors. An output that the case does not
        have is passed over.
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
        atol, rtol = self._tolerance(name, kind)
        off = (found - expected).abs()
        self.differences[name] = float(off.max())
        within = (off <= atol + rtol * expected.abs()).all()
        assert within, f"{name}: off by {self.differences[name]:.3g}, allowed {atol:.3g}"

    def _tolerance(self, name: str, kind: str) -> tuple[float, float]:
        """Absolute and relative."""
        described = meta(self.folder)
        if "cases" not in described:
            words = described["tolerance"][kind].split()
            return float(words[words.index("atol") + 1]), float(words[words.index("rtol") + 1])
        own = described["cases"][self.name]["tensors"][f"out.{name}"]
        return (own["atol"] if "atol" in own else described["suggested_tolerance"]["atol"]), 0.0

    def nothing_is_left(self) -> None:
        """Every output was compared."""
        assert self.outputs.keys() == self.differences.keys()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    read = {getattr(metafunc.module, "SYSTEM", None)} - {None}
    read = read.union(*(getattr(metafunc.module, name, ()) for name in ("SYSTEMS", "TOWERS")))
    folders = [folder for folder in FOLDERS if meta(folder).get("system") in read]
    if "golden" in metafunc.fixturenames:
        metafunc.parametrize("golden", folders, ids=[folder.name for folder in folders])
    if "case" in metafunc.fixturenames:
        cases = [(folder, name) for folder in folders for name in cases_of(folder)]
        ids = [f"{folder.name}-{name}" for folder, name in cases]
        metafunc.parametrize("case", cases, ids=ids, indirect=True)
    if "any_folder" in metafunc.fixturenames:
        metafunc.parametrize("any_folder", FOLDERS, ids=[folder.name for folder in FOLDERS])


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    return Case(*request.param)


@pytest.fixture
def root() -> Path:
    """For what is not in folders of its own."""
    return ROOT
