"""Pictures of any origin to uint8[H, W, 3], or one clear MediaError.

Nothing is decoded to learn a size: headers are enough. Files over MAX_PIXELS are refused before decoding.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vitrail.contracts.errors import MediaError

MAX_PIXELS = 100_000_000
"""Largest picture decoded, in pixels: a decompression bomb is refused by its header."""

LONGEST_NAME = 200
"""Characters of a picture's name that a message shows: data in the wrong place may be megabytes."""

ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation to what makes the picture upright; from 5 on, width and height change places."""


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
    with _opened(image) as (opened, orientation):
        width, height = opened.size
        return (height, width) if orientation >= 5 else (width, height)


def load(image: object) -> NDArray[np.uint8]:
    """Decodes to uint8[H, W, 3]: EXIF rotation applied, transparency laid on white. Raises MediaError."""
    if isinstance(image, np.ndarray):
        return _checked(image)
    with _opened(image) as (opened, orientation):
        opened.load()  # which may still change mode and info
        turn = TURNS.get(orientation)
        return np.asarray(_to_rgb(opened if turn is None else opened.transpose(turn)))


def _checked(image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise MediaError(f"a picture array must be uint8[H, W, 3], got {image.dtype}{list(image.shape)}")
    return image


@contextmanager
def _opened(image: Any) -> Iterator[tuple[Image.Image, int]]:
    """A picture opened lazily, its size checked, and its EXIF orientation; closed at the end unless it is the caller's.

    Whatever is raised inside comes out as a MediaError: on hostile bytes, decoders raise errors of every kind.
    """
    ours: Image.Image | None = None
    try:
        if isinstance(image, Image.Image):
            opened = image
        else:
            opened = ours = _open(image)
        width, height = opened.size
        if width * height > MAX_PIXELS:
            raise MediaError(f"{describe(image)} has {width} x {height} pixels, more than the {MAX_PIXELS:,} allowed")
        yield opened, _orientation(opened)
    except MediaError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MediaError(f"{describe(image)} is damaged: {reason}") from error
    finally:
        if ours is not None:
            ours.close()


def _open(image: Any) -> Image.Image:
    """Reads the header."""
    if isinstance(image, str | Path):
        _require_file(Path(image))
    source = io.BytesIO(image) if isinstance(image, bytes) else image
    with _quiet():
        try:
            return Image.open(source)
        except UnidentifiedImageError as error:
            raise MediaError(f"{describe(image)} is not a picture") from error
        except Image.DecompressionBombError as error:
            raise MediaError(f"{describe(image)} has more than the {MAX_PIXELS:,} pixels allowed") from error
        except (OSError, TypeError, AttributeError) as error:
            raise MediaError(f"{describe(image)} cannot be opened: {error}") from error


def _require_file(path: Path) -> None:
    try:
        exists, is_file = path.exists(), path.is_file()
    except OSError as error:  # a name that no file can have
        raise MediaError(f"{describe(path)} cannot be opened: {error.strerror}") from error
    if not exists:
        raise MediaError(f"{describe(path)} does not exist")
    if not is_file:
        raise MediaError(f"{describe(path)} is not a file")


def _orientation(opened: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 when there is none that can be read.

    Only what the header holds: asking Pillow for a PNG's EXIF would decode all of it, to look behind the pixels too.
    """
    if opened.format == "TIFF":
        return 1  # Pillow turns these itself: `size` as soon as they are opened, pixels when they are decoded.
    header = Image.new("L", (1, 1))
    header.info = opened.info
    with _quiet():
        try:
            found = header.getexif().get(ORIENTATION)
        except Exception:  # as decoders; the pixels may be fine
            return 1
    return found if found in TURNS else 1


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's warnings: of large pictures, where ours is an error with a number; of EXIF that breaks off."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode to RGB; transparent pixels become white, 16-bit greys keep their range."""
    if image.mode == "F":
        raise MediaError("a picture of floating-point pixels does not say which value is white")
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.asarray(image).astype(np.float32) / 257.0
        image = Image.fromarray(np.clip(grey + 0.5, 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    return image.convert("RGB")
