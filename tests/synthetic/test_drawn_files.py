"""Drawn data around the pictures: bundled fonts and their licences, settings and their errors, the written folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFont

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import AudioPart
from vitrail.data.dialects import to_conversation
from vitrail.data.sources.config import JsonlConfig
from vitrail.data.sources.jsonl import JsonlSource
from vitrail.media import audio
from vitrail.synthetic.config import DrawnConfig
from vitrail.synthetic.export import MARK, export
from vitrail.synthetic.source import DrawnSource
from vitrail.synthetic.speech.config import SpokenConfig
from vitrail.synthetic.speech.source import SpokenSource
from vitrail.synthetic.typefaces import DOCUMENT_TYPEFACES, FOLDER, TYPEFACES, reading_typefaces, typefaces


def test_every_font_has_its_licence_and_its_line() -> None:
    faces = TYPEFACES + DOCUMENT_TYPEFACES
    files = sorted(FOLDER.glob("*.ttf"))
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [path.stem for path in files] == sorted(face.name for face in faces)
    for face in faces:
        licence = (FOLDER / f"{face.name}.LICENSE.txt").read_text(encoding="utf-8")
        assert "SIL OPEN FONT LICENSE" in licence
        assert "reserved font name" not in licence.split("-----")[0].lower()
        (line,) = [line for line in readme.splitlines() if f"| {face.name}.ttf |" in line]
        assert line.endswith(f"| {face.split} |")
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 2_000_000


def test_no_family_is_in_both_splits() -> None:
    train, test = ({face.name.split("-")[0] for face in reading_typefaces(split)} for split in ("train", "test"))
    assert not train & test


@pytest.mark.parametrize("split", ["train", "test"])
def test_documents_have_more_fonts_than_shapes(split: str) -> None:
    shapes, documents = typefaces(split), reading_typefaces(split)
    assert documents[: len(shapes)] == shapes
    assert len(documents) > len(shapes)
    assert {face.split for face in documents} == {split}


def test_every_font_has_every_character_and_says_how_high_its_capitals_are() -> None:
    written = [chr(code) for code in range(0x21, 0x7F)] + list("£€¥°×÷–—…•±§©")  # noqa: RUF001
    for face in TYPEFACES + DOCUMENT_TYPEFACES:
        font = ImageFont.truetype(str(face.path), 200, layout_engine=ImageFont.Layout.BASIC)
        absent = bytes(font.getmask("\u4e2d"))
        assert [sign for sign in written if bytes(font.getmask(sign)) == absent] == [], face.name
        _, top, _, bottom = font.getbbox("H")
        assert abs((bottom - top) / 200 - face.cap) < 0.03, face.name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"split": "tset"}, "did you mean 'test'"),
        ({"rows": -1}, "rows is -1"),
        ({"size": (64, 72)}, "multiple of 16"),
        ({"size": (128, 64)}, "smallest and largest"),
        ({"size": (32, 64)}, "from 64 to 128"),
        ({"questions": 0, "caption": False}, "questions is 0"),
        ({"kinds": ("color",)}, "did you mean 'colour'"),
        ({"kinds": ("word", "word")}, "twice"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        DrawnConfig(**values)
    assert "\n" not in str(caught.value)


def test_settings_import_neither_torch_nor_numpy() -> None:
    code = "import sys, vitrail.synthetic.config; sys.exit(bool({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0


def test_an_index_past_the_end_is_refused() -> None:
    source = DrawnSource(DrawnConfig(rows=3))
    assert len(source) == 3
    for index in (-1, 3):
        with pytest.raises(IndexError):
            source.row(index)


def test_export_writes_both_splits_and_overwrites_its_own(tmp_path: Path) -> None:
    out = tmp_path / "drawn"
    done: list[int] = []
    for split, rows in (("train", 6), ("test", 4), ("train", 3)):
        config = DrawnConfig(split=split, rows=rows, size=(64, 96))
        path = export(config, out, done.append)
        assert path == out / f"{split}.jsonl"
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert len(records) == rows
        for index, record in enumerate(records):
            row = DrawnSource(config).row(index)
            facts = {name: row.fields[name] for name in row.facts}
            said = {name: value for name, value in row.fields.items() if name not in facts}
            assert facts
            assert record == {"id": row.id, **said, "images": [f"images/{row.id}.png"], "metadata": facts}
            assert np.array_equal(np.asarray(Image.open(out / record["images"][0])), row.fields["images"][0])
    assert done == [*range(1, 7), *range(1, 5), *range(1, 4)]
    assert len(list((out / "images").iterdir())) == 4 + 3
    assert {path.name for path in out.iterdir()} == {"train.jsonl", "test.jsonl", "images", MARK}


def test_export_leaves_other_peoples_folders_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="holds other files"):
        export(DrawnConfig(rows=1), tmp_path)
    with pytest.raises(DataError, match="not a folder"):
        export(DrawnConfig(rows=1), tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_spoken_words_are_written_as_files_that_are_read(tmp_path: Path) -> None:
    config = SpokenConfig(split="test", rows=3)
    path = export(config, tmp_path / "out")
    source, spoken = JsonlSource(JsonlConfig(path)), SpokenSource(config)
    assert len(source) == 3
    for index in range(3):
        row, there = source.row(index), spoken.row(index)
        read = {**row.fields, **row.fields["metadata"]}
        assert {**read, "audios": 0, "id": 0, "metadata": 0} == {**there.fields, "audios": 0, "id": 0, "metadata": 0}
        (sound,) = to_conversation(row).media
        assert isinstance(sound, AudioPart)
        np.testing.assert_allclose(audio.load(sound, 16_000), there.fields["audios"][0].audio, atol=2**-14)
