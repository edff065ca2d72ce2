"""`vitrail data check` as a user meets it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def check(run: Run, tmp_path: Path) -> Run:
    """Runs `vitrail data check` in a folder with a file of three rows, the last of which has no picture."""
    rows = []
    for name in ("a", "b", "gone"):
        said = [{"role": "user", "content": "<image>What [bold]?"}, {"role": "assistant", "content": name}]
        rows.append({"id": name, "images": [f"{name}.png"], "messages": said})
    for number, name in enumerate(("a", "b")):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 60, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    (tmp_path / "my.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    return functools.partial(run, "data", "check")


def test_a_file_is_summed_up(check: Run) -> None:
    status, out, err = check("my.jsonl")
    assert (status, err) == (0, "")
    assert "3: 2 used, 1 unreadable" in out
    assert "tags (3)" in out
    assert "3 of 3 rows have a picture, a video or a sound" in out
    assert "my.jsonl:3: picture 'gone.png' does not exist" in out
    assert "no recipe is given" in out


def test_strict_fails_for_what_cannot_be_read(check: Run) -> None:
    assert check("my.jsonl", "--strict")[0] == 1
    assert check("my.jsonl", "--strict", "--rows", "2")[0] == 0


def test_json_is_all_that_is_printed(check: Run) -> None:
    status, out, _ = check("my.jsonl", "--json", "--held-out", "my.jsonl")
    assert status == 0
    found = json.loads(out)
    assert found["outcomes"] == {"used": 4, "unreadable": 2}
    assert found["leaked"]["count"] == 2
    assert found["width"]["most"] == 60
    assert found["sources"]["my"]["total"] == 3
    assert 0 < found["mask_share"] < 1


def test_a_recipe_measures(check: Run, tiny_recipe_file: Path, tmp_path: Path) -> None:
    status, out, _ = check(
        "my.jsonl", "data.pack.length=75", "--recipe", str(tiny_recipe_file), "--html", "out/page.html"
    )
    assert status == 0
    assert "A pack holds 75 tokens" in out
    assert (tmp_path / "out" / "page.html").read_text(encoding="utf-8").count("data:image/png") == 2
    status, out, _ = check("data.train=my.jsonl", "--recipe", str(tiny_recipe_file))
    assert status == 0
    assert "3: 2 used, 1 unreadable" in out
    assert "tags (3)" in out
    assert "3 of 3 rows have a picture, a video or a sound" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nothing to check"),
        (("nowhere.jsonl",), "does not exist"),
        (("my.jsonl", "seed=1"), "none is given: add --recipe"),
        (("{kind: drawm}",), "did you mean 'drawn'"),
        (("my.jsonl", "--recipe", "demmo"), "did you mean"),
    ],
)
def test_mistakes_are_one_line(check: Run, arguments: tuple[str, ...], said: str) -> None:
    status, _, err = check(*arguments)
    assert status == 2
    assert said in err
    assert err.count("\n") == 1
