"""A folder's description may name any class: opening the folder runs none of them unless its author is trusted."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import vitrail
from vitrail.cli.main import main
from vitrail.contracts.errors import RecipeError, WeightsError
from vitrail.recipe.read import read_recipe

HOSTILE = '''
"""Whoever imports this has run it."""

import json
from pathlib import Path

from torch import nn

from vitrail.training.objectives import Objective

Path("run.json").write_text(json.dumps("imported"))


class Projector(nn.Module):
    def __init__(self, encoder_width, backbone_width, merge):
        super().__init__()
        self.merge, self.layer = merge, nn.Linear(encoder_width, backbone_width)

    def forward(self, features, stream):
        return self.layer(features.unflatten(0, (-1, self.merge**2)).mean(1))


class Nothing(Objective):
    """No modules."""
'''
KINDS = {
    "projector": ("projector:\n    kind: mlp\n", "projector: {kind: 'hostile:Projector'}\n", "model.projector.kind"),
    "encoder": (
        "encoder:\n    kind: vision_transformer\n",
        "encoder:\n    kind: hostile:Encoder\n",
        "model.encoder.kind",
    ),
    "fusion": ("fusion:\n    kind: splice\n", "fusion: {kind: 'torch.hub:load', x: y}\n", "model.fusion.kind"),
    "streams": (
        "  streams: {}\n",
        "  streams: {more: {media: {kind: native}, encoder: {kind: 'hostile:E'}, projector: {kind: linear}}}\n",
        "model.streams.more.encoder.kind",
    ),
    "objectives": ("objectives: []\n", "objectives: [{kind: 'hostile:Nothing'}]\n", "objectives.0.kind"),
}


@pytest.fixture
def folder(
    finished_run: Callable[..., Path], tiny_recipe_text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A finished run, and in the working directory a module that leaves a file where it is imported."""
    made = finished_run(tiny_recipe_text)
    (tmp_path / "hostile.py").write_text(HOSTILE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "hostile", raising=False)
    return made


def naming(folder: Path, which: str) -> str:
    """Makes the description name a class; returns where."""
    path = folder / "weights" / "vitrail.yaml"
    before, after, where = KINDS[which]
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1, text
    lines = text.replace(before, after).splitlines(keepends=True)
    if which in ("projector", "encoder"):
        # The other settings of the component would be options of the class.
        at = next(number for number, line in enumerate(lines) if "hostile:" in line) + 1
        while lines[at].startswith("    "):
            del lines[at]
    path.write_text("".join(lines), encoding="utf-8")
    return where


@pytest.mark.parametrize("which", KINDS)
def test_every_kind_of_code_is_refused(which: str, folder: Path) -> None:
    where = naming(folder, which)
    with pytest.raises(WeightsError, match="names code that is not part of vitrail") as raised:
        vitrail.load(folder, "cpu")
    assert f"{where}: " in str(raised.value)
    assert "trust_code=True" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not Path("run.json").exists()


def test_trusted_code_is_run(folder: Path, tmp_path: Path) -> None:
    naming(folder, "objectives")
    vitrail.load(folder, "cpu", trust_code=True)
    assert json.loads(Path("run.json").read_text()) == "imported"


@pytest.mark.parametrize(
    "verb", [["chat", "run", "What?"], ["eval", "run", "--data", "rows.jsonl"], ["export", "run", "out"]]
)
def test_the_verbs(
    verb: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    naming(folder, "projector")
    row = {"messages": [{"role": "user", "content": "A?"}, {"role": "assistant", "content": "B"}]}
    Path("rows.jsonl").write_text(json.dumps(row), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["vitrail", *verb])
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().err
    assert "model.projector.kind: hostile:Projector" in said
    assert "--trust-code" in said
    assert not Path("run.json").exists()


def test_a_recipe_that_starts_from_such_a_folder_must_name_the_class_itself(folder: Path) -> None:
    naming(folder, "projector")
    Path("r.yaml").write_text(
        f"run: x\nmodel: {{from: {folder}}}\ndata: {{train: {{kind: drawn, rows: 4}}}}\n"
        "stages: [{name: a, train: {projector: 1.0e-3}, steps: 1}]\n",
        encoding="utf-8",
    )
    with pytest.raises(RecipeError, match=r"says so itself: model\.projector\.kind=hostile:Projector"):
        read_recipe("r.yaml")
    recipe = read_recipe("r.yaml", ["model.projector.kind=hostile:Projector"]).value
    assert recipe.model.projector.kind == "hostile:Projector"
    assert not Path("run.json").exists()
