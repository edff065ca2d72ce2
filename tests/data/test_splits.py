"""Splits: the one that was asked for and nothing else, in every kind of folder; several and none named are refused."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import ipc
from pyarrow import parquet as pq

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Row
from vitrail.contracts.protocols import Source
from vitrail.data.sources.config import FolderConfig, HubConfig, JsonlConfig, ParquetConfig, WebDatasetConfig
from vitrail.data.sources.folder import FolderSource
from vitrail.data.sources.hub import HubSource
from vitrail.data.sources.jsonl import JsonlSource
from vitrail.data.sources.parquet import ParquetSource
from vitrail.data.sources.splits import split_of_picture, split_of_rows
from vitrail.data.sources.webdataset import WebDatasetSource

Writer = Callable[[Path, str], None]


def parquet(path: Path, said: str) -> None:
    pq.write_table(pa.Table.from_pylist([{"text": said}] * 2), path)


def arrow(path: Path, said: str) -> None:
    table = pa.Table.from_pylist([{"text": said}] * 2)
    with pa.OSFile(str(path), "wb") as sink, ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def jsonl(path: Path, said: str) -> None:
    path.write_text(json.dumps({"text": said}) + "\n")


def table(path: Path, said: str) -> None:
    path.write_text(f"text\n{said}\n")


def tar(path: Path, said: str, folder: str = "") -> None:
    with tarfile.open(path, "w") as file:
        info = tarfile.TarInfo(f"{folder}0.txt")
        info.size = len(said)
        file.addfile(info, io.BytesIO(said.encode()))


def texts(source: Source) -> set[str]:
    return {source.row(index).fields["text"] for index in range(len(source))}


KINDS: dict[str, tuple[Writer, type[Any], type[Any]]] = {
    "parquet": (parquet, ParquetSource, ParquetConfig),
    "arrow": (arrow, ParquetSource, ParquetConfig),
    "jsonl": (jsonl, JsonlSource, JsonlConfig),
    "csv": (table, JsonlSource, JsonlConfig),
    "tar": (tar, WebDatasetSource, WebDatasetConfig),
}
LAYOUTS = {
    "shards": ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"),
    "in the middle": ("mine-train-0000", "mine-train-0001", "mine-test-0000"),
    "folders": ("data/train/0", "data/train/1", "data/test/0"),
    "years": ("train2017/0", "train2017/1", "test2017/0"),
    "other words": ("x_training", "training", "x_evaluation"),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("kind", KINDS)
def test_the_split_that_was_asked_for_and_nothing_else(tmp_path: Path, kind: str, layout: tuple[str, ...]) -> None:
    write, source, config = KINDS[kind]
    for name in layout:
        path = tmp_path / f"{name}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, name)
    assert texts(source(config(tmp_path, split="train"))) == set(layout[:2])
    assert texts(source(config(tmp_path, split="test"))) == {layout[2]}
    assert texts(source(config(tmp_path, split="all"))) == set(layout)
    with pytest.raises(DataError, match=r"holds several splits: test, train; say which with `split:`, or `split: all`"):
        source(config(tmp_path))
    with pytest.raises(DataError, match=r"has no split 'validation'; it holds: test, train"):
        source(config(tmp_path, split="validation"))
    pattern = tmp_path / "**" / f"*.{kind}"
    with pytest.raises(DataError, match="holds several splits"):
        source(config(pattern))
    assert texts(source(config(pattern, split="test"))) == {layout[2]}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("validation-00000-of-00001.parquet", "validation"),
        ("val.jsonl", "validation"),
        ("dev_2.tar", "validation"),
        ("my.held_out.jsonl", "held_out"),
        ("heldout/0.tar", "held_out"),
        ("test_sft-00000-of-00001.parquet", "test_sft"),
        ("data/train.clean.100-00000-of-00014.parquet", "train.clean.100"),
        ("train-00000-of-00004-0123456789abcdef.parquet", "train"),
        ("instances_val2017.json", "validation"),
        ("train/test-tubes.jsonl", "train"),
        ("contest.jsonl", None),
        ("detestable/training-free.tar", "train"),
        ("constrained/rows.jsonl", None),
        ("ai2d-00000-of-00001.parquet", None),
    ],
)
def test_what_a_name_says(name: str, split: str | None) -> None:
    assert split_of_rows(name) == split


@pytest.mark.parametrize(
    ("name", "split"),
    [("test/cat/1.png", "test"), ("cat/val/1.png", "validation"), ("test_0001.png", "test"), ("test-tube.png", None)],
)
def test_what_a_pictures_name_says(name: str, split: str | None) -> None:
    assert split_of_picture(name) == split


def test_a_split_that_nothing_says_is_refused(tmp_path: Path) -> None:
    jsonl(tmp_path / "rows.jsonl", "x")
    with pytest.raises(DataError, match="no file or folder whose name says a split, and `split: train` is asked for"):
        JsonlSource(JsonlConfig(tmp_path, split="train"))
    (tmp_path / "train").mkdir()
    jsonl(tmp_path / "train" / "rows.jsonl", "y")
    assert texts(JsonlSource(JsonlConfig(tmp_path / "train", split="train"))) == {"y"}
    with pytest.raises(DataError, match="`split: test` is asked for"):
        JsonlSource(JsonlConfig(tmp_path / "train", split="test"))
    # One split beside files that say none is no choice to be made.
    assert texts(JsonlSource(JsonlConfig(tmp_path))) == {"x", "y"}


def saved(folder: Path, said: str, **state: Any) -> None:
    """As `save_to_disk` writes it, and as `map` and `filter` leave it."""
    folder.mkdir(parents=True)
    for number in (1, 0):
        arrow(folder / f"data-0000{number}-of-00002.arrow", f"{said} {number}")
    arrow(folder / "cache-bdbceb3071ccfa6c.arrow", "another split's")
    arrow(folder / "cache-bdbceb3071ccfa6c_00000_of_00002.arrow", "another split's")
    files = [{"filename": f"data-0000{number}-of-00002.arrow"} for number in (0, 1)]
    (folder / "state.json").write_text(json.dumps({"_data_files": files, **state}))
    (folder / "dataset_info.json").write_text("{}")


def test_a_saved_data_set_is_read_without_what_lies_beside_it(tmp_path: Path) -> None:
    saved(tmp_path / "one", "train")
    arrow(tmp_path / "one" / "left-over.arrow", "of an earlier save")
    assert texts(ParquetSource(ParquetConfig(tmp_path / "one"))) == {"train 0", "train 1"}
    saved(tmp_path / "old", "train", _indices_data_files=[{"filename": "indices.arrow"}])
    with pytest.raises(DataError, match="saved with a selection of its rows beside it"):
        ParquetSource(ParquetConfig(tmp_path / "old"))


def test_the_splits_of_a_saved_data_set_have_any_names(tmp_path: Path) -> None:
    for name in ("gpt4", "human"):
        saved(tmp_path / name, name)
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["human", "gpt4"]}')
    assert texts(ParquetSource(ParquetConfig(tmp_path, split="human"))) == {"human 0", "human 1"}
    assert len(ParquetSource(ParquetConfig(tmp_path, split="all"))) == 8
    with pytest.raises(DataError, match="holds several splits: gpt4, human"):
        ParquetSource(ParquetConfig(tmp_path))
    with pytest.raises(DataError, match=r"no split 'humans' \(did you mean 'human'\?\); it holds: gpt4, human"):
        ParquetSource(ParquetConfig(tmp_path, split="humans"))
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["../elsewhere"]}')
    with pytest.raises(DataError, match="names a split that is no folder beside it"):
        ParquetSource(ParquetConfig(tmp_path))


def test_hidden_files_and_files_about_the_data_are_no_rows(tmp_path: Path) -> None:
    for name in ("a.jsonl", "._a.jsonl", ".cache/b.jsonl", "dataset_infos.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        jsonl(tmp_path / name, name)
    assert texts(JsonlSource(JsonlConfig(tmp_path))) == {"a.jsonl"}


# Folders of pictures


def described(folder: Path, files: dict[str, str], **settings: Any) -> list[Row]:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    source = FolderSource(FolderConfig(folder, **settings))
    return [source.row(index) for index in range(len(source))]


@pytest.mark.parametrize("inner", [False, True], ids=["train/cat", "cat/train"])
def test_a_split_is_no_class(tmp_path: Path, inner: bool) -> None:
    names = [(split, name) for split in ("train", "test") for name in ("cat", "dog")]
    files = {"/".join((pair[::-1] if inner else pair) + ("0.png",)): "" for pair in names}
    rows = described(tmp_path, files, split="train")
    assert [row.fields["answer"] for row in rows] == ["cat", "dog"]
    assert all("train" in row.fields["image"] for row in rows)
    assert len(described(tmp_path, {}, split="all")) == 4
    with pytest.raises(DataError, match="holds several splits: test, train"):
        described(tmp_path, {})


def test_a_folder_of_a_split_alone_says_no_class(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not say what its pictures show"):
        described(tmp_path, {"train/0.png": "", "train/1.png": ""})
    rows = described(tmp_path / "x", {"valid/0.png": "", "invalid/1.png": ""})
    assert [row.fields["answer"] for row in rows] == ["invalid", "valid"], "classes may be called so"


def test_captions_and_metadata_of_a_split(tmp_path: Path) -> None:
    files = {f"{split}/0.{end}": split for split in ("train", "test") for end in ("png", "txt")}
    assert [row.fields["text"] for row in described(tmp_path / "a", files, split="test")] == ["test"]
    files = {f"{split}/metadata.jsonl": json.dumps({"file_name": "0.png", "text": split}) for split in ("train", "dev")}
    (row,) = described(tmp_path / "b", files, split="dev")
    assert (row.fields, row.folder) == ({"image": "0.png", "text": "dev"}, tmp_path / "b" / "dev")
    assert len(described(tmp_path / "b", {}, split="all")) == 2


def test_a_split_may_be_a_folder_within_a_tar_file(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for name in ("train/0.txt", "test/0.txt", "train/1.txt"):
            info = tarfile.TarInfo(name)
            info.size = len(name)
            file.addfile(info, io.BytesIO(name.encode()))
    path = tmp_path / "a.tar"
    assert texts(WebDatasetSource(WebDatasetConfig(path, split="train"))) == {"train/0.txt", "train/1.txt"}
    assert len(WebDatasetSource(WebDatasetConfig(path, split="all"))) == 3
    with pytest.raises(DataError, match="holds several splits: test, train"):
        WebDatasetSource(WebDatasetConfig(path))


def test_local_files_of_the_hub_kind_are_of_its_split(tmp_path: Path) -> None:
    for name in ("train-0", "test-0"):
        jsonl(tmp_path / f"{name}.jsonl", name)

    def read(**settings: Any) -> list[str]:
        source = HubSource(HubConfig(str(tmp_path), **settings))
        return [row.fields["text"] for row, _ in source.rows(0, None) if isinstance(row, Row)]

    assert (read(), read(split="test")) == (["train-0"], ["test-0"])
    assert sorted(read(split="all")) == ["test-0", "train-0"]
    with pytest.raises(DataError, match="no split 'validation'; it holds: test, train"):
        read(split="validation")
