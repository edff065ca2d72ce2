"""Pictures from the wild, numbered: "4.3 ..." by kind of picture, "row N" by kind of attack; decoded right, or refused.

Every file is made here, in code.
"""

from __future__ import annotations

import io
import struct
import sys
import tracemalloc
import types
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, features

from vitrail.contracts.errors import MediaError
from vitrail.media import image, intake
from vitrail.media.config import NativeResolutionConfig
from vitrail.media.native import NativeResolution

Pixels = NDArray[Any]
PNG = b"\x89PNG\r\n\x1a\n"


def encoded(picture: Image.Image, kind: str, **settings: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **settings)
    return file.getvalue()


def chunk(kind: bytes, data: bytes = b"", crc: int | None = None) -> bytes:
    return (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) if crc is None else crc)
    )


def png(width: int, height: int, body: bytes, *, bits: int = 8, colour: int = 2, before: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return PNG + header + before + chunk(b"IDAT", body) + chunk(b"IEND")


def quarters(width: int = 24, height: int = 16) -> NDArray[np.uint8]:
    """Four quarters of four colours."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = 250, 10, 10
    pixels[: height // 2, width // 2 :] = 10, 250, 10
    pixels[height // 2 :, : width // 2] = 10, 10, 250
    pixels[height // 2 :, width // 2 :] = 250, 250, 10
    return pixels


def noise(width: int = 120, height: int = 80) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


QUARTERS = Image.fromarray(quarters())
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def flat(*colours: tuple[int, ...]) -> Pixels:
    return np.array([colours], np.uint8)


def refusal(given: object, read: Any = image.load) -> str:
    with pytest.raises(MediaError) as caught:
        read(given)
    assert len(str(caught.value).splitlines()) == 1, str(caught.value)
    assert str(caught.value).startswith("picture ")
    return str(caught.value)


# Pictures that are decoded


def ycck() -> bytes:
    """A JPEG of Photoshop's kind: inverted ink, its first three channels as luma and chroma."""
    inks = Image.new("CMYK", (16, 16), (105, 118, 128, 40))
    data = encoded(inks, "JPEG", quality=100)
    offset = data.index(b"Adobe") + 11
    assert data[offset] == 0, "Pillow writes its own inks as they are"
    return data[:offset] + b"\x02" + data[offset + 1 :]


def ycck_colour() -> Pixels:
    """By hand: luma and chroma give RGB, its complement the inks as they are stored, and those are stored inverted."""
    y, cb, cr = (255 - value for value in (105, 118, 128))
    red, green, blue = y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128)
    stored = 255 - np.array([red, green, blue])
    inks = 255 - stored
    return np.round((255 - inks) * (255 - 40) / 255)


def sixteen_bit_colours() -> bytes:
    row = b"".join(struct.pack(">HHH", *pixel) for pixel in ((0, 32896, 65535), (65535, 256, 255)))
    return png(2, 1, zlib.compress(b"\0" + row), bits=16)


def sixteen_bit_grey_with_a_clear_level() -> bytes:
    row = struct.pack(">HHH", 0, 257, 514)
    return png(3, 1, zlib.compress(b"\0" + row), bits=16, colour=0, before=chunk(b"tRNS", struct.pack(">H", 257)))


def palette(**settings: Any) -> bytes:
    picture = Image.new("P", (3, 1))
    picture.putpalette([*RED, 0, 255, 0, *BLUE])
    picture.putdata([0, 1, 2])
    return encoded(picture, "PNG", **settings)


def frames(kind: str, count: int = 3, **settings: Any) -> bytes:
    steps = [Image.new("RGB", (8, 8), RED), *(Image.new("RGB", (8, 8), (0, n % 256, 255)) for n in range(count - 1))]
    return encoded(steps[0], kind, save_all=True, append_images=steps[1:], **settings)


