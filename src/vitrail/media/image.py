"""Pictures of any origin to uint8[H, W, 3], or one clear MediaError.

Nothing is decoded to learn a size: headers are enough. Files over MAX_PIXELS are refused before decoding, files of
formats that are not on the list of `media/intake.py` before any decoder sees them. Pixels of every kind become RGB of 8
bits: greys, palettes, ink, transparency, 16 bits, colour profiles. That costs one to three copies of the picture;
following a profile, some 20 ms a megapixel. Profiles are followed by Pillow's ImageCms (LittleCMS), where Pillow was
built with it; the transforms of the last few profiles are kept.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError, features

from vitrail.contracts.errors import MediaError
from vitrail.media.intake import ALLOWED, FORMATS, HEAD, MAX_BYTES, RefusedError, check_blocks, format_of

MAX_PIXELS = 100_000_000
"""Largest picture decoded, in pixels: a decompression bomb is refused by its header."""

LONGEST_NAME = 200
"""Characters of a picture's name that a message shows: data given instead of a name may be megabytes."""

MAX_PROFILE = 4 * 2**20
"""Bytes of the largest colour profile that is followed; those of printing presses have up to about 3 million."""

SPACES: Mapping[str, str] = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
"""The colour space that a profile must be of, by Pillow's mode."""

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


def to_rgb(image: Image.Image) -> Image.Image:
    """A decoded picture of any mode as RGB: colours by its profile, transparency laid on white. Raises RefusedError.

    Without a profile, or with one that cannot be followed or is called sRGB, values are taken as sRGB; ink is then
    (255 - C)(255 - K) / 255 and so on. 16-bit greys are rounded to 8 bits; 16-bit colours are cut to their high byte,
    which is how Pillow decodes them.
    """
    profile = image.info.get("icc_profile")
    image = _eight_bits(image)
    if image.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in image.info:
        return _by_profile(image if image.mode in ("L", "CMYK") else image.convert("RGB"), profile)
    grey = image.mode in ("LA", "L")
    image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    if profile:
        colours = _by_profile(image.getchannel("R") if grey else image.convert("RGB"), profile)
        colours.putalpha(image.getchannel("A"))
        image = colours
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Greys of 16 bits to L, or to LA where one level means transparent; the rest as it is."""
    if image.mode == "F":
        raise RefusedError("has floating-point pixels, which do not say which value is white")
    if image.mode == "LAB":
        raise RefusedError("has LAB colours, which are not read")
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return image
    levels = np.asarray(image)
    if image.format == "TIFF" and image.mode == "I":
        raise RefusedError("has pixels of 32 bits or with a sign, which do not say which value is white")
    if levels.size and (levels.min() < 0 or levels.max() > 65535):
        raise RefusedError("has whole numbers outside 0 to 65535 for pixels, which do not say which value is white")
    grey = Image.fromarray(np.clip(levels.astype(np.float32) / 257.0 + 0.5, 0, 255).astype(np.uint8))
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(levels == clear, 0, 255).astype(np.uint8)))
    return grey


def _by_profile(image: Image.Image, profile: object) -> Image.Image:
    """L, RGB or CMYK to RGB: by the picture's colour profile where it can be followed."""
    if isinstance(profile, bytes) and 0 < len(profile) <= MAX_PROFILE:
        transform = _transform(profile, image.mode)
        if transform is not None:
            done: Image.Image = transform.apply(image)
            return done
    return image.convert("RGB")


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> Any:
    """An ImageCmsTransform to sRGB; None where the pixels are sRGB already, or the profile cannot be followed.

    A profile for another number of channels, a damaged one, and a Pillow without LittleCMS are all met in the wild, and
    the picture without its profile is still the picture.
    """
    try:
        from PIL import ImageCms

        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        named = ImageCms.getProfileDescription(source).lower()
        if source.profile.xcolor_space.strip() != SPACES[mode] or ("srgb" in named and "linear" not in named):
            return None
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except Exception:  # as decoders, on hostile bytes
        return None
