"""Pixels of every kind to RGB of 8 bits: greys, palettes, ink, transparency, 16 bits, colour profiles.

Costs one to three copies of the picture; following a profile, some 20 ms a megapixel. Profiles are followed by Pillow's
ImageCms (LittleCMS), where Pillow was built with it; the transforms of the last few profiles are kept.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from vitrail.media.intake import RefusedError

MAX_PROFILE = 4 * 2**20
"""Bytes of the largest colour profile that is followed; those of printing presses have up to about 3 million."""

SPACES: Mapping[str, str] = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
"""The colour space that a profile must be of, by Pillow's mode."""


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
