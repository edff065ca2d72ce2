"""Pictures of any origin to uint8[H, W, 3], or one clear MediaError.

Nothing is decoded to learn a size: headers are enough. Files over MAX_PIXELS are refused before decoding.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from vitrail.contracts.errors import MediaError

MAX_PIXELS = 100_000_000
"""Largest picture decoded, in pixels: a decompression bomb is refused by its header."""

ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)


def describe(image: object) -> str:
    """How a message to the user names a picture."""
    if isinstance(image, str | Path):
        return f"picture '{image}'"
    return f"picture given as {type(image).__name__}"


def size(image: object) -> tuple[int, int]:
    """Width and height in px after EXIF rotation, from the header alone. Raises MediaError."""
    if isinstance(image, np.ndarray):
        return int(image.shape[1]), int(image.shape[0])
    with _opened(image) as opened:
        width, height = opened.size
        return (height, width) if opened.getexif().get(ORIENTATION) in SIDEWAYS else (width, height)


def load(image: object) -> NDArray[np.uint8]:
    """Decodes to uint8[H, W, 3]: EXIF rotation applied, transparency laid on white. Raises MediaError."""
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise MediaError(f"a picture array must be uint8[H, W, 3], got {image.dtype}{list(image.shape)}")
        return image
    with _opened(image) as opened:
        try:
            return np.asarray(_to_rgb(ImageOps.exif_transpose(opened)))
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise MediaError(f"{describe(image)} is damaged: {error}") from error


def _opened(image: Any) -> Image.Image:
    """Opens lazily; checks kind and size."""
    if isinstance(image, Image.Image):
        return image.copy()
    if isinstance(image, str | Path) and not Path(image).is_file():
        raise MediaError(f"{describe(image)} does not exist")
    source = io.BytesIO(image) if isinstance(image, bytes) else image
    with warnings.catch_warnings():
        # Pillow warns above its own limit; ours below is an error, with a number.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            opened = Image.open(source)
        except UnidentifiedImageError as error:
            raise MediaError(f"{describe(image)} is not a picture") from error
        except Image.DecompressionBombError as error:
            raise MediaError(f"{describe(image)} is larger than {MAX_PIXELS:,} pixels") from error
        except (OSError, TypeError, AttributeError) as error:
            raise MediaError(f"{describe(image)} cannot be opened: {error}") from error
    width, height = opened.size
    if width * height > MAX_PIXELS:
        opened.close()
        raise MediaError(f"{describe(image)} has {width} x {height} pixels, more than the {MAX_PIXELS:,} allowed")
    return opened


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode to RGB; transparent pixels become white, 16-bit greys keep their range."""
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.asarray(image).astype(np.float32) / 257.0
        image = Image.fromarray(np.clip(grey + 0.5, 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    return image.convert("RGB")
