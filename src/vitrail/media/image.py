"""Pictures of any origin to uint8[H, W, 3], or one clear MediaError.

Nothing is decoded to learn a size: headers are enough. Files over MAX_PIXELS are refused before decoding, files of
formats that are not on the list of `media/intake.py` before any decoder sees them. Colours: `media/colours.py`.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError, features

from vitrail.contracts.errors import MediaError
from vitrail.media.colours import to_rgb
from vitrail.media.intake import ALLOWED, FORMATS, HEAD, MAX_BYTES, RefusedError, check_blocks, format_of

MAX_PIXELS = 100_000_000
"""Largest picture decoded, in pixels: a decompression bomb is refused by its header."""

LONGEST_NAME = 200
"""Characters of a picture's name that a message shows: data given instead of a name may be megabytes."""

ORIENTATION = 0x0112
TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation to what makes the picture upright; from 5 on, width and height are exchanged."""


def describe(image: object) -> str:
    """How a message to the user names a picture, on one line."""
    if isinstance(image, str | Path):
        name = str(image)
        name = name if name.isprintable() else ascii(name)[1:-1]
        return f"picture '{name if len(name) <= LONGEST_NAME else name[:LONGEST_NAME] + ' ...'}'"
    return f"picture given as {type(image).__name__}"


def size(image: object) -> tuple[int, int]:
    """Width and height in px after EXIF rotation, from the header alone. Raises MediaError."""
    if isinstance(image, np.ndarray):
        height, width, _ = _checked(image).shape
        return width, height
    with _opened(image, whole=False) as (opened, orientation):
        width, height = opened.size
        return (height, width) if orientation >= 5 else (width, height)


def load(image: object) -> NDArray[np.uint8]:
    """Decodes to uint8[H, W, 3] in sRGB: EXIF rotation applied, transparency laid on white, the first frame or page.

    Raises MediaError. What becomes of each kind of picture: docs/pictures.md.
    """
    if isinstance(image, np.ndarray):
        return _checked(image)
    with _opened(image, whole=True) as (opened, orientation), _quiet():
        opened.load()  # which may still change mode and info
        upright = TRANSPOSES.get(orientation)
        return np.asarray(to_rgb(opened if upright is None else opened.transpose(upright)))


def _checked(image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise MediaError(f"a picture array must be uint8[H, W, 3], got {image.dtype}{list(image.shape)}")
    return image


@contextmanager
def _opened(image: Any, *, whole: bool) -> Iterator[tuple[Image.Image, int]]:
    """A picture opened lazily, its size checked, and its EXIF orientation; closed at the end unless it is the caller's.

    whole: check also what counts only where the picture is going to be decoded.
    Whatever is raised inside comes out as a MediaError: on hostile bytes, decoders raise errors of every kind.
    """
    with ExitStack() as ours:
        try:
            if isinstance(image, Image.Image):
                opened = image
                if opened.format not in (None, "MPO", *FORMATS):
                    raise RefusedError(f"is of the format {opened.format}, which is not read; {ALLOWED}")
            else:
                opened = ours.enter_context(_open(image, ours, whole))
            width, height = opened.size
            if width * height > MAX_PIXELS:
                raise RefusedError(f"has {width} x {height} pixels, more than the {MAX_PIXELS:,} allowed")
            if not width * height:
                raise RefusedError("is empty: it has no pixels")
            yield opened, _orientation(opened)
        except RefusedError as error:
            raise MediaError(f"{describe(image)} {error}") from error
        except MediaError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise MediaError(f"{describe(image)} is damaged: {reason}") from error


def _open(image: Any, ours: ExitStack, whole: bool) -> Image.Image:
    """Reads the header. What it opens for that is closed with `ours`."""
    file = _file(image, ours)
    if file.seek(0, os.SEEK_END) > MAX_BYTES:
        raise RefusedError(f"has {file.tell():,} bytes, more than the {MAX_BYTES:,} allowed")
    file.seek(0)
    name = format_of(file.read(HEAD))
    check_blocks(file, name, whole=whole)
    if name == "HEIF":
        _register_heif()
    with _quiet():
        try:
            return Image.open(file, formats=(name,))
        except (UnidentifiedImageError, KeyError) as error:
            if name in ("AVIF", "WEBP") and name.lower() not in features.get_supported():
                raise RefusedError(
                    f"is of the format {name}, which this Pillow does not read: pip install --upgrade pillow"
                ) from error
            raise RefusedError(f"is damaged: it begins as a {name} file, but its header cannot be read") from error
        except Image.DecompressionBombError as error:
            raise RefusedError(f"has more than the {MAX_PIXELS:,} pixels allowed") from error


def _file(image: Any, ours: ExitStack) -> BinaryIO:
    if isinstance(image, bytes):
        return io.BytesIO(image)
    if not isinstance(image, str | Path):
        raise RefusedError("cannot be opened: a picture is a path, bytes, a Pillow image or an array uint8[H, W, 3]")
    _require_file(Path(image))
    try:
        return ours.enter_context(Path(image).open("rb"))
    except OSError as error:
        raise RefusedError(f"cannot be opened: {error.strerror}") from error


def _register_heif() -> None:
    """HEIC is read by a package of its own, which Pillow must be told of."""
    if find_spec("pillow_heif") is None:
        raise RefusedError("is a HEIC picture, which is read with the pillow-heif package: pip install pillow-heif")
    import_module("pillow_heif").register_heif_opener()


def _require_file(path: Path) -> None:
    try:
        exists, is_file = path.exists(), path.is_file()
    except OSError as error:  # a name that no file can have
        raise MediaError(f"{describe(path)} cannot be opened: {error.strerror}") from error
    if not exists and path.is_symlink():
        raise MediaError(f"{describe(path)} is a link to {describe(os.readlink(path))}, which does not exist")
    if not exists:
        raise MediaError(f"{describe(path)} does not exist")
    if not is_file:
        raise MediaError(f"{describe(path)} is not a file")


def _orientation(opened: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 when there is none that can be read.

    Only what the header holds: asking Pillow for a PNG's EXIF would decode all of it, to look behind the pixels too.
    """
    if opened.format == "TIFF":
        return 1  # Pillow rotates these itself: `size` as soon as they are opened, pixels when they are decoded.
    header = Image.new("L", (1, 1))
    header.info = opened.info
    with _quiet():
        try:
            found = header.getexif().get(ORIENTATION)
        except Exception:  # as decoders; the pixels may be fine
            return 1
    return found if found in TRANSPOSES else 1


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's warnings: of large pictures, where ours is an error with a number; of EXIF that breaks off."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
