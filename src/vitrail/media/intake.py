"""What a file is, by its first bytes, and whether it may reach a decoder: an allowlist, and limits on metadata.

Cheap: the first 512 bytes, then headers of the blocks before the pixels. No decoder runs here, and none runs for a file
that is refused here: decoders of rare formats are where most advisories against Pillow are (PSD, FITS, DDS, EPS).
Media inside addresses, `data:image/png;base64,...`, become bytes here too; what is not exactly that is refused.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import BinaryIO, Literal

from vitrail.contracts.errors import MediaError

Medium = Literal["picture", "sound"]
TYPES: Mapping[Medium, str] = {"picture": "image/", "sound": "audio/"}
"""What the type in a data URL begins with."""

LONGEST_TYPE = 256
"""Characters of a data URL before the comma."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF", "HEIF")
"""Pillow's names of what is decoded; HEIF only where the pillow-heif package is installed."""

ALLOWED = "allowed: PNG, JPEG, WebP, GIF, TIFF, BMP, PPM, AVIF, and HEIC with pillow-heif"

MAX_BYTES = 512 * 2**20
"""Largest file or data URL, in bytes: more than MAX_PIXELS of four channels take."""

MAX_METADATA = 16 * 2**20
"""Most bytes of EXIF, colour profile, text and comments before the pixels of a PNG, a JPEG or a GIF."""

MAX_BLOCKS = 20_000
"""Most blocks that are not pixels in a PNG, a JPEG or a GIF, whose readers are loops in Python."""

MAX_SCANS = 100
"""Most scans of a JPEG. A progressive one has about ten; each costs a pass over the whole picture."""

HEAD = 512
"""Bytes that `format_of` looks at."""

SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
)
BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIF"),
}
"""What bytes 8 to 12 of an ISO media file say; mif1 and msf1 leave it to the list of brands behind them."""

UNREAD = (
    (b"%PDF-", "a PDF document"),
    (b"%!PS", "a PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "an EPS file"),
    (b"8BPS", "a Photoshop file"),
    (b"SIMPLE  =", "a FITS file"),
    (b"DDS ", "a DDS texture"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\1\0", "an icon (ICO)"),
    (b"\0\0\2\0", "a cursor or a Targa picture (CUR, TGA)"),
    (b"\xd7\xcd\xc6\x9a", "a Windows metafile (WMF)"),
    (b"\1\0\x09\0", "a Windows metafile (WMF)"),
    (b"\1\0\0\0", "a Windows metafile (EMF)"),
    (b"#define ", "an X bitmap (XBM)"),
    (b"/* XPM", "an X pixmap (XPM)"),
    (b"PK\3\4", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
)
"""First bytes of what people take for pictures."""


class RefusedError(MediaError):
    """Why a picture is not taken, as what follows its name: "is a PDF document, which is not read"."""


def format_of(head: bytes) -> str:
    """Pillow's name of the format of a file that begins so. Raises RefusedError for all that is not in FORMATS.

    The file's name is never asked: a PNG called `.jpg` is a PNG.
    """
    for signature, name in SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:1] == b"P" and head[1:2] in tuple(b"%d" % digit for digit in range(1, 7)) and head[2:3].isspace():
        return "PPM"
    if head[4:8] == b"ftyp" and head[8:12] in BRANDS:
        found = BRANDS[head[8:12]]
        others = head[16 : int.from_bytes(head[:4])]
        return "AVIF" if found == "HEIF" and b"avif" in others and b"heic" not in others else found
    raise RefusedError(_what_else(head))


def _what_else(head: bytes) -> str:
    if not head:
        return "is not a picture: it is empty"
    for signature, name in UNREAD:
        if head.startswith(signature):
            return f"is {name}, which is not read; {ALLOWED}"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"version https://git-lfs.github.com/spec/"):
        return "is not a picture but a Git-LFS pointer to one: run `git lfs pull` in its repository"
    if text.startswith(b"<svg") or (text.startswith((b"<?xml", b"<!doctype svg", b"<!--")) and b"<svg" in text):
        return f"is an SVG drawing, which is not read; {ALLOWED}"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "is not a picture: it is a web page (a server's error page, saved as a picture?)"
    if text.startswith(b"<?xml"):
        return "is not a picture: it is XML"
    if text.startswith((b'{"', b"{\n", b"{ ", b"[{", b'["')):
        return "is not a picture: it is JSON"
    return "is not a picture"


def check_blocks(file: BinaryIO, name: str, *, whole: bool) -> None:
    """Refuses files whose metadata would cost more than a picture may. Leaves the file somewhere in its middle.

    whole: look at what lies behind the pixels too, and at the number of a JPEG's scans: worth it before decoding only.
    Whatever is broken in a file is left to its decoder to say.
    """
    tally = _Tally()
    if name == "PNG":
        _png(file, tally, whole=whole)
    elif name == "JPEG":
        _jpeg(file, tally)
        if whole:
            _scans(file)
    elif name == "GIF":
        _gif(file, tally)


class _Tally:
    """What was met that is not pixels."""

    def __init__(self) -> None:
        self.blocks = self.bytes = 0

    def add(self, length: int) -> None:
        self.blocks += 1
        self.bytes += length
        if self.bytes > MAX_METADATA:
            raise RefusedError(f"carries more than the {MAX_METADATA:,} bytes of metadata allowed")
        if self.blocks > MAX_BLOCKS:
            raise RefusedError(f"has more than the {MAX_BLOCKS:,} blocks without pixels allowed")


def _png(file: BinaryIO, tally: _Tally, *, whole: bool) -> None:
    file.seek(8)
    moving = pixels = False
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4]), head[4:]
        if kind == b"IDAT":
            if not whole:
                return
            pixels = True
        elif kind == b"IEND" or (kind == b"fcTL" and moving and pixels):  # where decoding the first frame ends
            return
        else:
            moving = moving or kind == b"acTL"
            tally.add(length)
        file.seek(length + 4, 1)


