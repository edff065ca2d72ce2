"""Writes drawn data to a folder: one jsonl file a split and one png a picture. About 1.5 ms a picture of 64 px.

Scenes, lines and documents are written alike, and spoken words too, one 16-bit wav a phrase.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import AudioPart, ImagePart, Row
from vitrail.contracts.protocols import Source
from vitrail.media.wav import wav_bytes
from vitrail.synthetic.config import DrawnConfig, LinesConfig
from vitrail.synthetic.documents.config import DocumentsConfig
from vitrail.synthetic.documents.source import DocumentsSource
from vitrail.synthetic.lines import LinesSource
from vitrail.synthetic.source import DrawnSource
from vitrail.synthetic.speech.config import SpokenConfig
from vitrail.synthetic.speech.source import SpokenSource

MARK = "drawn-data.json"
"""The file that says a folder is ours to overwrite."""

FOLDERS = {"images": "png", "audios": "wav"}
"""Where media go, by the column of a row that has them, and how their files end."""


AnyDrawnConfig = DrawnConfig | LinesConfig | DocumentsConfig | SpokenConfig


def export(config: AnyDrawnConfig, out: Path, progress: Callable[[int], None] | None = None) -> Path:
    """Writes one split and returns the path of its jsonl file.

    Each line of `out/<split>.jsonl` is a row's id and fields, as the source's `row` gives them, with its picture or
    sound as a path relative to `out` (`images/<id>.png`, `audios/<id>.wav`), and what it says of the drawing under
    `metadata`. Train and test go into the same folder, one call each. A rerun replaces its split: the old jsonl goes
    first and the new one appears when every file is there, so that a jsonl file never names one that is missing.

    progress: called after each row with the number of rows written so far.

    Raises DataError when `out` holds something else, or cannot be written.
    """
    _check_ours(out)
    lines, partial = out / f"{config.split}.jsonl", out / f"{config.split}.jsonl.partial"
    source = _source(config)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / MARK).write_text(json.dumps({"made by": "vitrail data draw"}) + "\n", encoding="utf-8")
        column = "audios" if isinstance(config, SpokenConfig) else "images"
        (out / column).mkdir(exist_ok=True)
        lines.unlink(missing_ok=True)
        written = set()
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            for index in range(len(source)):
                row = source.row(index)
                path = f"{column}/{row.id}.{FOLDERS[column]}"
                _write(row.fields[column][0], out / path)
                written.add(path)
                file.write(_line(row, column, path))
                if progress is not None:
                    progress(index + 1)
        _remove_others(out, column, config.split, written)
        os.replace(partial, lines)
    except OSError as error:
        raise DataError(f"cannot write drawn data to {out}: {error.strerror or error}") from error
    return lines


def _source(config: AnyDrawnConfig) -> Source:
    if isinstance(config, LinesConfig):
        return LinesSource(config)
    if isinstance(config, SpokenConfig):
        return SpokenSource(config)
    return DocumentsSource(config) if isinstance(config, DocumentsConfig) else DrawnSource(config)


def _write(medium: NDArray[np.uint8] | ImagePart | AudioPart, path: Path) -> None:
    if isinstance(medium, AudioPart):
        assert isinstance(medium.audio, np.ndarray), "spoken words are samples"
        assert medium.rate is not None, "samples have a rate"
        path.write_bytes(wav_bytes(medium.audio, medium.rate))
    else:
        Image.fromarray(_pixels(medium)).save(path)


def _pixels(picture: NDArray[np.uint8] | ImagePart) -> NDArray[np.uint8]:
    if isinstance(picture, ImagePart):
        assert isinstance(picture.image, np.ndarray), "drawn pictures are arrays"
        return picture.image
    return picture


def _line(row: Row, column: str, path: str) -> str:
    """Facts about the drawing go under `metadata`, where readers of rows look for nothing that is to be learnt."""
    said = {name: value for name, value in row.fields.items() if name not in row.facts}
    facts = {name: row.fields[name] for name in row.facts if name in row.fields}
    metadata = {"metadata": facts} if facts else {}
    return json.dumps({"id": row.id, **said, column: [path], **metadata}, ensure_ascii=False) + "\n"


def _check_ours(out: Path) -> None:
    """Refuses a folder with something in it that an earlier export did not write."""
    if not out.exists():
        return
    if not out.is_dir():
        raise DataError(f"cannot write drawn data to {out}: it is a file, not a folder")
    if any(out.iterdir()) and not (out / MARK).is_file():
        raise DataError(f"cannot write drawn data to {out}: it holds other files (allowed: a new or empty folder)")


def _remove_others(out: Path, column: str, split: str, written: set[str]) -> None:
    """Removes the media of an earlier export of the same split that was longer or drew something else."""
    for file in (out / column).glob(f"*-{split}-*.{FOLDERS[column]}"):
        if f"{column}/{file.name}" not in written:
            file.unlink()
