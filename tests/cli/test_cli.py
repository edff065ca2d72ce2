"""The command line as a user meets it: verbs that work, and mistakes that are one line each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail.metrics.calibration import Calibration

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(path)
    return path


def row(answer: str = "red", image: str = "picture.png", tags: int = 1) -> dict[str, object]:
    said = [{"role": "user", "content": "<image>" * tags + "What?"}, {"role": "assistant", "content": answer}]
    return {"images": [image], "messages": said}


def write(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return path


def test_help_names_every_verb(run: Run) -> None:
    status, out, _ = run("--help")
    assert status == 0
    for verb in ("plan", "train", "chat", "eval", "show", "verify", "recipes", "data", "env"):
        assert verb in out


def test_recipes_are_listed_and_copied_once(run: Run, tmp_path: Path) -> None:
    assert "demo" in run("recipes", "list")[1]
    assert run("recipes", "copy", "demo", "mine.yaml")[0] == 0
    assert (tmp_path / "mine.yaml").read_text().startswith("#")
    status, _, err = run("recipes", "copy", "demo", "mine.yaml")
    assert status == 2
    assert "exists already" in err


def test_drawing_writes_rows_that_train_as_ones_own(run: Run, tmp_path: Path) -> None:
    status, _, _ = run("data", "draw", "drawn", "--rows", "5")
    assert status == 0
    assert len((tmp_path / "drawn" / "train.jsonl").read_text().splitlines()) == 5
    status, out, _ = run("show", "demo", "--at", "sample", "data.train=drawn/train.jsonl")
    assert status == 0
    assert "[vision 64 x 64 px" in out


def test_a_page_is_read(run: Run, tmp_path: Path) -> None:
    run("data", "draw", "drawn", "--what", "documents", "--document", "notice", "--rows", "1", "--split", "test")
    (picture,) = (tmp_path / "drawn" / "images").iterdir()
    status, read, _ = run("data", "read", str(picture))
    assert status == 0
    status, listed, _ = run("data", "read", str(picture), "--json")
    lines = json.loads(listed)["lines"]
    assert [line["text"] for line in lines] == [piece for row in read.splitlines() for piece in row.split("  ")]
    assert all(0 <= edge <= 1 for line in lines for edge in line["box"])
    status, _, said = run("data", "read", str(picture), "--source", "wheel:no_such_wheel")
    assert (status, said.count("\n")) == (2, 1)
    assert "pip install --no-deps no-such-wheel" in said


@pytest.mark.parametrize("hop", ["row", "conversation", "sample", "pack", "batch", "terms"])
def test_show_prints_every_hop(run: Run, tiny_recipe_file: Path, hop: str) -> None:
    status, out, _ = run("show", str(tiny_recipe_file), "--at", hop)
    assert status == 0
    assert hop in out or "next_token" in out


@pytest.mark.usefixtures("quick_plan")
def test_plan_counts_what_is_built(run: Run, tiny_recipe_file: Path) -> None:
    status, out, _ = run("plan", str(tiny_recipe_file), "--json", "--size", "64x48")
    assert status == 0
    planned = json.loads(out)
    from vitrail import build
    from vitrail.recipe.read import read_recipe

    recipe = read_recipe(str(tiny_recipe_file)).value
    vocabulary = build.build_tokenizer(recipe.model.backbone, recipe.prompt).vocabulary
    model = build.build_model(recipe.model, vocabulary, 0)
    counted = {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}
    assert planned["parameters"] == {name: count for name, count in counted.items() if count}
    assert planned["stages"][0]["trainable"] == counted["projector"]
    assert planned["tokens_of_picture"] == {"64x48": 4 * 3}


def test_the_whole_road(run: Run, tiny_recipe_file: Path, picture: Path, tmp_path: Path) -> None:
    overrides = ["run=out", "data.held_out={kind: drawn, split: test, rows: 9}", "evaluate.max_tokens=4"]
    wanted = [f"evaluate.{name}=true" for name in ("answers", "losses", "before", "blind")]
    status, _, err = run("train", str(tiny_recipe_file), *overrides, *wanted)
    assert status == 0, err
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    for which in ("before", "after", "blind"):
        assert set(results[which]["exact_match"]) == {"value", "low", "high", "n"}
        assert results[which]["exact_match"]["n"] == 8
        assert results[which]["box_iou"]["n"] == 1
        assert results[which]["by_kind"]["colour"]["exact_match"]["n"] == 1
    assert set(results["losses"]) == {"right", "shuffled", "withheld"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<figure") >= 9 or page.count("data:image/png") >= 9
    assert (tmp_path / "out" / "ledger.jsonl").is_file()

    status, out, _ = run("train", str(tiny_recipe_file), *overrides, *wanted)
    assert status == 0
    assert "already done" in out
    status, _, err = run("train", str(tiny_recipe_file), *overrides, "stages.0.steps=6")
    assert status == 2
    assert "another recipe" in err
    assert "stages.0.steps: 5 -> 6" in err

    status, out, _ = run("chat", "out", str(picture), "What?", "--max-tokens", "3")
    assert status == 0
    status, out, _ = run("eval", "out", "--json", "--rows", "2", "--max-tokens", "2")
    assert status == 0
    assert json.loads(out)["exact_match"]["n"] == 2


def test_a_conversation_goes_on_after_a_bad_picture(
    run: Run, tiny_recipe_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("train", str(tiny_recipe_file), "run=out")
    lines = iter(["/picture gone.png", "What?", "And now?", "/quit"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    status, _, err = run("chat", "out", "--max-tokens", "2")
    assert status == 0
    assert "gone.png" in err


MISTAKES = {
    "unknown key": (["stages.0.stps=5"], "did you mean 'steps'"),
    "missing data": (["data.train=gone.jsonl"], "gone.jsonl' does not exist"),
    "unknown template": (["prompt.template=chtml"], "did you mean 'chatml'"),
    "unknown component": (["stages.0.train={encodr: 1e-3}"], "did you mean 'encoder'"),
    "no such class": (["model.encoder={kind: 'no.such:Thing'}"], "cannot load 'no.such:Thing'"),
    "no such device": (["training.device=cuda"], "'cuda' is not available"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_a_recipe_is_one_line(run: Run, tiny_recipe_file: Path, name: str) -> None:
    overrides, expected = MISTAKES[name]
    status, _, err = run("train", str(tiny_recipe_file), "run=out", *overrides)
    assert status == 2
    assert expected in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err


BAD_ROWS = {
    "missing picture": (row(image="gone.png"), "gone.png' does not exist"),
    "not a picture": (row(image="mine.jsonl"), "is not a picture"),
    "more tags than pictures": (row(tags=2), "2 <image> tags but 1 pictures"),
    "no answer": ({"images": ["picture.png"], "messages": [{"role": "user", "content": "What?"}]}, "no assistant turn"),
    "too long": (row(answer="x" * 500), "a pack holds 280"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_one_line_with_its_location(
    run: Run, tiny_recipe_file: Path, picture: Path, tmp_path: Path, name: str
) -> None:
    bad, expected = BAD_ROWS[name]
    write(tmp_path / "mine.jsonl", row(), bad)
    overrides = ["run=out", "data.train=mine.jsonl", "data.max_lost=0.1"]
    status, _, err = run("train", str(tiny_recipe_file), *overrides)
    assert status == 2
    assert expected in err
    assert "mine.jsonl:2" in err
    assert "1 of 2 rows lost" in err
    assert len(err.strip().splitlines()) == 1


def test_chat_mistakes_are_one_line(run: Run, picture: Path) -> None:
    for arguments, expected in (
        (("gone", "What?"), "holds no finished model"),
        (("gone", "gone.png", "What?"), "gone.png' does not exist"),
    ):
        status, _, err = run("chat", *arguments)
        assert status == 2
        assert expected in err
        assert len(err.strip().splitlines()) == 1


def test_an_unsure_answer_says_so(
    run: Run, picture: Path, finished_run: Callable[..., Path], tiny_recipe_text: str
) -> None:
    folder = finished_run(tiny_recipe_text)
    asked = ("chat", str(folder), str(picture), "What?", "--max-tokens", "3")
    _, said, err = run(*asked)
    assert err == ""
    for shift, expected in ((-50.0, "(not sure: of such answers 0% were right)\n"), (50.0, "")):
        Calibration(0.0, shift).write(folder / "weights")
        assert run(*asked) == (0, said, expected)


def test_debug_shows_the_trace_wherever_it_stands(run: Run) -> None:
    with pytest.raises(Exception, match="no recipe 'nothing'"):
        run("train", "nothing", "--debug")
