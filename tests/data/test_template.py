"""Rows for a folder of pictures: what is found, what is left out, what is held out, and what is never touched."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Row
from vitrail.data.config import JsonlConfig, Reading
from vitrail.data.dialects import dialects_of, to_conversation
from vitrail.data.sources.jsonl import JsonlSource
from vitrail.data.template import (
    QUESTION,
    Template,
    TemplateConfig,
    files_in,
    held_out_rows,
    is_held_out,
    train_rows,
    write_template,
)
from vitrail.data.unanswered import check_answered
from vitrail.evaluation.answers import question
from vitrail.media import image

Paint = Callable[[Path, int, int], Path]
TWO = ("What is the total?", "What is the date?")


@pytest.fixture
def photos(tmp_path: Path, paint: Paint) -> Path:
    """Forty pictures, half of them a folder deeper."""
    folder = tmp_path / "photos"
    (folder / "march").mkdir(parents=True)
    for number in range(40):
        paint(folder / ("march" if number % 2 else "") / f"{number:02}.png", 8, 8)
    return folder


def made(folder: Path, out: str = "my.jsonl", **settings: Any) -> Template:
    return write_template(TemplateConfig(folder, folder.parent / out, **settings))


def refused(folder: Path, out: str = "my.jsonl", **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        made(folder, out, **settings)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def pictures(path: Path) -> list[str]:
    return [row["images"][0] for row in rows(path)]


def opened(path: Path) -> list[Row]:
    """Rows as a run reads them that lets them name any file; every picture must open."""
    source = JsonlSource(JsonlConfig(path, allow_outside=True))
    assert set(dialects_of(source)) == {"tags"}
    found = [source.row(index) for index in range(len(source))]
    for row in found:
        for part in to_conversation(row).media:
            image.load(part.image)
    return found


# What is written


def test_a_line_for_every_picture_with_empty_answers(photos: Path) -> None:
    template = made(photos)
    path = photos.parent / "my.jsonl"
    assert template.pictures == {path: 40}
    assert pictures(path) == sorted(pictures(path))
    assert rows(path)[0] == {
        "images": ["photos/00.png"],
        "messages": [
            {"role": "user", "content": f"<image>\n{QUESTION}"},
            {"role": "assistant", "content": ""},
        ],
    }
    assert len(opened(path)) == 40


def test_fields_are_asked_for_all_at_once(photos: Path, paint: Paint) -> None:
    made(photos, held_out=0.3, fields=("total", "date"))
    train, held_out = photos.parent / "my.jsonl", photos.parent / "my.held_out.jsonl"
    assert len(rows(train)) + len(rows(held_out)) == 40
    assert rows(train)[0] == {"images": pictures(train)[:1], "fields": {"total": "", "date": ""}}
    source = JsonlSource(JsonlConfig(held_out, allow_outside=True))
    row = source.row(0)
    with pytest.raises(DataError, match="empty answer"):
        question(row, "auto")
    with pytest.raises(DataError, match="rows unanswered"):
        check_answered(source, Reading(), None)
    written = {**rows(held_out)[0], "fields": {"total": "12.50", "date": None}}
    asked, truths = question(dataclasses.replace(row, fields=written), "auto")
    assert asked.messages[-1].text.strip() == "Give total, date as JSON."
    assert json.loads(truths[0]) == {"total": "12.50", "date": None}
    paint(photos / "new.png", 9, 9)
    assert sum(made(photos, held_out=0.3, add=True).pictures.values()) == 1
    assert all(set(row["fields"]) == {"total", "date"} for row in (*rows(train), *rows(held_out)))
    assert "not both" in refused(photos, "other.jsonl", fields=("a",), questions=("Why?",))
    assert "each its own" in refused(photos, "other.jsonl", fields=("a", "a"))


def test_another_question_comes_first_from_picture_to_picture(photos: Path) -> None:
    made(photos, questions=TWO)
    first = set()
    for row in opened(photos.parent / "my.jsonl"):
        asked = [message.text.strip() for message in to_conversation(row).messages if message.role == "user"]
        assert sorted(asked) == sorted(TWO)
        first.add(asked[0])
    assert first == set(TWO)
    assert train_rows("a.png", "b.png", TWO)[0]["messages"] == train_rows("a.png", "c.png", TWO)[0]["messages"]


def test_held_out_pictures_have_a_row_for_every_question(photos: Path) -> None:
    made(photos, held_out=0.3, questions=TWO)
    train, held_out = photos.parent / "my.jsonl", photos.parent / "my.held_out.jsonl"
    assert set(pictures(train)).isdisjoint(pictures(held_out))
    assert len(pictures(train)) + len(pictures(held_out)) // 2 == 40
    assert [row["kind"] for row in rows(held_out)] == list(TWO) * (len(rows(held_out)) // 2)
    for row in opened(held_out):
        with pytest.raises(DataError, match="empty answer"):
            question(row, "auto")
        row.fields["messages"][1]["content"] = "12.50"
        asked, truths = question(row, "auto")
        assert (asked.kind, truths) == (asked.messages[-1].text.strip(), ("12.50",))
    assert "kind" not in held_out_rows("a.png", "a.png", TWO[:1])[0]


@pytest.mark.parametrize("out", ["my.jsonl", "photos/my.jsonl", "deep/er/my.jsonl", "other name/my.jsonl"])
def test_pictures_are_named_relative_to_the_file(photos: Path, out: str) -> None:
    made(photos, out)
    assert len(opened(photos.parent / out)) == 40


def test_pictures_are_found_through_links(photos: Path, tmp_path: Path) -> None:
    """Where a folder on the way is a link, `..` leads up from where it leads to."""
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "near").symlink_to(tmp_path / "far" / "away", target_is_directory=True)
    (tmp_path / "pictures").symlink_to(photos, target_is_directory=True)
    write_template(TemplateConfig(tmp_path / "pictures", tmp_path / "near" / "my.jsonl"))
    assert len(opened(tmp_path / "near" / "my.jsonl")) == 40


def test_a_folder_that_links_back_to_itself_ends(photos: Path) -> None:
    (photos / "march" / "back").symlink_to(photos, target_is_directory=True)
    assert len(files_in(photos)) == 40


@pytest.mark.parametrize("name", ["data:image.png", "Übersicht №1.png", os.fsdecode(b"latin-\xfc.png"), "a\nb.png"])
def test_odd_names(tmp_path: Path, paint: Paint, name: str) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / name, format="PNG")
    write_template(TemplateConfig(folder, folder / "my.jsonl"))
    assert len(opened(folder / "my.jsonl")) == 1


# What is a picture


def test_every_readable_picture_is_taken_and_the_others_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    good = ["a.jpg", "b.PNG", "c.webp", "d.gif", "e.tiff", "f.bmp", "g.ppm"]
    for number, name in enumerate(good):
        noise.rotate(number).save(folder / name)
    noise.transpose(Image.Transpose.TRANSPOSE).save(folder / "h", format="PNG")
    whole = (folder / "b.PNG").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("no picture")
    Image.new("F", (4, 4)).save(folder / "float.tiff")
    Image.new("RGB", (1000, 1)).save(folder / "sliver.png")
    shutil.copy(folder / "a.jpg", folder / "copy of a.jpg")
    for name in ("scan.pdf", "notes.txt", "more.txt", "README", ".hidden.png", ".DS_Store"):
        (folder / name).write_text("something else")
    (folder / ".thumbnails").mkdir()
    noise.save(folder / ".thumbnails" / "t.png")
    template = made(folder)
    assert pictures(tmp_path / "my.jsonl") == sorted(f"photos/{name}" for name in [*good, "h"])
    assert template.others == {".pdf": 1, ".txt": 2, "without suffix": 1}
    said = "\n".join(template.left_out)
    for name, reason in (
        ("cut.png", "is damaged"),
        ("text.jpg", "is not a picture"),
        ("float.tiff", "floating-point"),
        ("sliver.png", "too narrow"),
        ("copy of a.jpg", f"is the same file as picture '{folder / 'a.jpg'}'"),
    ):
        (line,) = (line for line in template.left_out if line.startswith(f"picture '{folder / name}'"))
        assert reason in line
    assert len(said.splitlines()) == 5


# What is held out


def test_the_share_follows_from_the_names_alone() -> None:
    names = [f"march/IMG_{number}.jpg" for number in range(2000)]
    fifth = {name for name in names if is_held_out(name, 0.2)}
    assert 0.17 < len(fifth) / len(names) < 0.23
    assert fifth < {name for name in names if is_held_out(name, 0.3)}
    assert not any(is_held_out(name, 0.0) for name in names)
    # Pinned: another rule would move pictures that people have answered questions about.
    assert [number for number, name in enumerate(names[:12]) if is_held_out(name, 0.2)] == [0, 3, 7, 10]
    # One file system writes an accent as a letter of its own, another does not.
    assert [is_held_out("café.png", share / 50) for share in range(50)] == [
        is_held_out("cafe\u0301.png", share / 50) for share in range(50)
    ]


def test_more_pictures_move_none(photos: Path, paint: Paint) -> None:
    made(photos, held_out=0.3)
    before = set(pictures(photos.parent / "my.held_out.jsonl"))
    for number in range(40):
        paint(photos / f"new {number}.png", 8, 8)
    made(photos, "again.jsonl", held_out=0.3)
    after = set(pictures(photos.parent / "again.held_out.jsonl"))
    assert before == {name for name in after if "new" not in name}
    assert len(after) > len(before)


# Files that are there already


def test_nothing_is_overwritten(photos: Path) -> None:
    made(photos, held_out=0.3)
    train, held_out = photos.parent / "my.jsonl", photos.parent / "my.held_out.jsonl"
    before = train.read_bytes(), held_out.read_bytes()
    assert refused(photos) == f"'{train}' exists already; --add appends the pictures that are not in it yet"
    assert (train.read_bytes(), held_out.read_bytes()) == before
    train.unlink()
    assert f"'{held_out}' exists already" in refused(photos)
    assert not train.exists()


def test_adding_appends_what_is_new_and_keeps_the_answers(photos: Path, paint: Paint) -> None:
    train, held_out = photos.parent / "my.jsonl", photos.parent / "my.held_out.jsonl"
    made(photos, held_out=0.3, questions=TWO, add=True)
    for path in (train, held_out):
        # An editor may leave out the last newline.
        path.write_text(path.read_text().replace('"content": ""', '"content": "12.50"').rstrip("\n"))
    before = train.read_text(), held_out.read_text()
    assert made(photos, held_out=0.3, add=True).pictures == {train: 0, held_out: 0}
    assert (train.read_text(), held_out.read_text()) == before
    for number in range(40):
        paint(photos / f"new {number}.png", 8, 8)
    shutil.copy(photos / "00.png", photos / "0 copy.png")
    template = made(photos, held_out=0.3, add=True)
    assert sum(template.pictures.values()) == 40
    assert min(template.pictures.values()) > 0
    assert "is the same file as" in template.left_out[0]
    assert train.read_text().startswith(before[0] + "\n")
    assert held_out.read_text().startswith(before[1] + "\n")
    named = [*pictures(train), *pictures(held_out)[::2]]
    assert len(named) == len(set(named)) == 80
    added = rows(train)[-1]["messages"]
    assert {message["content"].removeprefix("<image>\n") for message in added[::2]} == set(TWO)
    assert {message["content"] for message in added[1::2]} == {""}


def test_adding_asks_for_the_share_again(photos: Path, paint: Paint) -> None:
    made(photos, held_out=0.3)
    held_out = photos.parent / "my.held_out.jsonl"
    assert f"'{held_out}' exists: say --held-out" in refused(photos, add=True)
    paint(photos / "new.png", 8, 8)
    assert made(photos, held_out=0.0, add=True).pictures == {photos.parent / "my.jsonl": 1}


OTHERS = {
    "broken line": ('{"images": ["a.png"]\n', ":1: not JSON"),
    "list": ('[{"images": [], "messages": [{"role": "user", "content": "What?"}]}]', "is a JSON list"),
    "openai": ('{"messages": [{"role": "user", "content": [{"type": "image", "image": "a.png"}]}]}', "dialect openai"),
    "sharegpt": ('{"image": "a.png", "conversations": [{"from": "human", "value": "What?"}]}', "dialect sharegpt"),
    "empty": ("", "has no rows"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_files_that_cannot_be_added_to(photos: Path, name: str) -> None:
    text, expected = OTHERS[name]
    path = photos.parent / "my.jsonl"
    path.write_text(text)
    assert expected in refused(photos, add=True)
    assert path.read_text() == text


# Mistakes


def test_mistakes_are_one_line_and_nothing_is_written(photos: Path) -> None:
    assert "does not exist" in refused(photos / "gone")
    assert "is not a folder" in refused(photos / "00.png", "../my.jsonl")
    assert "must end in .jsonl" in refused(photos, "my.json")
    assert "from 0 to less than 1, got 1" in refused(photos, held_out=1.0)
    assert "got nan" in refused(photos, held_out=float("nan"))
    assert "must not hold <image>" in refused(photos, questions=("<image> What?",))
    assert "a question is empty" in refused(photos, questions=(" ",))
    assert "none of 40 pictures is for" in refused(photos, held_out=0.0001)
    assert "my.jsonl'; choose another share" in refused(photos, held_out=0.9999)
    empty = photos.parent / "empty"
    empty.mkdir()
    assert refused(empty) == f"'{empty}' holds no picture"
    (empty / "a.jpg").write_text("no picture")
    (empty / "a.heic").write_text("no picture")
    said = refused(empty)
    assert "1 cannot be used, the first: picture '" in said
    assert "other files: 1 .heic" in said
    assert not list(photos.parent.rglob("*.jsonl"))


def test_a_file_that_cannot_be_written(photos: Path) -> None:
    (photos.parent / "file").write_text("")
    assert "cannot be written" in refused(photos, "file/my.jsonl")
