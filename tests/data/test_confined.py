"""Pictures that rows name lie in the folder of their source, whatever way out a row tries, unless a recipe says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from vitrail.contracts.errors import MediaError
from vitrail.contracts.messages import ImagePart, Row
from vitrail.data.dialects import to_conversation
from vitrail.data.sources.config import (
    FilesConfig,
    FolderConfig,
    HubConfig,
    JsonlConfig,
    ParquetConfig,
    WebDatasetConfig,
)
from vitrail.data.sources.opening import open_source
from vitrail.inference.chat_model import conversation

Config = Callable[..., FilesConfig]


def png() -> bytes:
    out = BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """`data`, with a picture in it, and one beside it that is nobody's business."""
    for folder in ("data/photos", "private"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "data" / "photos" / "in.png").write_bytes(png())
    (tmp_path / "private" / "out.png").write_bytes(png())
    (tmp_path / "data" / "photos" / "link.png").symlink_to(tmp_path / "private" / "out.png")
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "private")
    (tmp_path / "data" / "photos" / "near.png").symlink_to(tmp_path / "data" / "photos" / "in.png")
    return tmp_path / "data"


def row_of(picture: str, field: str = "image") -> dict[str, Any]:
    talk = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    return {field: picture, "messages": talk}


def first(config: FilesConfig) -> ImagePart:
    """The picture of a source's first row."""
    source, dialect = open_source(config)
    rows: Iterator[Any] = (row for row, _ in source.rows(0, None)) if hasattr(source, "rows") else iter([source.row(0)])
    found = to_conversation(next(rows), dialect).media[0]
    assert isinstance(found, ImagePart)
    return found


def jsonl(data: Path, picture: str, **settings: Any) -> JsonlConfig:
    path = data / "rows.jsonl"
    path.write_text(json.dumps(row_of(picture)) + "\n", encoding="utf-8")
    return JsonlConfig(path, **settings)


WAYS_OUT = {
    "absolute": "{outer}/private/out.png",
    "file": "file://{outer}/private/out.png",
    "up": "../private/out.png",
    "down and up": "photos/../../private/out.png",
    "a link": "photos/link.png",
    "a linked folder": "linked/out.png",
    "absolute, by a link": "{outer}/data/photos/link.png",
    "nothing there": "/nowhere/at/all.png",
    "a neighbour whose name begins alike": "{outer}/data2/out.png",
}


@pytest.mark.parametrize("way", WAYS_OUT.values(), ids=WAYS_OUT.keys())
def test_every_way_out_is_refused(way: str, data: Path) -> None:
    named = way.format(outer=data.parent)
    config = jsonl(data, named)
    with pytest.raises(MediaError) as raised:
        first(config)
    said = str(raised.value)
    assert said.startswith(f"{data / 'rows.jsonl'}:1: ")
    assert "lies outside" in said
    assert "`pictures:`" in said
    assert "`allow_outside: true`" in said
    assert "\n" not in said
    assert first(jsonl(data, named, allow_outside=True)).image


@pytest.mark.parametrize(
    "inside", ["photos/in.png", "photos/near.png", "{data}/photos/in.png", "linked/../photos/in.png"]
)
def test_what_is_inside_is_read(inside: str, data: Path) -> None:
    """By relative paths, by absolute ones as LLaVA's files have them, and by links that stay."""
    if ".." in inside:
        (data / "linked").unlink()
        (data / "linked").symlink_to(data / "photos")
    assert Path(str(first(jsonl(data, inside.format(data=data))).image)).resolve() == data / "photos" / "in.png"


def test_the_folder_that_pictures_names_is_the_one(data: Path) -> None:
    """Absolute paths into it too: what a file of LLaVA's needs whose pictures lie on another disk."""
    outer = data.parent / "private"
    assert first(jsonl(data, f"{outer}/out.png", pictures=outer))
    with pytest.raises(MediaError, match="lies outside"):
        first(jsonl(data, f"{data}/photos/in.png", pictures=outer))


def test_a_folder_that_is_itself_a_link(data: Path) -> None:
    (data.parent / "other").symlink_to(data)
    jsonl(data, "photos/in.png")
    assert first(JsonlConfig(data.parent / "other" / "rows.jsonl"))
    jsonl(data, f"{data}/photos/in.png")
    assert first(JsonlConfig(data.parent / "other" / "rows.jsonl"))


