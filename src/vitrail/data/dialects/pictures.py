"""Pictures and videos as rows give them: paths, data URLs, bytes, pixels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import ImagePart, Row, VideoPart
from vitrail.data.dialects.values import located, where


def video(given: Any, row: Row, fps: Any = None) -> VideoPart:
    """A path, {"path": ...} or {"bytes": ...}, frames, or a VideoPart. fps: of frames."""
    if isinstance(given, VideoPart):
        return given
    if fps is not None and (isinstance(fps, bool) or not isinstance(fps, int | float)):
        raise DataError(f"{where(row)}: 'fps' of a video must be a number, got {fps!r:.60}")
    found = image(given, row).image
    if not isinstance(found, str | Path | bytes) and not hasattr(found, "ndim"):
        raise DataError(f"{where(row)}: a video must be a file, bytes or frames, got {type(found).__name__}")
    return VideoPart(found, fps=fps)


def image(given: Any, row: Row) -> ImagePart:
    """A path, a data URL, {"path": ...} or {"bytes": ...} as `datasets` writes it, pixels, or an ImagePart."""
    if isinstance(given, ImagePart):
        return given
    if isinstance(given, Mapping):
        given = given.get("bytes") or given.get("path") or given.get("url")
    if isinstance(given, str):
        return ImagePart(located(given, row))
    if given is None:
        raise DataError(f"{where(row)}: a picture is null")
    return ImagePart(given)
