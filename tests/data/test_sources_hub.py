"""Streams: every row of an epoch once, in an order of shards that follows from the seed, and on from any cursor."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Row
from vitrail.data.dialects import dialects_of
from vitrail.data.sources.config import HubConfig
from vitrail.data.sources.hub import HubSource, StreamCursor

SHARDS, EACH = 4, 23


def shard(path: Path, numbers: range) -> None:
    """A file of rows {"n": number, "text": ...}, by the ending of its name."""
    rows = [{"n": number, "text": f"said {number}"} for number in numbers]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=5)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with tarfile.open(path, "w") as tar:
            for row in rows:
                for name, content in ((f"{row['n']:04d}.json", json.dumps(row)), (f"{row['n']:04d}.png", "...")):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content.encode()))


@pytest.fixture(scope="module", params=[".parquet", ".jsonl", ".tar"])
def pattern(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("shards")
    for number in range(SHARDS):
        shard(folder / f"train-{number}{request.param}", range(EACH * number, EACH * (number + 1)))
    return str(folder / f"train-*{request.param}")


def rows(source: HubSource, epoch: int = 0, cursor: Any = None) -> list[tuple[Row, Any]]:
    found = []
    for row, after in source.rows(epoch, cursor):
        assert isinstance(row, Row)
        found.append((row, after))
    return found


def numbers(source: HubSource, epoch: int = 0, cursor: Any = None) -> list[int]:
    return [row.fields["n"] for row, _ in rows(source, epoch, cursor)]


def test_every_row_of_an_epoch_once(pattern: str) -> None:
    source = HubSource(HubConfig(pattern))
    assert (source.name, set(dialects_of(source))) == (
        "train",
        {"caption" if pattern.endswith(".tar") else "interleaved"},
    )
    epochs = [numbers(source, epoch) for epoch in range(3)]
    for found in epochs:
        assert sorted(found) == list(range(SHARDS * EACH))
        # Shards as wholes.
        assert all(found[start : start + EACH] == sorted(found[start : start + EACH]) for start in range(0, 92, EACH))
    assert len({tuple(found) for found in epochs}) > 1
    assert numbers(HubSource(HubConfig(pattern))) == epochs[0]
    assert len({tuple(numbers(HubSource(HubConfig(pattern, seed=seed)))) for seed in range(4)}) > 1
    assert numbers(HubSource(HubConfig(pattern, shuffle=False)), 1) == list(range(SHARDS * EACH))


def test_a_stream_goes_on_from_any_cursor_in_another_process(pattern: str) -> None:
    source = HubSource(HubConfig(pattern, seed=1))
    whole = rows(source, 1)
    for stop in (0, 3, 4, 5, EACH - 2, EACH - 1, EACH, 40, SHARDS * EACH - 2, SHARDS * EACH - 1):
        cursor = json.loads(json.dumps(whole[stop][1]))
        assert len(json.dumps(cursor)) < 100
        assert rows(pickle.loads(pickle.dumps(source)), 1, cursor) == whole[stop + 1 :]


def test_a_stream_may_stop_and_go_on_again_and_again(pattern: str) -> None:
    source = HubSource(HubConfig(pattern))
    found: list[int] = []
    cursor: Any = None
    while True:
        for taken, (row, after) in enumerate(source.rows(0, cursor)):
            assert isinstance(row, Row)
            found.append(row.fields["n"])
            cursor = json.loads(json.dumps(after))
            if taken == 6:
                break
        else:
            break
    assert found == numbers(source)


def test_what_lies_before_a_cursor_is_not_read_again(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = HubSource(HubConfig(pattern, shuffle=False))
    cursor = rows(source)[2 * EACH + 11][1]
    opened: list[str] = []
    shard_of = datasets.IterableDataset.shard

    def noting(self: Any, num_shards: int, index: int) -> Any:
        opened.append(f"{index} of {num_shards}")
        return shard_of(self, num_shards, index)

    monkeypatch.setattr(datasets.IterableDataset, "shard", noting)
    assert numbers(source, 0, cursor) == list(range(2 * EACH + 12, SHARDS * EACH))
    groups = 5 if pattern.endswith(".parquet") else 1
    first = 2 if groups > 1 else 0
    within = [[f"{group} of {groups}" for group in range(start, groups)] for start in (first, 0)]
    assert opened == ["2 of 4", *within[0], "3 of 4", *within[1]]


def test_only_so_many_rows_of_each_epoch(pattern: str) -> None:
    source = HubSource(HubConfig(pattern, rows=30, shuffle=False))
    found = rows(source)
    assert [row.fields["n"] for row, _ in found] == list(range(30))
    assert numbers(source, 0, found[20][1]) == list(range(21, 30))
    assert numbers(source, 0, found[-1][1]) == []


def test_rows_say_where_they_were(pattern: str) -> None:
    row, _ = rows(HubSource(HubConfig(pattern, shuffle=False, pictures=Path("photos"))))[EACH + 2]
    assert row.location == f"{pattern}, shard 1, row 2"
    assert row.id == "train/1/0/2"
    assert row.folder == Path("photos")
    assert {"n": EACH + 2, "text": f"said {EACH + 2}"}.items() <= row.fields.items()
    if pattern.endswith(".tar"):
        assert row.fields["image"]["bytes"] == b"..."


def test_pictures_stay_as_bytes(tmp_path: Path) -> None:
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    made = datasets.Dataset.from_dict({"image": [{"bytes": b"no picture", "path": None}], "text": ["x"]}, features)
    made.to_parquet(str(tmp_path / "a.parquet"))
    ((row, _),) = rows(HubSource(HubConfig(str(tmp_path))))
    assert row.fields["image"] == {"bytes": b"no picture", "path": None}


def refusal(config: HubConfig) -> str:
    with pytest.raises(DataError) as caught:
        list(HubSource(config).rows(0, None))
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def test_what_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = str(tmp_path / "gone.parquet")
    assert refusal(HubConfig(gone)) == f"'{gone}' is neither a file of this machine nor a hub id (owner/name)"
    (tmp_path / "a.parquet").write_bytes(b"hello" * 100)
    assert refusal(HubConfig(str(tmp_path))).startswith(f"{tmp_path}: cannot be opened: ")
    (tmp_path / "b.csv").write_text("a\n1\n")
    assert "must stand for files of one kind, of .parquet, .arrow, " in refusal(HubConfig(str(tmp_path)))

    def unreachable(**_: Any) -> Any:
        raise ConnectionError("Couldn't reach the hub\nlong story")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    assert refusal(HubConfig("owner/name")) == "owner/name: cannot be opened: Couldn't reach the hub"
    with pytest.raises(ValueError, match="seed must be 0 or more"):
        HubConfig("owner/name", seed=-1)


def test_a_stream_that_breaks_off_is_said_and_not_taken_for_its_end(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "good"}\n' * 3)
    (tmp_path / "b.jsonl").write_text("{broken\n")
    said = refusal(HubConfig(str(tmp_path), shuffle=False))
    assert said.startswith(f"{tmp_path}, shard 1, row 0: the stream breaks off: ")


def test_a_bad_row_comes_as_its_error(tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", range(1))
    source = HubSource(HubConfig(str(tmp_path / "a.tar")))
    found = source._row({"__key__": "0", "__url__": "a.tar", "json": [1]}, 0, StreamCursor(1))
    assert isinstance(found, DataError)
    assert str(found).endswith("shard 0, row 0: its .json must be a JSON object, got list")


def test_other_data_than_when_it_stopped(tmp_path: Path) -> None:
    for number in range(3):
        shard(tmp_path / f"{number}.parquet", range(3))
    source = HubSource(HubConfig(str(tmp_path)))
    cursor = rows(source)[1][1]
    shard(tmp_path / "3.parquet", range(3))
    with pytest.raises(DataError, match="has 4 shards and had 3 when it was last read"):
        next(iter(HubSource(HubConfig(str(tmp_path))).rows(0, cursor)))
