"""A recipe without an encoder: a language model alone is planned, verified, trained, scored and asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., tuple[int, str, str]]
TEXT = "{path: rows.jsonl, kind: jsonl}"


@pytest.fixture
def overrides(tmp_path: Path) -> list[str]:
    """Of the tiny recipe; its rows are questions without pictures."""
    rows = [
        {"messages": [{"role": "user", "content": f"{a} + {b}?"}, {"role": "assistant", "content": str(a + b)}]}
        for a in range(4)
        for b in range(4)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    stage = "[{name: only, steps: 3, train: {backbone: 1.0e-2}}]"
    return ["run=out", "model.encoder=null", f"data.train={TEXT}", f"stages={stage}"]


def test_the_whole_road(run: Run, tiny_recipe_file: Path, overrides: list[str], tmp_path: Path) -> None:
    recipe = str(tiny_recipe_file)
    status, out, err = run("plan", recipe, "--json", *overrides)
    assert status == 0, err
    planned = json.loads(out)
    assert set(planned["parameters"]) == {"backbone"}
    assert planned["stages"][0]["trainable"] == planned["parameters"]["backbone"] > 0

    status, out, err = run("show", recipe, "--at", "batch", *overrides)
    assert status == 0, err
    assert "text.ids: int64" in out
    assert "vision" not in out

    status, out, err = run("verify", recipe, *overrides)
    assert status == 0, err
    assert "no sample sees another" in out

    wanted = [
        f"data.held_out={TEXT}",
        "evaluate.max_tokens=2",
        *(f"evaluate.{name}=true" for name in ("answers", "before")),
    ]
    status, _, err = run("train", recipe, *overrides, *wanted)
    assert status == 0, err
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert results["after"]["exact_match"]["n"] == 16
    steps = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(steps) == 3
    assert steps[-1]["loss"] < steps[0]["loss"]

    status, out, err = run("chat", "out", "1 + 2?", "--max-tokens", "3")
    assert status == 0, err


def test_a_picture_is_refused_in_one_line(
    run: Run, tiny_recipe_file: Path, overrides: list[str], tmp_path: Path
) -> None:
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(tmp_path / "picture.png")
    assert run("train", str(tiny_recipe_file), *overrides)[0] == 0
    status, _, err = run("chat", "out", "picture.png", "What?")
    assert status == 2
    assert "the model has no encoder for this kind of media: image" in err
    assert len(err.strip().splitlines()) == 1
    status, _, err = run("train", str(tiny_recipe_file), *overrides, "run=two", "stages.0.train={encoder: 1.0}")
    assert status == 2
    assert "unknown component 'encoder'; known: fusion, backbone" in err


def test_an_encoder_that_is_to_see_nothing_must_be_meant(
    run: Run, tiny_recipe_file: Path, overrides: list[str], tmp_path: Path
) -> None:
    """Rows whose pictures are under a key that nobody reads train a model blind, and nothing else would say so."""
    with_encoder = [one for one in overrides if one != "model.encoder=null"]
    status, _, err = run("train", str(tiny_recipe_file), *with_encoder)
    assert status == 2
    assert err.splitlines()[-1] == (
        "error: no row has a picture, a video or a sound (rows: 0 of the first 16 rows have a picture, a video or a "
        "sound), and the model has an encoder (vision): data.allow_text_only: true trains it on text alone"
    )
    status, out, err = run("train", str(tiny_recipe_file), *with_encoder, "data.allow_text_only=true")
    assert status == 0, err
    assert "rows: 0 of the first 16 rows have a picture, a video or a sound" in out
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "a.png")
    # One at the very end, which the first rows do not show.
    rows = rows * 8 + [{**rows[0], "images": ["a.png"]}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    status, out, err = run("train", str(tiny_recipe_file), *with_encoder, "run=other")
    assert status == 0, err
    assert "rows: 1 of the first 129 rows have a picture" in out
