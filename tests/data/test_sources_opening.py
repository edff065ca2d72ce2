"""Every kind of source as a recipe names it: opened, with the dialect of its first rows."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet as pq

from vitrail import build
from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Row
from vitrail.data.config import SourceConfig
from vitrail.data.dialects import dialects_of, to_conversation
from vitrail.data.sources.config import JsonlConfig, Reading
from vitrail.data.sources.opening import open_source
from vitrail.recipe.read import read_recipe


def png() -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (8, 8)).save(written, "PNG")
    return written.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The same two captions in every kind of file."""
    said = ["An ant.", "A bird."]
    (tmp_path / "pictures").mkdir()
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for number, text in enumerate(said):
            (tmp_path / "pictures" / f"{number}.png").write_bytes(png())
            (tmp_path / "pictures" / f"{number}.txt").write_text(text)
            for ending in ("png", "txt"):
                tar.add(tmp_path / "pictures" / f"{number}.{ending}", f"{number}.{ending}")
    rows = [{"image": f"pictures/{number}.png", "text": text} for number, text in enumerate(said)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(
        pa.Table.from_pylist([{"image": {"bytes": png()}, "text": text} for text in said]), tmp_path / "a.parquet"
    )
    return tmp_path


@pytest.mark.parametrize(
    "source",
    [
        "{kind: jsonl, path: a.jsonl}",
        "{kind: parquet, path: a.parquet}",
        "{kind: folder, path: pictures}",
        "{kind: webdataset, path: a.tar}",
        "{kind: hub, path: a.parquet}",
        "{kind: hub, path: a.tar, rows: 2}",
        "{kind: hub, path: a.jsonl, pictures: .}",
    ],
)
def test_every_kind_in_a_recipe(folder: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    Path("mine.yaml").write_text(f"extends: demo\nrun: runs/mine\ndata:\n  train: {source}\n")
    config = read_recipe("mine.yaml", ()).value.data.train
    opened, reading = build.build_source(config)  # type: ignore[arg-type]
    assert reading == Reading()
    assert set(dialects_of(opened)) == {"caption"}
    found: list[Row | DataError]
    if hasattr(opened, "row"):
        found = [opened.row(index) for index in range(len(opened))]
    else:
        found = [row for row, _ in opened.rows(0, None)]
    conversations = [to_conversation(row, reading) for row in found if isinstance(row, Row)]
    assert [conversation.messages[1].text for conversation in conversations] == ["An ant.", "A bird."]
    for conversation in conversations:
        (picture,) = conversation.media
        held = picture.image.read_bytes() if isinstance(picture.image, Path) else picture.image
        assert held == png()


def test_a_named_dialect_is_taken_at_its_word(folder: Path) -> None:
    source, reading = open_source(JsonlConfig(folder / "a.jsonl", dialect="vqa"))
    assert reading == Reading("vqa")
    with pytest.raises(DataError, match=r"a\.jsonl:1: no 'question' in the row .*An ant"):
        to_conversation(source.row(0), reading)  # type: ignore[union-attr]


def test_a_source_in_no_dialect_shows_its_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"picture": "a.png", "says": "x"}\n')
    with pytest.raises(DataError) as caught:
        open_source(JsonlConfig(tmp_path / "a.jsonl"))
    assert 'a.jsonl:1: no dialect fits the row {"picture": "a.png", "says": "x"}' in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("parquet", "reading .parquet and .arrow files needs"),
        ("hub", "streaming a data set needs"),
    ],
)
def test_a_library_that_is_missing_is_one_line(folder: Path, kind: str, said: str) -> None:
    script = f"""
import sys
from pathlib import Path
sys.modules["pyarrow"] = sys.modules["datasets"] = None
from vitrail.contracts.errors import MissingExtraError
from vitrail.data.sources.config import HubConfig, ParquetConfig
from vitrail.data.sources.opening import open_source
path = {str(folder / "a.parquet")!r}
try:
    open_source(ParquetConfig(Path(path)) if {kind!r} == "parquet" else HubConfig(path))
except MissingExtraError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == f"{said} the datasets and pyarrow packages: pip install 'vitrail[data]'\n"


def test_rows_are_counted_from_zero_up() -> None:
    from vitrail.data.sources import config

    for kind in ("JsonlConfig", "ParquetConfig", "FolderConfig", "WebDatasetConfig", "HubConfig"):
        with pytest.raises(ValueError, match="rows must be 0"):
            getattr(config, kind)("x", rows=-1)
    assert SourceConfig
