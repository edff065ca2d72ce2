"""The bundled fonts, each in one split only, and text drawn with them. Licences and sources: `fonts/README.md`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vitrail.data.drawn.shapes import trim

FOLDER = Path(__file__).parent / "fonts"


@dataclass(frozen=True)
class Typeface:
    """One font file.

    name: the file's name without its ending. split: the only split that may write with it. cap: height of a capital
    letter, in parts of the font size.
    """

    name: str
    split: str
    cap: float

    @property
    def path(self) -> Path:
        """Where the font file is."""
        return FOLDER / f"{self.name}.ttf"


TYPEFACES: tuple[Typeface, ...] = (
    Typeface("OpenSans-Bold", "train", 0.714),
    Typeface("Bitter-Bold", "train", 0.704),
    Typeface("JetBrainsMono-Bold", "train", 0.73),
    Typeface("Oswald-SemiBold", "train", 0.81),
    Typeface("PatrickHand-Regular", "train", 0.661),
    Typeface("Rubik-SemiBold", "train", 0.70),
    Typeface("Nunito-ExtraBold", "test", 0.705),
    Typeface("NotoSerif-Bold", "test", 0.714),
    Typeface("ComicNeue-Bold", "test", 0.67),
)


@lru_cache(maxsize=8)
def typefaces(split: str) -> tuple[Typeface, ...]:
    """The fonts of one split."""
    return tuple(face for face in TYPEFACES if face.split == split)


def lettering(text: str, face: Typeface, cap: int) -> NDArray[np.uint8]:
    """Text as a mask: uint8[h, w], no empty row or column. cap: height of a capital letter, px."""
    font = _font(face, cap)
    left, top, right, bottom = font.getbbox(text)
    sheet = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4), 0)
    ImageDraw.Draw(sheet).text((2 - left, 2 - top), text, fill=255, font=font)
    return trim(np.asarray(sheet))


@lru_cache(maxsize=512)
def _font(face: Typeface, cap: int) -> ImageFont.FreeTypeFont:
    assert face.path.is_file(), f"the bundled font {face.path} is missing: the package is incomplete"
    # The basic layout engine is in every build of Pillow; the other one is optional and spaces letters differently.
    return ImageFont.truetype(str(face.path), cap / face.cap, layout_engine=ImageFont.Layout.BASIC)