def two_levels() -> bytes:
    return encoded(Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1"), "PNG")


def with_alpha(mode: str) -> bytes:
    return encoded(Image.fromarray(np.array([[[200, 0, 0, 255], [200, 0, 0, 51]]], np.uint8)).convert(mode), "PNG")


GREY_ALPHA = Image.fromarray(np.array([[[80, 255], [80, 0]]], np.uint8))
DECODED: dict[str, tuple[Callable[[], bytes], Pixels, float]] = {
    "4.3 CMYK TIFF": (lambda: encoded(Image.new("CMYK", (9, 9), (0, 255, 255, 0)), "TIFF"), np.array(RED), 0),
    "4.3 CMYK JPEG": (lambda: encoded(Image.new("CMYK", (9, 9), (0, 255, 255, 0)), "JPEG"), np.array(RED), 3),
    "4.3 YCCK JPEG": (ycck, ycck_colour(), 3),
    "4.3 16-bit grey PNG": (
        lambda: encoded(Image.fromarray(np.array([[0, 257 * 128, 65535]], np.uint16)), "PNG"),
        flat((0,) * 3, (128,) * 3, WHITE),
        0,
    ),
    "4.3 16-bit grey TIFF": (
        lambda: encoded(Image.fromarray(np.array([[0, 257 * 128, 65535]], np.uint16)), "TIFF"),
        flat((0,) * 3, (128,) * 3, WHITE),
        0,
    ),
    "4.3 16-bit colour PNG": (sixteen_bit_colours, flat((0, 128, 255), (255, 1, 0)), 0),
    "4.3 16-bit grey PNG, one level clear": (sixteen_bit_grey_with_a_clear_level, flat((0,) * 3, WHITE, (2,) * 3), 0),
    "4.3 palette": (palette, flat(RED, (0, 255, 0), BLUE), 0),
    "4.3 palette, one colour clear": (lambda: palette(transparency=1), flat(RED, WHITE, BLUE), 0),
    "4.3 palette, half clear": (lambda: palette(transparency=b"\xff\x80\xff"), flat(RED, (127, 255, 127), BLUE), 0),
    "4.3 LA": (lambda: encoded(GREY_ALPHA, "PNG"), flat((80,) * 3, WHITE), 0),
    "4.3 RGBA": (lambda: with_alpha("RGBA"), flat((200, 0, 0), (244, 204, 204)), 0),
    "4.3 1-bit": (two_levels, flat((0, 0, 0), WHITE), 0),
    "4.3 GIF, first frame": (lambda: frames("GIF"), np.array(RED), 0),
    "4.3 WebP, first frame": (lambda: frames("WEBP", lossless=True), np.array(RED), 0),
    "4.3 APNG, first frame": (lambda: frames("PNG"), np.array(RED), 0),
    "4.3 TIFF, first page": (lambda: frames("TIFF"), np.array(RED), 0),
    "4.3 progressive JPEG": (
        lambda: encoded(QUARTERS, "JPEG", progressive=True, quality=95, subsampling=0),
        quarters(),
        30,
    ),
    "row 19 1x1": (lambda: encoded(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG"), flat((1, 2, 3)), 0),
    "row 19 3x1": (lambda: encoded(Image.new("L", (3, 1), 9), "PNG"), np.full((1, 3, 3), 9), 0),
    "row 19 1x3": (lambda: encoded(Image.new("RGB", (1, 3), (1, 2, 3)), "PNG"), np.full((3, 1, 3), (1, 2, 3)), 0),
    "row 18 65535x1": (lambda: encoded(Image.new("L", (65535, 1), 7), "PNG"), np.full((1, 65535, 3), 7), 0),
    "row 18 1x65535": (lambda: encoded(Image.new("L", (1, 65535), 7), "PNG"), np.full((65535, 1, 3), 7), 0),
    "row 18 20,000 px": (lambda: encoded(Image.new("L", (20_000, 30), 7), "PNG"), np.full((30, 20_000, 3), 7), 0),
    "row 20 missing IEND": (lambda: encoded(QUARTERS, "PNG")[:-12], quarters(), 0),
    "row 21 APNG of 600 frames": (lambda: frames("PNG", 600), np.array(RED), 0),
    "row 21 GIF of 600 frames": (lambda: frames("GIF", 600), np.array(RED), 0),
    "row 21 TIFF of 300 pages": (lambda: frames("TIFF", 300), np.array(RED), 0),
    "row 25 1 MB of EXIF": (
        lambda: PNG + chunk(b"eXIf", b"") + encoded(QUARTERS, "PNG", exif=b"Exif\0\0MM\0*" + b"\0" * 2**20)[8:],
        quarters(),
        0,
    ),
    "row 26 trailing 10 MB": (lambda: encoded(QUARTERS, "PNG") + b"\0" * 10_000_000, quarters(), 0),
    "row 26 PNG and web page": (lambda: encoded(QUARTERS, "PNG") + b"<html><script>alert(1)</script>", quarters(), 0),
    "row 26 PNG and zip": (lambda: encoded(QUARTERS, "PNG") + b"PK\3\4" + b"\0" * 60, quarters(), 0),
}


@pytest.mark.parametrize("case", DECODED)
def test_decoded_right(case: str) -> None:
    make, wanted, tolerance = DECODED[case]
    data = make()
    loaded = image.load(data)
    assert loaded.dtype == np.uint8
    assert loaded.shape == (*image.size(data)[::-1], 3)
    assert wanted.ndim == 1 or loaded.shape == wanted.shape
    assert np.abs(loaded.astype(int) - wanted).max() <= tolerance


@pytest.mark.skipif("avif" not in features.get_supported(), reason="this Pillow reads no AVIF")
def test_avif_where_pillow_reads_it() -> None:
    """Case 4.3 AVIF."""
    data = encoded(QUARTERS.resize((64, 48)), "AVIF", quality=95)
    assert image.size(data) == (64, 48)
    assert np.abs(image.load(data)[4, 4].astype(int) - (250, 10, 10)).max() < 12


@pytest.mark.parametrize("orientation", range(1, 9), ids=lambda number: f"row 24 EXIF {number}")
def test_every_orientation_gives_the_same_picture(orientation: int) -> None:
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # values of Image.Transpose
    laid = QUARTERS if orientation == 1 else QUARTERS.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[image.ORIENTATION] = orientation
    for kind in ("PNG", "TIFF"):
        data = encoded(laid, kind, exif=exif)
        assert image.size(data) == QUARTERS.size
        assert np.array_equal(image.load(data), quarters())


def test_the_name_of_a_file_does_not_matter(tmp_path: Path) -> None:
    """Cases 4.3 wrong extension."""
    for name in ("a.jpg", "a.pdf", "a.svg", "a", "a.png.html"):
        (tmp_path / name).write_bytes(encoded(QUARTERS, "PNG"))
        assert np.array_equal(image.load(tmp_path / name), quarters())


# Colour profiles


def profile(space: bytes, tags: dict[bytes, bytes], name: str = "made here") -> bytes:
    """An ICC profile of version 2."""
    described = name.encode() + b"\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", len(described)) + described + b"\0" * 78
    white = xyz(0.9642, 1.0, 0.8249)
    tags = {b"desc": text, b"wtpt": white, **tags}
    body, table, start = b"", b"", 132 + 12 * len(tags)
    for tag, data in tags.items():
        table += tag + struct.pack(">II", start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"none", 0x02100000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + white[8:]
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


SRGB = {"r": xyz(0.4361, 0.2225, 0.0139), "g": xyz(0.3851, 0.7169, 0.0971), "b": xyz(0.1431, 0.0606, 0.7139)}


def swapped(name: str = "red and blue swapped") -> bytes:
    """sRGB's primaries with red for blue: where it is followed, red pixels become blue ones."""
    tags = {b"rXYZ": SRGB["b"], b"gXYZ": SRGB["g"], b"bXYZ": SRGB["r"]}
    return profile(b"RGB ", {**tags, **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(2.2))}, name)


@pytest.mark.skipif("littlecms2" not in features.get_supported(), reason="this Pillow follows no profiles")
class TestProfiles:
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
    def test_colours_are_converted(self, kind: str) -> None:
        """Case 4.3 ICC."""
        data = encoded(Image.new("RGB", (16, 16), RED), kind, icc_profile=swapped())
        assert np.abs(image.load(data).astype(int) - BLUE).max() < 6

    def test_transparency_stays(self) -> None:
        pixels = Image.fromarray(np.array([[[255, 0, 0, 255], [255, 0, 0, 0]]], np.uint8))
        loaded = image.load(encoded(pixels, "PNG", icc_profile=swapped()))
        assert np.abs(loaded[0, 0].astype(int) - BLUE).max() < 6
        assert loaded[0, 1].tolist() == [255, 255, 255]

    def test_palettes(self) -> None:
        loaded = image.load(palette(icc_profile=swapped()))
        assert np.abs(loaded[0].astype(int) - (BLUE, (0, 255, 0), RED)).max() < 6

    def test_greys(self) -> None:
        """Levels that say how much light there is: half of it is level 188 of sRGB."""
        linear = profile(b"GRAY", {b"kTRC": curve(1.0)})
        for mode in ("L", "LA"):
            loaded = image.load(encoded(Image.new(mode, (4, 4), (128, 255)[: len(mode)]), "PNG", icc_profile=linear))
            assert np.abs(loaded.astype(int) - 188).max() <= 1, mode

    def test_one_that_is_called_srgb_changes_nothing(self) -> None:
        data = encoded(QUARTERS, "PNG", icc_profile=swapped("sRGB IEC61966-2.1"))
        assert np.array_equal(image.load(data), quarters())

    @pytest.mark.parametrize(
        "bad",
        [
            b"no profile",
            swapped()[:200],
            b"\0" * 4000,
            profile(b"GRAY", {b"kTRC": curve(1.0)}),
            swapped() + b"\0" * 2**22,
        ],
        ids=["text", "half", "zeros", "of greys", "large"],
    )
    def test_one_that_cannot_be_followed_is_ignored(self, bad: bytes) -> None:
        assert np.array_equal(image.load(encoded(QUARTERS, "TIFF", icc_profile=bad)), quarters())
        ink = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
        assert np.array_equal(image.load(encoded(ink, "TIFF", icc_profile=bad)), np.full((4, 4, 3), RED))


# Files that are refused

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
HEIC = struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + b"\0" * 200
AVIF_AS_MIF1 = struct.pack(">I", 24) + b"ftypmif1\0\0\0\0mif1avif" + b"\0" * 200


def half(kind: str, share: float, **settings: Any) -> bytes:
    data = encoded(Image.fromarray(noise()), kind, **settings)
    return data[: round(len(data) * share)]


def bad_crc() -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0), crc=1)
    return PNG + header + chunk(b"IDAT", zlib.compress(b"\0" * 20)) + chunk(b"IEND")


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = encoded(QUARTERS, "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * count + data[-2:]


def gif_of_comments(size: int) -> bytes:
    data = encoded(QUARTERS.convert("P"), "GIF")
    offset = data.index(b"\x2c")
    comment = b"\x21\xfe" + (b"\xff" + b"a" * 255) * (size // 255) + b"\0"
    return data[:offset] + comment + data[offset:]


def jpeg_with(segment: bytes, count: int) -> bytes:
    data = encoded(QUARTERS, "JPEG")
    return data[:2] + (b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment) * count + data[2:]


def png_with(*chunks: bytes) -> bytes:
    data = encoded(QUARTERS, "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "4.3 zero bytes": (lambda: b"", "it is empty"),
    "4.3 float TIFF": (lambda: encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "floating-point"),
    "4.3 32-bit TIFF": (lambda: encoded(Image.fromarray(np.ones((4, 4), np.int32)), "TIFF"), "32 bits"),
    "4.3 HEIC, plugin absent": (lambda: HEIC, "pip install pillow-heif"),
    "4.3 Git-LFS pointer": (lambda: LFS, "Git-LFS pointer"),
    **{
        f"4.3 JPEG cut at {share:.0%}": (lambda share=share: half("JPEG", share), "damaged")
        for share in (0.1, 0.5, 0.99)
    },
    **{
        f"4.3 PNG cut at {share:.0%}": (lambda share=share: half("PNG", share), "damaged") for share in (0.1, 0.5, 0.99)
    },
    **{f"4.3 {kind} cut at 50%": (lambda kind=kind: half(kind, 0.5), "") for kind in ("WEBP", "TIFF", "BMP", "GIF")},
    "row 16 one byte": (lambda: b"\x89", "is not a picture"),
    "row 16 random": (lambda: np.random.default_rng(4).bytes(4096), "is not a picture"),
    "row 16 web page": (lambda: b"\xef\xbb\xbf \n<!DOCTYPE html><html><title>403</title>", "it is a web page"),
    "row 16 JSON": (lambda: b'{"error": "not found"}', "it is JSON"),
    "row 16 XML": (lambda: b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "it is XML"),
    "row 16 text": (lambda: b"hello", "is not a picture"),
    "row 17 bomb of 50,000 px": (
        lambda: png(50_000, 50_000, zlib.compress(b"\0")),
        "more than the 100,000,000 ",
    ),
    "row 17 GIF of 65535x65535": (
        lambda: b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0" + encoded(QUARTERS.convert("P"), "GIF")[13:],
        "more than the 100,000,000 ",
    ),
    "row 19 0x0": (lambda: png(0, 0, zlib.compress(b"")), "damaged"),
    "row 19 0 wide": (lambda: png(0, 5, zlib.compress(b"\0" * 5)), "damaged"),
    "row 19 GIF of 0x0": (lambda: b"GIF89a" + b"\0" * 7 + b";", "damaged"),
    "row 20 bad CRC": (bad_crc, "damaged"),
    "row 22 EPS": (lambda: encoded(QUARTERS, "EPS"), "PostScript"),
    "row 22 PDF": (lambda: encoded(QUARTERS, "PDF"), "PDF"),
    "row 22 PSD": (lambda: b"8BPS\0\1" + b"\0" * 60, "Photoshop"),
    "row 22 FITS": (lambda: b"SIMPLE  =                    T".ljust(80) + b"END".ljust(80), "FITS"),
    "row 22 DDS": (lambda: encoded(QUARTERS, "DDS"), "DDS"),
    "row 22 JPEG 2000": (lambda: encoded(QUARTERS, "JPEG2000"), "JPEG 2000"),
    "row 22 ICO": (lambda: encoded(QUARTERS, "ICO"), "icon"),
    "row 22 SVG": (lambda: b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
    "row 22 SVG, bare": (lambda: b"<svg width='1'/>", "SVG"),
    "row 22 XBM": (lambda: encoded(QUARTERS.convert("1"), "XBM"), "XBM"),
    "row 22 WMF": (lambda: b"\xd7\xcd\xc6\x9a" + b"\0" * 60, "WMF"),
    "row 22 TGA": (lambda: encoded(QUARTERS, "TGA"), "TGA"),
    "row 25 17 MB of EXIF in a PNG": (
        lambda: png_with(chunk(b"eXIf", b"\0" * 17_000_000)),
        "16,777,216 bytes of metadata",
    ),
    "row 25 17 MB of EXIF in a JPEG": (lambda: jpeg_with(b"Exif\0\0" + b"\0" * 65_000, 270), "bytes of metadata"),
    "row 25 17 MB of comments in a GIF": (lambda: gif_of_comments(17_000_000), "allowed"),
    "row 25 iCCP that unpacks to 16 MB": (
        lambda: png_with(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(16 * 2**20), 1))),
        "too large",
    ),
    "row 25 zTXt that unpacks to 16 MB": (
        lambda: png_with(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(16 * 2**20), 1))),
        "too large",
    ),
    "row 25 30,000 empty blocks in a PNG": (lambda: png_with(chunk(b"tEXt", b"a\0") * 30_000), "20,000 blocks"),
    "row 25 30,000 empty blocks in a JPEG": (lambda: jpeg_with(b"", 30_000), "20,000 blocks"),
    "row 25 30,000 blocks behind a PNG's pixels": (
        lambda: encoded(QUARTERS, "PNG")[:-12] + chunk(b"tEXt", b"a\0") * 30_000 + chunk(b"IEND"),
        "20,000 blocks",
    ),
    "4.3 progressive JPEG of 500 scans": (lambda: scans(500), "more than the 100 scans"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as where it is not installed
    make, said = REFUSED[case]
    data = make()
    assert said in refusal(data)
    path = tmp_path / "picture.jpg"
    path.write_bytes(data)
    assert f"'{path}'" in refusal(path)


@pytest.mark.parametrize("case", [case for case in REFUSED if case.startswith(("row 16", "row 22"))])
def test_no_decoder_sees_what_is_not_on_the_list(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[object] = []
    monkeypatch.setattr(Image, "open", lambda *given, **settings: called.append(given))
    for read in (image.size, image.load):
        refusal(REFUSED[case][0](), read)
    assert called == []


def test_every_format_on_the_list_is_one_that_pillow_knows() -> None:
    Image.init()
    assert {*intake.FORMATS} - {*Image.OPEN, "HEIF", "AVIF"} == set()


def test_an_opened_picture_of_another_format_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 22 again: an EPS starts Ghostscript when it is decoded, not when it is opened."""
    with Image.open(io.BytesIO(encoded(QUARTERS, "EPS"))) as opened:
        monkeypatch.setattr(type(opened), "load", lambda *_: pytest.fail("decoded"))
        assert "format EPS, which is not read" in refusal(opened)


def test_a_bomb_costs_no_memory() -> None:
    """Row 17."""
    data = png(50_000, 50_000, zlib.compress(b"\0" * 10_000))
    image.size(encoded(QUARTERS, "PNG"))  # what Pillow imports is not the bomb's
    tracemalloc.start()
    refusal(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_a_file_of_too_many_bytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.write(encoded(QUARTERS, "PNG"))
        file.truncate(intake.MAX_BYTES + 1)  # no bytes on the disk
    assert "536,870,913 bytes, more than the 536,870,912 allowed" in refusal(path, image.size)


def test_links_that_lead_nowhere_say_where(tmp_path: Path) -> None:
    """Case 4.3 broken symlink."""
    link = tmp_path / "a.png"
    link.symlink_to("gone.png")
    assert refusal(link) == f"picture '{link}' is a link to picture 'gone.png', which does not exist"


def test_heic_by_the_package_that_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registered when the first such file is met, and asked for the format by name."""
    module = types.ModuleType("pillow_heif")
    module.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    module.register_heif_opener = lambda: Image.register_open("HEIF", lambda *_: QUARTERS.copy())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", module)
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    assert image.size(HEIC) == QUARTERS.size


def test_avif_where_pillow_does_not_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 4.3 AVIF, plugin absent; also where the brand is in the list behind the first one."""
    monkeypatch.setattr(features, "get_supported", lambda: ["webp"])
    for data in (HEIC.replace(b"ftypheic", b"ftypavif"), AVIF_AS_MIF1):
        assert "AVIF, which this Pillow does not read: pip install --upgrade pillow" in refusal(data)


@pytest.mark.parametrize(("width", "height"), [(65535, 1), (1, 65535), (20_000, 90), (10_000, 1)])
def test_slivers_are_refused_by_the_picture_rule(width: int, height: int) -> None:
    """Row 18: decoding them is harmless, tokens of them would not be."""
    with pytest.raises(MediaError, match="too narrow"):
        NativeResolution(NativeResolutionConfig()).views(width, height)


def test_one_pixel_has_tokens() -> None:
    """Row 19."""
    (view,) = NativeResolution(NativeResolutionConfig()).views(1, 1)
    assert view.tokens >= 1


def test_an_array_without_pixels_is_refused() -> None:
    with pytest.raises(MediaError, match="got uint8"):
        image.load(np.zeros((0, 4, 3), np.uint8))
