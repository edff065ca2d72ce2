"""The bundled fonts, each in one split only, a font file of the user's own, and text drawn with them.

Licences and sources: `fonts/README.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vitrail.contracts.errors import DataError
from vitrail.synthetic.shapes import trim

FOLDER = Path(__file__).parent / "fonts"

_CHINESE_SAMPLE = "合计日期"
_CHINESE_CAP = (
    0.62  # less than in most such fonts, so that they are set larger: characters have more strokes than letters
)


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


@dataclass(frozen=True)
class TypefaceFile(Typeface):
    """A typeface that is read from `file`."""

    file: Path = Path()

    @property
    def path(self) -> Path:
        """Where the font file is."""
        return self.file


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

# Apart from TYPEFACES, with which the scenes are drawn: a font added there would change the pictures of their seeds.
DOCUMENT_TYPEFACES: tuple[Typeface, ...] = (
    Typeface("Inter-Regular", "train", 0.728),
    Typeface("Roboto-Regular", "train", 0.711),
    Typeface("Arimo-Regular", "train", 0.688),
    Typeface("Arimo-Bold", "train", 0.688),
    Typeface("WorkSans-Regular", "train", 0.66),
    Typeface("Karla-Regular", "train", 0.628),
    Typeface("Barlow-Medium", "train", 0.7),
    Typeface("ArchivoNarrow-Regular", "train", 0.686),
    Typeface("Tinos-Regular", "train", 0.655),
    Typeface("Tinos-Bold", "train", 0.655),
    Typeface("EBGaramond-Regular", "train", 0.653),
    Typeface("LibreBaskerville-Regular", "train", 0.77),
    Typeface("CrimsonPro-Regular", "train", 0.573),
    Typeface("ZillaSlab-Regular", "train", 0.65),
    Typeface("Domine-Bold", "train", 0.72),
    Typeface("RobotoMono-Regular", "train", 0.711),
    Typeface("SpaceMono-Regular", "train", 0.7),
    Typeface("CourierPrime-Regular", "train", 0.58),
    Typeface("Inconsolata-Regular", "train", 0.623),
    Typeface("VT323-Regular", "train", 0.56),
    Typeface("PublicSans-Regular", "test", 0.723),
    Typeface("Manrope-Medium", "test", 0.72),
    Typeface("Literata-Regular", "test", 0.701),
    Typeface("LibreCaslonText-Regular", "test", 0.77),
    Typeface("RedHatMono-Regular", "test", 0.7),
    Typeface("DMMono-Regular", "test", 0.7),
)


@lru_cache(maxsize=8)
def typefaces(split: str) -> tuple[Typeface, ...]:
    """The fonts of one split."""
    return tuple(face for face in TYPEFACES if face.split == split)


@lru_cache(maxsize=8)
def reading_typefaces(split: str) -> tuple[Typeface, ...]:
    """The fonts of one split for lines and documents."""
    return typefaces(split) + tuple(face for face in DOCUMENT_TYPEFACES if face.split == split)


def chinese_typeface(file: Path, split: str) -> TypefaceFile:
    """The typeface of a font file with Chinese characters. Raises DataError when it is none, or has none."""
    try:
        font = ImageFont.truetype(str(file), 24, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise DataError(f"drawn documents: font '{file}' cannot be read: {error}") from error
    # A font draws the same empty box for every character that it lacks.
    if len({bytes(font.getmask(character)) for character in _CHINESE_SAMPLE}) < len(_CHINESE_SAMPLE):
        raise DataError(f"drawn documents: font '{file}' has no Chinese characters")
    return TypefaceFile(file.stem, split, _CHINESE_CAP, file)


def lettering_on_baseline(text: str, face: Typeface, size: int) -> NDArray[np.uint8]:
    """Text as a mask: uint8[h, w], as high as the font says, so that lines of one font and size share a baseline.

    size: of the font, px.
    """
    font = _sized(face, size)
    ascent, descent = font.getmetrics()
    left, _, right, _ = font.getbbox(text)
    sheet = Image.new("L", (int(right - left) + 2, ascent + descent), 0)
    ImageDraw.Draw(sheet).text((1 - left, 0), text, fill=255, font=font)
    return np.asarray(sheet)


def middles(text: str, face: Typeface, size: int) -> list[tuple[float, float]]:
    """The middle of each character in the mask of `lettering_on_baseline`, (x, y) in px."""
    font = _sized(face, size)
    ascent, _ = font.getmetrics()
    shift = 1 - font.getbbox(text)[0]
    edges = [shift + font.getlength(text[:end]) for end in range(len(text) + 1)]
    # Half-way up a capital letter.
    return [((left + right) / 2, ascent - face.cap * size / 2) for left, right in pairwise(edges)]


def lettering(text: str, face: Typeface, cap: int) -> NDArray[np.uint8]:
    """Text as a mask: uint8[h, w], no empty row or column. cap: height of a capital letter, px."""
    font = _font(face, cap)
    left, top, right, bottom = font.getbbox(text)
    sheet = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4), 0)
    ImageDraw.Draw(sheet).text((2 - left, 2 - top), text, fill=255, font=font)
    return trim(np.asarray(sheet))


def _font(face: Typeface, cap: int) -> ImageFont.FreeTypeFont:
    return _sized(face, cap / face.cap)


@lru_cache(maxsize=512)
def _sized(face: Typeface, size: float) -> ImageFont.FreeTypeFont:
    assert face.path.is_file(), f"the bundled font {face.path} is missing: the package is incomplete"
    # The basic layout engine is in every build of Pillow; the other one is optional and spaces letters differently.
    return ImageFont.truetype(str(face.path), size, layout_engine=ImageFont.Layout.BASIC)
