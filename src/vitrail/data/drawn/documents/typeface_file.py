"""A font file of the user's own, for scripts that the bundled fonts do not have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import ImageFont

from vitrail.contracts.errors import DataError
from vitrail.data.drawn.typefaces import Typeface

_SAMPLE = "合计日期"
_CAP = 0.62  # less than in most such fonts, so that they are set larger: characters have more strokes than letters


@dataclass(frozen=True)
class TypefaceFile(Typeface):
    """A typeface that is read from `file`."""

    file: Path = Path()

    @property
    def path(self) -> Path:
        """Where the font file is."""
        return self.file


def chinese_typeface(file: Path, split: str) -> TypefaceFile:
    """The typeface of a font file with Chinese characters. Raises DataError when it is none, or has none."""
    try:
        font = ImageFont.truetype(str(file), 24, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise DataError(f"drawn documents: font '{file}' cannot be read: {error}") from error
    # A font draws the same empty box for every character that it lacks.
    if len({bytes(font.getmask(character)) for character in _SAMPLE}) < len(_SAMPLE):
        raise DataError(f"drawn documents: font '{file}' has no Chinese characters")
    return TypefaceFile(file.stem, split, _CAP, file)
