"""`vitrail export`, and official folders where a run's is asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from transformers import Mistral3ForConditionalGeneration

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def finished(tiny_recipe_text: str, finished_run: Callable[..., Path]) -> Callable[..., Path]:
    """Writes `run/weights` of the tiny recipe with overrides."""
    return partial(finished_run, tiny_recipe_text)


def test_a_run_is_exported_and_talked_to(run: Run, finished: Callable[..., Path], tmp_path: Path) -> None:
    finished(
        "model.projector={kind: patch_merger}",
        "model.backbone.config.rms_norm_eps=1e-5",
        "prompt.picture={token: <|at|>, row_break: <|row|>, end: <|done|>}",
    )
    status, out, err = run("export", "run", "out")
    assert (status, err) == (0, "")
    assert out.startswith("out: Mistral3ForConditionalGeneration, tensors: encoder ")
    assert out.endswith("; missing 0, unexpected 0\n")
    assert Mistral3ForConditionalGeneration.from_pretrained(tmp_path / "out")
    asked = ("Well?", "--max-tokens", "4", "--temperature", "1", "--device", "cpu")
    status, out, err = run("chat", "out", *asked)
    assert (status, out) == run("chat", "run", *asked)[:2]
    assert err.startswith("out is Mistral3ForConditionalGeneration, tensors: encoder ")
    status, _, err = run("export", "run", "out", "--dtype", "bfloat16")
    assert (status, err) == (2, "error: 'out' exists already and is not empty; choose another\n")
    assert run("export", "out/", "again", "--to", "hf", "--dtype", "bfloat16")[0] == 0


def test_what_does_not_fit_is_one_line(run: Run, finished: Callable[..., Path], tmp_path: Path) -> None:
    finished()
    status, out, err = run("export", "run", "out")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "model.projector is mlp, the layout has patch_merger" in err
    assert not (tmp_path / "out").exists()


def test_a_folder_of_an_unknown_layout_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "fuyu"}')
    status, _, err = run("chat", ".", "Well?")
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("error: '.' has model_type 'fuyu'; known: mistral3, ")
