"""Tar files of pictures, texts and records: rows by number, whatever the layout of their headers."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import ImagePart
from vitrail.data.dialects import dialects_of, to_conversation
from vitrail.data.sources.config import Reading, WebDatasetConfig
from vitrail.data.sources.webdataset import WebDatasetSource

PNG = b"\x89PNG..."
Members = Sequence[tuple[str, bytes]]


def write(path: Path, members: Members, layout: int = tarfile.DEFAULT_FORMAT) -> Path:
    with tarfile.open(path, "w", format=layout) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if name.endswith("/"):
                info.type = tarfile.DIRTYPE
            tar.addfile(info, io.BytesIO(content))
    return path


def opened(path: Path, members: Members, **settings: Any) -> WebDatasetSource:
    return WebDatasetSource(WebDatasetConfig(write(path, members), **settings))


def read(path: Path, index: int | None) -> None:
    source = WebDatasetSource(WebDatasetConfig(path))
    if index is not None:
        source.row(index)


def refusal(path: Path, index: int | None = None) -> str:
    with pytest.raises(DataError) as caught:
        read(path, index)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def test_neighbours_of_one_stem_are_a_row(tmp_path: Path) -> None:
    members = [
        ("./", b""),
        ("./0001.jpg", PNG),
        ("./0001.txt", b" A caption.\n"),
        ("._0001.txt", b"hidden"),
        ("b/0002.PNG", PNG + b"2"),
        ("b/0002.json", json.dumps({"id": 7, "image": "gone.png", "conversations": []}).encode()),
        ("0003.1.png", b"second"),
        ("0003.0.png", b"first"),
        ("0003.texts.json", json.dumps({"texts": [{"user": "u", "assistant": "a"}]}).encode()),
        ("0003.cls", b"5"),
    ]
    path = tmp_path / "shard-000.tar"
    source = opened(path, members)
    assert (len(source), source.block, source.name) == (3, 16, "shard-000")
    first, second, third = (source.row(index) for index in range(3))
    assert (first.id, first.location) == ("shard-000/0001", f"{path}: 0001")
    assert first.fields == {"image": PNG, "text": "A caption."}
    assert (second.id, second.location) == ("7", f"{path}: b/0002")
    assert second.fields == {"id": 7, "image": PNG + b"2", "conversations": []}
    assert third.fields == {
        "images": [b"first", b"second"],
        "texts": [{"user": "u", "assistant": "a"}],
        "cls": b"5",
    }
    assert set(dialects_of(opened(path, members[1:3]))) == {"caption"}
    assert to_conversation(first, "caption").media == (ImagePart(PNG),)
    assert to_conversation(third, Reading(ignore_keys=("cls",))).media == (ImagePart(b"first"), ImagePart(b"second"))


@settings(max_examples=40, deadline=None)
@given(
    shards=st.lists(st.lists(st.binary(max_size=2000), max_size=8), min_size=1, max_size=3),
    layout=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    long=st.booleans(),
    most=st.integers(0, 12),
    data=st.data(),
)
def test_rows_come_by_number_in_any_order(
    shards: list[list[bytes]], layout: int, long: bool, most: int, data: st.DataObject
) -> None:
    wanted = [(number, content) for number, content in enumerate(content for shard in shards for content in shard)]
    # Names beyond 100 letters have headers of their own in two of the layouts.
    stem = "a/" * 20 + ("é" * 80 if long and layout != tarfile.USTAR_FORMAT else "x")
    with TemporaryDirectory() as folder:
        number = 0
        for shard_index, shard in enumerate(shards):
            members = []
            for content in shard:
                members += [(f"{stem}{number}.jpg", content), (f"{stem}{number}.txt", str(number).encode())]
                number += 1
            write(Path(folder) / f"{shard_index}.tar", members, layout)
        if not wanted:
            assert refusal(Path(folder)).endswith("has no rows")
            return
        source = pickle.loads(pickle.dumps(WebDatasetSource(WebDatasetConfig(Path(folder), rows=most))))
        wanted = wanted[:most] if most else wanted
        assert len(source) == len(wanted)
        for index in data.draw(st.permutations(range(len(wanted)))):
            number, content = wanted[index]
            row = source.row(index)
            assert row.fields == {"image": content, "text": str(number)}
            assert row.id == f"{Path(row.location.partition(': ')[0]).stem}/{stem}{number}"


@settings(max_examples=150, deadline=None)
@given(
    layout=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    damage=st.lists(st.tuples(st.integers(0, 9999), st.integers(0, 255)), max_size=3),
    cut=st.integers(0, 10240),
)
def test_damage_is_one_line(layout: int, damage: list[tuple[int, int]], cut: int) -> None:
    with TemporaryDirectory() as folder:
        stem = "é" * (40 if layout == tarfile.USTAR_FORMAT else 70)
        path = write(Path(folder) / "a.tar", [(f"{stem}{n}.txt", b"x" * 700) for n in range(3)], layout)
        data = bytearray(path.read_bytes())
        for offset, value in damage:
            data[offset % len(data)] = value
        path.write_bytes(data[: len(data) - cut])
        said, found = "a line", 0
        try:
            source = WebDatasetSource(WebDatasetConfig(path))
            found = len([source.row(index) for index in range(len(source))])
        except DataError as error:
            said = str(error)
        assert found <= 3
        assert len(said.splitlines()) == 1


def test_members_that_are_no_files_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind, to in (("d", tarfile.DIRTYPE, ""), ("s.txt", tarfile.SYMTYPE, "x" * 150), ("0.txt", b"0", "")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, to
            info.size = 4 if kind == b"0" else 0
            tar.addfile(info, io.BytesIO(b"good") if kind == b"0" else None)
    source = WebDatasetSource(WebDatasetConfig(path))
    assert [source.row(index).fields for index in range(len(source))] == [{"text": "good"}]


def test_members_of_one_stem_need_not_be_neighbours(tmp_path: Path) -> None:
    pictures = [(f"{number}.jpg", PNG + bytes([number])) for number in range(3)]
    texts = [(f"{number}.txt", b"number %d" % number) for number in (2, 0, 1)]
    source = pickle.loads(pickle.dumps(opened(tmp_path / "a.tar", [*pictures, *texts])))
    assert [source.row(index).fields for index in (2, 0, 1)] == [
        {"image": PNG + bytes([number]), "text": f"number {number}"} for number in (2, 0, 1)
    ]
    first = opened(tmp_path / "a.tar", [*pictures, *texts], rows=1)
    assert (len(first), first.row(0).fields["text"]) == (1, "number 0")


def test_an_ending_that_comes_again_is_another_row(tmp_path: Path) -> None:
    """Files put together out of several use the same keys again."""
    members = [("0.txt", b"a"), ("0.jpg", PNG), ("0.txt", b"b"), ("0.jpg", PNG), ("1.txt", b"c"), ("0.txt", b"d")]
    source = opened(tmp_path / "a.tar", members)
    assert [source.row(index).fields["text"] for index in range(4)] == ["a", "b", "c", "d"]
    assert ["image" in source.row(index).fields for index in range(4)] == [True, True, False, False]


@pytest.mark.parametrize("name", ["caption", "text"])
def test_two_captions_that_differ_are_refused_or_chosen(tmp_path: Path, name: str) -> None:
    members = [("0.jpg", PNG), ("0.txt", b"A red field."), ("0.json", json.dumps({name: "alt", "url": "x"}).encode())]
    path = write(tmp_path / "a.tar", members)
    assert refusal(path, 0) == (
        f"{path}: 0: its .txt says 'A red field.' and the '{name}' of its .json 'alt'; say with `caption: txt` or "
        "`caption: json` of the source which counts"
    )
    for caption, said in (("txt", "A red field."), ("json", "alt")):
        source = WebDatasetSource(WebDatasetConfig(path, caption=caption))  # type: ignore[arg-type]
        assert to_conversation(source.row(0)).messages[1].text == said
    same = [("0.jpg", PNG), ("0.txt", b"alt\n"), ("0.json", json.dumps({name: "alt"}).encode())]
    assert opened(tmp_path / "a.tar", same).row(0).fields == {"text": "alt", "image": PNG}
    both = write(tmp_path / "b.tar", [("0.txt", b"a"), ("0.caption", b"b")])
    assert refusal(both, 0) == f"{both}: 0: its .txt and its .caption differ, and a row has one text"


def test_videos_and_sounds_are_media_as_pictures_are(tmp_path: Path) -> None:
    source = opened(tmp_path / "a.tar", [("0.mp4", b"film"), ("0.txt", b"x"), ("1.0.wav", b"a"), ("1.1.wav", b"b")])
    assert source.row(0).fields == {"video": b"film", "text": "x"}
    assert source.row(1).fields == {"audios": [b"a", b"b"]}


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    assert refusal(path) == f"data file '{path}' does not exist"
    assert refusal(tmp_path) == f"'{tmp_path}' holds no file ending in .tar"
    path.write_bytes(b"hello" * 1000)
    assert refusal(path).startswith(f"'{path}' cannot be read as a tar file: ")
    whole = write(path, [("0.jpg", PNG), ("0.txt", b"x"), ("1.jpg", bytes(5000))]).read_bytes()
    path.write_bytes(gzip.compress(whole))
    assert refusal(path) == f"'{path}' is compressed with gzip: rows are found by seeking, so unpack it first"
    path.write_bytes(whole[:4000])
    assert refusal(path) == f"'{path}' cannot be read as a tar file after 1 rows: unexpected end of data"
    write(path, [])
    assert refusal(path) == f"'{path}' has no rows"


def test_what_is_wrong_with_a_row(tmp_path: Path) -> None:
    members = [("0.json", b"{broken"), ("1.json", b"[1]"), ("2.txt", b"\xff\xfe"), ("3.txt", b"good")]
    path = write(tmp_path / "a.tar", members)
    assert refusal(path, 0).startswith(f"{path}: 0: its .json is not JSON: ")
    assert refusal(path, 1) == f"{path}: 1: its .json must be a JSON object, got list"
    assert refusal(path, 2) == f"{path}: 2: its text is not UTF-8: invalid start byte at byte 0"
    source = WebDatasetSource(WebDatasetConfig(path))
    assert source.row(3).fields == {"text": "good"}
    path.unlink()
    with pytest.raises(DataError, match=r"a\.tar, row 3: cannot be read: .*No such file"):
        source.row(3)
    with pytest.raises(IndexError):
        source.row(4)
