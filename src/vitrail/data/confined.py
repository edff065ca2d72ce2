"""Which files the rows of a source may name: those in the source's folder, unless the recipe allows others.

Rows come from others: one that names `/home/me/scan.png` would put it into a model, or onto the page of a report.
Links are followed before the answer, so that one which leads out counts as outside. Some microseconds a file.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from vitrail.contracts.errors import MediaError

ALLOW = "allow_outside: true"
"""What a source says to have its rows name any file."""


def check_inside(path: Path, folder: Path | None, where: str) -> None:
    """Raises MediaError for a path that leads out of a folder. where: what names it, for the message."""
    try:
        real = os.path.realpath(path)
    except (OSError, ValueError) as error:  # a name that no file can have
        raise MediaError(f"{where}: the file {str(path)!r:.200} cannot be opened: {error}") from error
    if folder is None:
        raise MediaError(
            f"{where}: '{path}' is a file of this machine, and the rows come from elsewhere: set the source's "
            f"`pictures:` to the folder of such files, or `{ALLOW}`"
        )
    root = _real(os.path.abspath(folder))
    if real != root and not real.startswith(root.rstrip(os.sep) + os.sep):
        link = f", a link to '{real}'," if real != os.path.abspath(path) else ""
        raise MediaError(
            f"{where}: '{path}'{link} lies outside '{folder}': set the source's `pictures:`, where its kind has that, "
            f"to the folder that holds such files, or `{ALLOW}`"
        )


@lru_cache(maxsize=64)
def _real(folder: str) -> str:
    return os.path.realpath(folder)
