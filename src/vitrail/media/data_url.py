"""Media inside addresses: `data:image/png;base64,...` to bytes. Strict: what is not exactly that is refused."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Literal

from vitrail.contracts.errors import MediaError
from vitrail.media.intake import MAX_BYTES

Medium = Literal["picture", "sound"]
TYPES: Mapping[Medium, str] = {"picture": "image/", "sound": "audio/"}
"""What the type in a data URL begins with."""

LONGEST_TYPE = 256
"""Characters before the comma."""


def is_data_url(text: str) -> bool:
    """Whether a text is a data URL, well formed or not. `DATA:` counts too."""
    return text[:5].lower() == "data:"


def decoded(url: str, most_bytes: int = MAX_BYTES, medium: Medium = "picture") -> bytes:
    """The bytes of a data URL of a picture or a sound; what they are is for the decoder to find out, whatever it says.

    Raises MediaError, on one line that shows nothing of the data, for no comma, a type of something else, no
    `;base64`, characters outside the alphabet (blanks and line breaks too), wrong padding, nothing at all, and more
    than `most_bytes`.

    Source: RFC 2397; RFC 4648 section 4.
    """
    head, comma, data = url[5:].partition(",")
    whose, kind = f"a {medium}'s", TYPES[medium]
    if not is_data_url(url) or not comma or len(head) > LONGEST_TYPE:
        raise MediaError(f"{whose} data URL must be 'data:{kind}...;base64,' and then the {medium}")
    media_type, *settings = (piece.strip().lower() for piece in head.split(";"))
    if not media_type.startswith(kind) and media_type not in ("", "application/octet-stream"):
        raise MediaError(f"{whose} data URL is of type {media_type[:40]!a}; allowed: {kind}...")
    if not settings or settings[-1] != "base64":
        raise MediaError(f"{whose} data URL is not base64: it does not say ';base64' before the comma")
    if len(data) > 4 * -(-most_bytes // 3):
        raise MediaError(f"{whose} data URL holds more than the {most_bytes:,} bytes allowed")
    try:
        found = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MediaError(f"{whose} data URL is not base64: {error}") from error
    if not found:
        raise MediaError(f"{whose} data URL is empty")
    if len(found) > most_bytes:
        raise MediaError(f"{whose} data URL holds more than the {most_bytes:,} bytes allowed")
    return found
