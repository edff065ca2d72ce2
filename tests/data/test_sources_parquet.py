"""Tables: rows by number out of row groups, each group decoded once, and one line for what cannot be read."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import ipc
from pyarrow import parquet as pq

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import ImagePart
from vitrail.data.dialects import dialects_of, to_conversation
from vitrail.data.mixture import Mixture, Part
from vitrail.data.order import rows_at
from vitrail.data.sources import parquet
from vitrail.data.sources.config import ParquetConfig, Reading
from vitrail.data.sources.parquet import ParquetSource


def png(shade: int) -> bytes:
    written = io.BytesIO()
    Image.new("L", (8, 8), shade).save(written, "PNG")
    return written.getvalue()


def finevision(number: int) -> dict[str, Any]:
    """A row as FineVision and the Cauldron have them."""
    texts = [{"user": f"What is {number}?", "assistant": f"A number, {number}."}]
    return {"images": [{"bytes": png(number % 256), "path": None}], "texts": texts, "source": "made"}


def write(path: Path, rows: list[dict[str, Any]], group: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=group)
    return path


def numbers(source: ParquetSource) -> list[int]:
    return [source.row(index).fields["n"] for index in range(len(source))]


def refusal(config: ParquetConfig) -> str:
    with pytest.raises(DataError) as caught:
        ParquetSource(config)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def test_pictures_and_turns_out_of_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "train.parquet", [finevision(number) for number in range(25)])
    source = ParquetSource(ParquetConfig(path))
    assert (source.name, len(source), source.block, set(dialects_of(source))) == ("train", 25, 10, {"turns"})
    row = source.row(17)
    assert (row.id, row.location, row.folder) == ("train.parquet:17", f"{path}, row 17", tmp_path)
    conversation = to_conversation(row, "turns")
    assert conversation.media == (ImagePart(png(17)),)
    assert [message.text for message in conversation.messages] == ["\nWhat is 17?", "A number, 17."]
    assert conversation.extra == {"source": "made"}


@pytest.mark.parametrize("indexed", [True, False])
def test_arrow_files_of_both_layouts(tmp_path: Path, indexed: bool) -> None:
    table = pa.Table.from_pylist([{"n": number, "image": png(number), "text": "x"} for number in range(40)])
    path = tmp_path / "part.arrow"
    with (
        pa.OSFile(str(path), "wb") as sink,
        (ipc.new_file if indexed else ipc.new_stream)(sink, table.schema) as writer,
    ):
        writer.write_table(table, max_chunksize=7)
    source = ParquetSource(ParquetConfig(path))
    assert (numbers(source), source.block, set(dialects_of(source))) == (list(range(40)), 16, {"caption"})
    assert to_conversation(pickle.loads(pickle.dumps(source)).row(39), Reading(ignore_keys=("n",))).media == (
        ImagePart(png(39)),
    )
    assert list(ParquetSource(ParquetConfig(path, columns=("n",))).row(8).fields) == ["n"]


@settings(max_examples=40, deadline=None)
@given(
    files=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 12)), min_size=1, max_size=4),
    most=st.integers(0, 60),
    shuffle=st.booleans(),
)
def test_every_row_is_there_once(files: list[tuple[int, int]], most: int, shuffle: bool) -> None:
    with TemporaryDirectory() as folder:
        count = 0
        for number, (rows, group) in enumerate(files):
            write(Path(folder) / f"{number}.parquet", [{"n": n} for n in range(count, count + rows)], group)
            count += rows
        source = ParquetSource(ParquetConfig(Path(folder), rows=most, shuffle=shuffle))
        wanted = list(range(min(count, most) if most else count))
        found = numbers(pickle.loads(pickle.dumps(source)))
        assert sorted(found) == wanted
        if not shuffle:
            assert found == wanted


def test_an_epoch_decodes_each_group_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, rows in enumerate((55, 50, 57)):
        write(tmp_path / f"{number}.parquet", [{"n": n} for n in range(rows)])
    monkeypatch.setattr(parquet, "KEPT_BYTES", 1)  # the last group alone is kept
    source = ParquetSource(ParquetConfig(tmp_path))
    reads: list[tuple[int, int]] = []
    put = source._recent.put
    monkeypatch.setattr(source._recent, "put", lambda key, *rest: (reads.append(key), put(key, *rest)))
    for index in rows_at(0, len(source), len(source), source.block, 3, 0):
        source.row(index)
    assert source.block == 10
    # The two short groups at the ends of files lie in one block.
    assert len(set(reads)) == 17
    assert len(reads) <= 18


def test_a_window_draws_from_many_row_groups_and_reads_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, bytes_each = 50, 1000
    for number in range(4):
        noise = np.random.default_rng(number).bytes(10 * group * bytes_each)
        write(
            tmp_path / f"{number}.parquet",
            [{"n": n, "image": noise[n * bytes_each :][:bytes_each]} for n in range(10 * group)],
            group,
        )
    monkeypatch.setattr(parquet, "KEPT_BYTES", 16 * group * (bytes_each + 100))
    source = ParquetSource(ParquetConfig(tmp_path))
    assert (len(source), source.block) == (2000, group)
    assert 7 <= source.together <= 8, "half of the room"
    reads: list[tuple[int, int]] = []
    put = source._recent.put
    monkeypatch.setattr(source._recent, "put", lambda key, *rest: (reads.append(key), put(key, *rest))[1])
    mixture = Mixture([Part(source, "auto", "a")], seed=0)
    cursors, seen = mixture.start(), list[int]()
    for window in range(20):
        picks, cursors, _ = mixture.draw(cursors, 100 * window, 100, 0.0)
        numbers = sorted(pick.index for pick in picks)
        seen += numbers
        assert len({number // group for number in numbers}) >= 6, "rows of many groups in every window"
        for number in numbers:  # in the order in which the loader reads them
            source.row(number)
    assert sorted(seen) == list(range(2000))
    assert len(reads) == len(set(reads)) == 40, "each row group is decoded once an epoch"


def test_row_groups_too_large_to_be_kept_are_drawn_from_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "KEPT_BYTES", 100_000)
    write(tmp_path / "a.parquet", [{"n": n} for n in range(100)])
    assert ParquetSource(ParquetConfig(tmp_path)).together == 32
    large = [{"n": n, "image": np.random.default_rng(n).bytes(20_000)} for n in range(8)]
    write(tmp_path / "a.parquet", large, 4)
    assert ParquetSource(ParquetConfig(tmp_path)).together == 1
    assert ParquetSource(ParquetConfig(tmp_path, columns=("n",))).together == 32, "columns that are not read cost none"


def test_columns_that_are_not_wanted_are_not_read(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [{"text": "x", "image": b"...", "embedding": [1.0]}])
    assert ParquetSource(ParquetConfig(tmp_path, columns=("text", "image"))).row(0).fields == {
        "text": "x",
        "image": b"...",
    }
    said = refusal(ParquetConfig(tmp_path, columns=("txt",)))
    assert (
        said == f"'{tmp_path / 'a.parquet'}' has no column 'txt' (did you mean 'text'?); it has: text, image, embedding"
    )


def test_patterns_and_folders(tmp_path: Path) -> None:
    for name in ("train-0.parquet", "train-1.parquet", "deeper/test-0.parquet"):
        write(tmp_path / name, [{"n": 1}])
    pattern = ParquetConfig(tmp_path / "train-*.parquet")
    assert (len(ParquetSource(pattern)), ParquetSource(pattern).name) == (2, "train")
    assert len(ParquetSource(ParquetConfig(tmp_path, split="all"))) == 3


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    assert refusal(ParquetConfig(path)) == f"data file '{path}' does not exist"
    assert refusal(ParquetConfig(tmp_path)) == f"'{tmp_path}' holds no file ending in .parquet or .arrow"
    assert refusal(ParquetConfig(tmp_path / "x*")) == f"no file matches '{tmp_path}/x*'"
    for data in (b"", b"PAR1", b"hello" * 100, b"PAR1" + b"\0" * 100 + b"PAR1"):
        path.write_bytes(data)
        assert refusal(ParquetConfig(path)).startswith(f"'{path}' cannot be read as a table: ")
    (tmp_path / "b.arrow").write_bytes(b"hello" * 100)
    assert refusal(ParquetConfig(tmp_path / "b.arrow")).startswith(
        f"'{tmp_path / 'b.arrow'}' cannot be read as a table"
    )
    pq.write_table(pa.table({"n": pa.array([], pa.int64())}), path)
    assert refusal(ParquetConfig(path)) == f"'{path}' has no rows"


def test_a_row_group_for_which_no_machine_has_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", [{"image": bytes(10_000)} for _ in range(5)])
    monkeypatch.setattr(parquet, "LARGEST_GROUP", 100)
    assert "has a row group of 5 rows and 0.0 GB, which is read as a whole: at most" in refusal(ParquetConfig(path))


def test_a_damaged_group_is_an_error_of_its_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [{"n": n, "pad": f"{n}" * 50} for n in range(30)])
    damaged = bytearray(path.read_bytes())
    offset = pq.ParquetFile(path).metadata.row_group(1).column(1).data_page_offset
    damaged[offset : offset + 40] = b"\xff" * 40
    path.write_bytes(damaged)
    source = ParquetSource(ParquetConfig(path))
    assert source.row(9).fields["n"] == 9
    assert source.row(20).fields["n"] == 20
    with pytest.raises(DataError, match=r"a\.parquet, row 12: cannot be read: "):
        source.row(12)
