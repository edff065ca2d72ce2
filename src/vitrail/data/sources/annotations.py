"""Annotation files as published, one JSON object for a whole data set: its rows.

COCO     {"images": [{"id": 9, "file_name": "9.jpg"}], "annotations": [{"image_id": 9, "caption": "Two birds."}]}
DocVQA   {"dataset_name": "docvqa", "data": [{"question": ..., "image": ..., "answers": [...]}]}; TextVQA's are such too

The whole file is in memory while its source is open.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitrail.contracts.errors import DataError


def annotations_in(path: Path) -> list[dict[str, Any]] | None:
    """The rows of such a file; None for any other. Raises DataError for annotations of which no rows can be made."""
    if path.suffix.lower() != ".json":
        return None
    with path.open("rb") as file:
        if not file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            return None
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    return rows_of(found, path) if isinstance(found, Mapping) else None


def rows_of(found: Mapping[str, Any], path: Path) -> list[dict[str, Any]] | None:
    """The rows that an object holds; None where it is a row itself."""
    images, annotations = found.get("images"), found.get("annotations")
    if isinstance(annotations, list) and isinstance(images, list):
        return _captions(images, annotations, path)
    data = found.get("data")
    if isinstance(data, list) and data and all(isinstance(row, Mapping) for row in data):
        return [dict(row) for row in data]
    for name in ("annotations", "questions"):
        if isinstance(found.get(name), list):
            raise DataError(
                f"'{path}' holds '{name}' alone: a row needs its picture, question and answer together; join it with "
                "its other half into a .jsonl"
            )
    return None


def _captions(images: list[Any], annotations: list[Any], path: Path) -> list[dict[str, Any]]:
    """COCO's captions, each with its picture. What a file says of its pictures beside their name stays there."""
    names = {one["id"]: one.get("file_name") for one in images if isinstance(one, Mapping) and "id" in one}
    rows = []
    for number, one in enumerate(annotations):
        where = f"{path}, annotation {number}"
        if not isinstance(one, Mapping) or "caption" not in one:
            held = ", ".join(map(str, one)) if isinstance(one, Mapping) else type(one).__name__
            raise DataError(
                f"{where}: has no 'caption' but {held[:120]}; of COCO's files those of captions are read, others must "
                "become rows with boxes first (docs/your-own-data.md)"
            )
        name = names.get(one.get("image_id"))
        if not isinstance(name, str):
            raise DataError(f"{where}: no picture has the id {one.get('image_id')!r:.60}")
        rows.append({"image": name, **one})
    return rows