def _jpeg(file: BinaryIO, tally: _Tally) -> None:
    file.seek(2)
    while file.read(1) == b"\xff":
        marker = file.read(1)
        if not marker or marker in b"\xda\xd9":  # the first scan, or the end
            return
        if marker in b"\x00\x01\xd0\xd1\xd2\xd3\xd4\xd5\xd6\xd7\xd8\xff":  # no length follows
            tally.add(0)
            if marker == b"\xff":  # filling, of which the next one is the marker's
                file.seek(-1, 1)
            continue
        length = int.from_bytes(file.read(2))
        if length < 2:
            return
        tally.add(length)
        file.seek(length - 2, 1)


def _gif(file: BinaryIO, tally: _Tally) -> None:
    file.seek(10)
    flags = int.from_bytes(file.read(1))
    file.seek(13 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0))
    while (kind := file.read(1)) not in (b"", b",", b";"):  # until the first picture, or the end
        tally.add(0)
        if kind == b"!":
            file.seek(1, 1)
            while length := int.from_bytes(file.read(1)):
                tally.add(length)
                file.seek(length, 1)


def _scans(file: BinaryIO) -> None:
    """Starts of scans, those of thumbnails included; inside a scan no such bytes can stand."""
    file.seek(0)
    found, last = 0, b""
    while block := file.read(2**20):
        found += block.count(b"\xff\xda") + (last + block[:1] == b"\xff\xda")
        last = block[-1:]
        if found > MAX_SCANS:
            raise RefusedError(f"is a JPEG of more than the {MAX_SCANS} scans allowed")


def is_data_url(text: str) -> bool:
    """Whether a text is a data URL, well formed or not. `DATA:` counts too."""
    return text[:5].lower() == "data:"


def data_of(url: str, most_bytes: int = MAX_BYTES, medium: Medium = "picture") -> bytes:
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
