"""What can be said in a recipe about where rows come from; each kind has a file of its own beside this one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

DialectName = Literal[
    "auto",
    "openai",
    "sharegpt",
    "tags",
    "turns",
    "alpaca",
    "completion",
    "preference",
    "interleaved",
    "fields",
    "caption",
    "vqa",
    "short_vqa",
]

BoxFormat = Literal["xyxy", "xywh"]


@dataclass(frozen=True)
class Reading:
    """How the rows of a source are read.

    dialect: how they are written; `auto` looks at the keys of each. ignore_keys: keys that may be left out, `*` in them
    for any letters; any other key that is not understood refuses its row. box_format: the four numbers of a box: two
    corners, or a corner, width and height (COCO).
    """

    dialect: DialectName = "auto"
    ignore_keys: tuple[str, ...] = ()
    box_format: BoxFormat = "xyxy"


ROWS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
TABLES = (".parquet", ".arrow")
PACKED = (".tar",)
"""Endings of the files that each kind reads."""


def _check_rows(rows: int) -> None:
    if rows < 0:
        raise ValueError(f"rows must be 0 (all of them) or more, got {rows}")


@dataclass(frozen=True)
class JsonlConfig:
    """Rows of a .jsonl, a .json (a list, or objects one after the other), a .csv or a .tsv, pictures beside it.

    path: a file, a folder of them, or a pattern; a plain string in a recipe means this. pictures: folder that relative
    picture paths start from; null means each file's own. split: of a folder or a pattern, such as `train`, the files
    whose names or folders say so; `all` for all of them; null where there is but one. dialect: how conversations are
    written; `auto` looks at each row's keys. ignore_keys, box_format: as in `Reading`. rows: use only this many from
    the start, 0 for all. shuffle: false takes rows in the file's order, but for how a window packs. allow_outside:
    whether rows may name files outside that folder, by absolute paths, `..` or links.
    """

    path: Path
    kind: Literal["jsonl"] = "jsonl"
    pictures: Path | None = None
    split: str | None = None
    dialect: DialectName = "auto"
    ignore_keys: tuple[str, ...] = ()
    box_format: BoxFormat = "xyxy"
    rows: int = 0
    shuffle: bool = True
    allow_outside: bool = False

    @classmethod
    def from_scalar(cls, text: str) -> JsonlConfig | ParquetConfig | WebDatasetConfig:
        """`data.train=my.jsonl`; a file that ends otherwise is read by the kind that reads such."""
        return kind_of(Path(text))(path=Path(text))

    def __post_init__(self) -> None:
        _check_rows(self.rows)


@dataclass(frozen=True)
class ParquetConfig:
    """Tables in .parquet or .arrow files, as a rule with pictures in their columns.

    path: a file, a folder of them (one that `save_to_disk` wrote, too), or a pattern such as `shards/train-*.parquet`.
    columns: read only these; empty for all. pictures: folder that relative picture paths start from; null means each
    file's own. split, dialect, ignore_keys, box_format, rows, shuffle, allow_outside: as for `jsonl`.
    """

    path: Path
    kind: Literal["parquet"] = "parquet"
    columns: tuple[str, ...] = ()
    pictures: Path | None = None
    split: str | None = None
    dialect: DialectName = "auto"
    ignore_keys: tuple[str, ...] = ()
    box_format: BoxFormat = "xyxy"
    rows: int = 0
    shuffle: bool = True
    allow_outside: bool = False

    def __post_init__(self) -> None:
        _check_rows(self.rows)


@dataclass(frozen=True)
class FolderConfig:
    """A folder of pictures that says what they show.

    layout: `captions` has a .txt beside each picture, `classes` a folder for each class, `metadata` a metadata.jsonl
    or metadata.csv with a `file_name` in each row; `auto` looks. question: asked of the pictures of `classes`, to be
    answered by their folder's name. split: as for `jsonl`, where folders are called so: `train/cat`, `test/cat`.
    dialect, rows, shuffle, allow_outside: as for `jsonl`; rows are sorted by name.
    """

    path: Path
    kind: Literal["folder"] = "folder"
    layout: Literal["auto", "captions", "classes", "metadata"] = "auto"
    question: str = "What does the picture show?"
    split: str | None = None
    dialect: DialectName = "auto"
    ignore_keys: tuple[str, ...] = ()
    box_format: BoxFormat = "xyxy"
    rows: int = 0
    shuffle: bool = True
    allow_outside: bool = False

    def __post_init__(self) -> None:
        _check_rows(self.rows)
        if not self.question.strip():
            raise ValueError("question must not be empty")


@dataclass(frozen=True)
class WebDatasetConfig:
    """Uncompressed .tar files in which members of one stem make a row: `0007.jpg` and `0007.json`, or `0007.txt`.

    path: a file, a folder of them, or a pattern such as `shards/*.tar`. caption: which counts where a .txt and the
    caption in a .json differ; null refuses such rows. split, dialect, rows, shuffle, allow_outside: as for `jsonl`; a
    split may also be a folder within a file.
    """

    path: Path
    kind: Literal["webdataset"] = "webdataset"
    caption: Literal["txt", "json"] | None = None
    split: str | None = None
    dialect: DialectName = "auto"
    ignore_keys: tuple[str, ...] = ()
    box_format: BoxFormat = "xyxy"
    rows: int = 0
    shuffle: bool = True
    allow_outside: bool = False

    def __post_init__(self) -> None:
        _check_rows(self.rows)


@dataclass(frozen=True)
class HubConfig:
    """A data set of the Hugging Face hub, or files of the local disk, streamed: nothing is downloaded beforehand.

    path: a hub id (`owner/name`), or files: one, a folder of them, or a pattern. subset: the data set's
    configuration. split: of a hub id, or of files whose names say any, as for `jsonl`. revision: branch, tag or commit
    of a hub id. pictures: folder that relative picture paths start from. rows: use only this many of each epoch, 0 for
    all. shuffle: reads the shards in another order each epoch, which follows from `seed`; within a shard the order is
    the file's. allow_outside: as for `jsonl`; without `pictures` every file of this machine is outside. caption: as for
    `webdataset`.
    """

    path: str
    kind: Literal["hub"] = "hub"
    subset: str | None = None
    split: str = "train"
    revision: str | None = None
    pictures: Path | None = None
    dialect: DialectName = "auto"
    ignore_keys: tuple[str, ...] = ()
    box_format: BoxFormat = "xyxy"
    rows: int = 0
    shuffle: bool = True
    allow_outside: bool = False
    caption: Literal["txt", "json"] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        _check_rows(self.rows)
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")


def kind_of(path: Path) -> type[JsonlConfig | ParquetConfig | WebDatasetConfig]:
    """What reads a file, by its ending."""
    if path.suffix.lower() in TABLES:
        return ParquetConfig
    return WebDatasetConfig if path.suffix.lower() in PACKED else JsonlConfig


FilesConfig = JsonlConfig | ParquetConfig | FolderConfig | WebDatasetConfig | HubConfig