def test_a_folder_is_looked_up_from_where_the_program_is(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`rows.jsonl` is read in two working directories, one after the other."""
    for folder in (data, data.parent / "private"):
        monkeypatch.chdir(folder)
        (picture,) = folder.glob("**/[io]*.png")
        jsonl(folder, str(picture.relative_to(folder)))
        assert first(JsonlConfig(Path("rows.jsonl"))).image


def test_so_are_videos_and_parts_of_messages(data: Path) -> None:
    path = data / "rows.jsonl"
    parts = [{"type": "video", "video": "../private/out.mp4"}, {"type": "text", "text": "Why?"}]
    talk = [{"role": "user", "content": parts}, {"role": "assistant", "content": "So."}]
    path.write_text(json.dumps({"messages": talk}) + "\n", encoding="utf-8")
    with pytest.raises(MediaError, match=r"out\.mp4' lies outside"):
        first(JsonlConfig(path))


def tar(data: Path, picture: str, **settings: Any) -> WebDatasetConfig:
    import tarfile

    with tarfile.open(data / "rows.tar", "w") as file:
        text = json.dumps(row_of(picture)).encode()
        member = tarfile.TarInfo("0.json")
        member.size = len(text)
        file.addfile(member, BytesIO(text))
    return WebDatasetConfig(data / "rows.tar", **settings)


def table(data: Path, picture: str, **settings: Any) -> ParquetConfig:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(arrow.Table.from_pylist([row_of(picture)]), data / "rows.parquet")
    return ParquetConfig(data / "rows.parquet", **settings)


def described(data: Path, picture: str, **settings: Any) -> FolderConfig:
    (data / "metadata.jsonl").write_text(json.dumps({"file_name": picture, "text": "A cup."}) + "\n", encoding="utf-8")
    return FolderConfig(data, **settings)


def hub(data: Path, picture: str, **settings: Any) -> HubConfig:
    pytest.importorskip("datasets")
    jsonl(data, picture)
    return HubConfig(str(data / "rows.jsonl"), **settings)


KINDS: dict[type, Config] = {
    JsonlConfig: jsonl,
    WebDatasetConfig: tar,
    ParquetConfig: table,
    FolderConfig: described,
    HubConfig: hub,
}


@pytest.mark.parametrize("kind", get_args(FilesConfig))
def test_every_kind_of_source_is_confined(kind: type, data: Path) -> None:
    """One that is new must be added here."""
    make = KINDS[kind]
    outside = str(data.parent / "private" / "out.png")
    with pytest.raises(MediaError, match="allow_outside: true"):
        first(make(data, outside))
    assert first(make(data, outside, allow_outside=True)).image


def test_rows_of_the_hub_name_no_file_of_this_machine(data: Path) -> None:
    with pytest.raises(MediaError, match="is a file of this machine"):
        first(hub(data, "photos/in.png"))
    assert first(hub(data, "photos/in.png", pictures=data)).image


def test_captions_beside_pictures_do_not_lead_out(data: Path) -> None:
    """What they say would be learnt."""
    (data.parent / "private" / "secret.txt").write_text("A secret.", encoding="utf-8")
    (data / "photos" / "link.png").unlink()
    (data / "photos" / "near.png").unlink()
    (data / "photos" / "in.txt").symlink_to(data.parent / "private" / "secret.txt")
    with pytest.raises(MediaError, match="lies outside"):
        open_source(FolderConfig(data / "photos"))
    source, _ = open_source(FolderConfig(data / "photos", allow_outside=True))
    assert source.row(0).fields["text"] == "A secret."  # type: ignore[union-attr]


def test_whoever_calls_names_what_he_likes(data: Path) -> None:
    """Messages of a caller's own program are his own; rows that somebody else wrote are not."""
    outside = str(data.parent / "private" / "out.png")
    parts = [{"type": "image", "image": outside}, {"type": "text", "text": "Why?"}]
    assert conversation([[{"role": "user", "content": parts}]]).media
    assert not Row("a", {}).confined
