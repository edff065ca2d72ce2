"""From a folder of pictures to a trained model by the command line, and the page that says how."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail.recipe.read import read_recipe

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
    if line.startswith("vitrail ")
]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    chance = np.random.default_rng(0)
    for number in range(12):
        Image.fromarray(chance.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def answer(path: Path, *skipped: int) -> None:
    """Fills in every line but those, numbered from 1."""
    lines = path.read_text().splitlines()
    filled = [
        line if number in skipped else line.replace('"content": ""', '"content": "12.50"')
        for number, line in enumerate(lines, start=1)
    ]
    path.write_text("\n".join(filled) + "\n")


def template(run: Run, *more: str) -> tuple[int, str, str]:
    return run("data", "template", "photos", "my.jsonl", "--held-out", "0.3", *more)


def test_a_template_is_filled_in_and_trained_on(run: Run, photos: Path, tiny_recipe_file: Path, tmp_path: Path) -> None:
    (photos / "scan.pdf").write_text("no picture")
    (photos / "broken.jpg").write_text("no picture")
    status, out, err = template(run, "--questions", "What is the total?", "--questions", "What is the date?")
    assert status == 0
    train, held_out = tmp_path / "my.jsonl", tmp_path / "my.held_out.jsonl"
    learnt, asked = (len(path.read_text().splitlines()) for path in (train, held_out))
    assert learnt + asked / 2 == 12
    assert out.splitlines()[1:] == [f"my.jsonl: {learnt} pictures", f"my.held_out.jsonl: {asked // 2} pictures"]
    assert err.splitlines() == ["left out: picture 'photos/broken.jpg' is not a picture", "no pictures: 1 .pdf"]

    overrides = ["run=out", "data.train=my.jsonl", "data.held_out=my.held_out.jsonl", "evaluate.answers=true"]
    command = ["train", str(tiny_recipe_file), *overrides, "stages.0.steps=1", "stages.1.steps=1"]
    refusal = "error: {} of {} rows unanswered, the first is {}:{}: {}\n"
    status, _, err = run(*command, "data.max_lost=0.01")
    rule = "write the answers, or take the lines out (data.max_lost allows 1.0%)"
    assert (status, err) == (2, refusal.format(learnt, learnt, "my.jsonl", 1, rule))
    answer(train, 3)
    status, _, err = run(*command, "data.max_lost=0.01")
    assert (status, err) == (2, refusal.format(1, learnt, "my.jsonl", 3, rule))
    answer(held_out, 2)
    status, _, err = run(*command, "data.max_lost=0.5")
    rule = "every held-out row needs its answer"
    assert (status, err) == (2, refusal.format(1, asked, "my.held_out.jsonl", 2, rule))
    assert not (tmp_path / "out").exists()
    answer(held_out)
    status, out, err = run(*command, "data.max_lost=0.5", "evaluate.max_tokens=2")
    assert status == 0, err
    assert f"1 of {learnt} rows unanswered, the first is my.jsonl:3: left out" in out
    scores = json.loads((tmp_path / "out" / "results.json").read_text())["after"]
    assert set(scores["by_kind"]) == {"What is the total?", "What is the date?"}

    held_out.write_text(held_out.read_text().replace("12.50", "", 1))
    status, _, err = run("eval", "out", "--data", "my.held_out.jsonl")
    assert (status, err) == (2, refusal.format(1, asked, "my.held_out.jsonl", 1, rule))


def test_a_template_is_never_overwritten(run: Run, photos: Path, tmp_path: Path) -> None:
    assert run("data", "template", "photos")[0] == 0
    before = (tmp_path / "photos.jsonl").read_bytes()
    status, _, err = run("data", "template", "photos")
    assert (status, err.count("\n")) == (2, 1)
    assert "'photos.jsonl' exists already; --add appends" in err
    shutil.copy(photos / "0.png", photos / "copy.png")
    Image.new("RGB", (9, 9)).save(photos / "new.png")
    status, out, err = run("data", "template", "photos", "--add")
    assert (status, out.splitlines()[-1]) == (0, "photos.jsonl: 1 new picture")
    assert err == "left out: picture 'photos/copy.png' is the same file as picture 'photos/0.png'\n"
    assert (tmp_path / "photos.jsonl").read_bytes().startswith(before)


# The page


def test_the_page_has_the_road() -> None:
    verbs = [command[1] for command in COMMANDS]
    for verb in ("data", "show", "plan", "train", "chat", "export"):
        assert verb in verbs


@pytest.mark.parametrize("command", [one for one in COMMANDS if "recipes/quickstart.yaml" in one], ids=" ".join)
def test_recipes_of_the_page_are_read(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert read_recipe("recipes/quickstart.yaml", [word for word in command[3:] if "=" in word]).value.stages


def test_the_template_of_the_page_is_the_one_that_is_written(run: Run, photos: Path, tmp_path: Path) -> None:
    (command,) = (one for one in COMMANDS if one[1:3] == ["data", "template"])
    assert run(*command[1:])[0] == 0
    (shown,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    lines = (tmp_path / "my.jsonl").read_text().splitlines()
    assert shown.strip() in [re.sub(r"photos/\d+\.png", "photos/0412.jpg", line) for line in lines]
    (added,) = re.findall(r"`vitrail (data template [^`]*--add)`", PAGE)
    Image.new("RGB", (9, 9)).save(photos / "new.png")
    status, out, _ = run(*added.split())
    assert status == 0
    assert "1 new picture\n" in out


def test_the_refusal_of_the_page_is_the_one_that_is_said(run: Run, photos: Path, tiny_recipe_file: Path) -> None:
    assert template(run)[0] == 0
    _, _, err = run("train", str(tiny_recipe_file), "run=out", "data.train=my.jsonl", "data.max_lost=0.01")
    (shown,) = re.findall(r"^error: .*\n", PAGE, re.MULTILINE)
    assert re.sub(r"\d+ of \d+", "12 of 160", err).replace("my.jsonl:1:", "my.jsonl:17:") == shown
