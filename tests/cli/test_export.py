"""`vitrail export`, and official folders where a run's is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import Mistral3ForConditionalGeneration

from vitrail import build
from vitrail.cli.main import main
from vitrail.recipe.read import read_recipe

Verb = Callable[..., tuple[int, str, str]]


@pytest.fixture
def verb(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Verb:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VITRAIL_DEBUG", raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vitrail", *arguments])
        status = 0
        try:
            main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def finished(tiny_recipe_text: str, tmp_path: Path) -> Callable[..., None]:
    """Writes `run/weights` of the tiny recipe with overrides."""

    def write(*overrides: str) -> None:
        path = tmp_path / "recipe.yaml"
        path.write_text(tiny_recipe_text, encoding="utf-8")
        recipe = read_recipe(str(path), list(overrides)).value
        tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
        model = build.build_model(recipe.model, tokenizer.vocabulary, seed=0)
        encode = build.build_encode(recipe.model, recipe.prompt, tokenizer)
        build.save_weights(model, encode, recipe.model, recipe.prompt, tmp_path / "run" / "weights")

    return write


def test_a_run_is_exported_and_talked_to(verb: Verb, finished: Callable[..., None], tmp_path: Path) -> None:
    finished(
        "model.projector={kind: patch_merger}",
        "model.backbone.config.rms_norm_eps=1e-5",
        "prompt.picture={token: <|at|>, row_break: <|row|>, end: <|done|>}",
    )
    assert verb("export", "run", "out") == (0, "out: Mistral3ForConditionalGeneration\n", "")
    assert Mistral3ForConditionalGeneration.from_pretrained(tmp_path / "out")
    asked = ("Well?", "--max-tokens", "4", "--temperature", "1", "--device", "cpu")
    assert verb("chat", "out", *asked) == verb("chat", "run", *asked)
    status, _, err = verb("export", "run", "out", "--dtype", "bfloat16")
    assert (status, err) == (2, "error: 'out' exists already and is not empty; choose another\n")
    assert verb("export", "out/", "again", "--to", "hf", "--dtype", "bfloat16")[0] == 0


def test_what_does_not_fit_is_one_line(verb: Verb, finished: Callable[..., None], tmp_path: Path) -> None:
    finished()
    status, out, err = verb("export", "run", "out")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "model.projector is mlp, the layout has patch_merger" in err
    assert not (tmp_path / "out").exists()


def test_a_folder_of_an_unknown_layout_is_one_line(verb: Verb, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    status, _, err = verb("chat", ".", "Well?")
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("error: '.' has model_type 'llava'; known: mistral3, ")
