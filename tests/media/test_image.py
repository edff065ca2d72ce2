"""Pictures as they lie on people's disks: each is decoded right, or refused with one clear line."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile

from vitrail.contracts.errors import MediaError
from vitrail.media import image

WIDTH, HEIGHT = 64, 40
LOSSLESS: dict[str, dict[str, Any]] = {"png": {}, "webp": {"lossless": True}, "tiff": {}}
LOSSY: dict[str, dict[str, Any]] = {"jpg": {"quality": 95, "subsampling": 0}}
UNDO = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation to how an upright picture must be laid down so that the orientation brings it up again."""


def upright() -> NDArray[np.uint8]:
    """Four quarters of four colours: no rotation and no mirror image of it is the same."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[: HEIGHT // 2, : WIDTH // 2] = 250, 10, 10
    pixels[: HEIGHT // 2, WIDTH // 2 :] = 10, 250, 10
    pixels[HEIGHT // 2 :, : WIDTH // 2] = 10, 10, 250
    pixels[HEIGHT // 2 :, WIDTH // 2 :] = 250, 250, 10
    return pixels


def laid_down(orientation: int) -> Image.Image:
    picture = Image.fromarray(upright())
    method = UNDO[orientation]
    return picture if method is None else picture.transpose(method)


def turned(folder: Path, suffix: str, orientation: int) -> Path:
    """A file whose EXIF says how to rotate it."""
    exif = Image.Exif()
    exif[image.ORIENTATION] = orientation
    path = folder / f"{orientation}.{suffix}"
    laid_down(orientation).save(path, exif=exif, **{**LOSSLESS, **LOSSY}[suffix])
    return path


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims to be that large and holds one row of nothing."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def encoded(picture: Image.Image, kind: str, **settings: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **settings)
    return file.getvalue()


def refusal(given: object, read: Any = image.load) -> str:
    """The message with which a picture is refused: one line, whichever picture it is."""
    with pytest.raises(MediaError) as caught:
        read(given)
    assert len(str(caught.value).splitlines()) == 1, str(caught.value)
    return str(caught.value)


# Rotation


@pytest.mark.parametrize("suffix", [*LOSSLESS, *LOSSY])
@pytest.mark.parametrize("orientation", UNDO)
def test_exif_rotation_is_applied_to_size_and_pixels(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = turned(tmp_path, suffix, orientation)
    assert image.size(path) == (WIDTH, HEIGHT)
    difference = np.abs(image.load(path).astype(int) - upright())
    assert difference.max() == 0 if suffix in LOSSLESS else difference.mean() < 3


@pytest.mark.parametrize("suffix", [*LOSSLESS, *LOSSY])
def test_an_opened_picture_is_turned_as_its_file_is_and_stays_the_callers(tmp_path: Path, suffix: str) -> None:
    path = turned(tmp_path, suffix, 6)
    with Image.open(path) as opened, Image.open(path) as untouched:
        assert image.size(opened) == (WIDTH, HEIGHT)
        assert np.array_equal(image.load(opened), image.load(path))
        assert image.size(opened) == (WIDTH, HEIGHT)
        untouched.load()
        assert opened.size == untouched.size
        assert opened.tobytes() == untouched.tobytes()
        assert dict(opened.getexif()) == dict(untouched.getexif())
        assert opened.info == untouched.info


def test_a_picture_already_turned_by_the_caller_is_not_turned_again() -> None:
    exif = Image.Exif()
    exif[image.ORIENTATION] = 6
    with Image.open(io.BytesIO(encoded(laid_down(6), "JPEG", exif=exif, quality=95))) as opened:
        done = opened.transpose(Image.Transpose.ROTATE_270)
        done.info.pop("exif")
    assert image.size(done) == (WIDTH, HEIGHT)
    assert image.load(done).shape == (HEIGHT, WIDTH, 3)


def test_exif_behind_a_pngs_pixels_leaves_size_and_pixels_agreeing() -> None:
    exif = Image.Exif()
    exif[image.ORIENTATION] = 6
    data = encoded(laid_down(1), "PNG")
    end = data.index(b"IEND") - 4
    data = data[:end] + chunk(b"eXIf", exif.tobytes()[6:]) + data[end:]
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.getexif()[image.ORIENTATION] == 6  # the file is what this test says it is
    assert image.size(data) == (WIDTH, HEIGHT)
    assert np.array_equal(image.load(data), upright())


@pytest.mark.parametrize("keep", [7, 9, 14, 20, 25])
def test_exif_that_breaks_off_costs_the_rotation_at_most(keep: int) -> None:
    exif = Image.Exif()
    exif[image.ORIENTATION] = 3
    data = encoded(laid_down(1), "JPEG", exif=exif.tobytes()[:keep], quality=95)
    assert image.size(data) == (WIDTH, HEIGHT)
    assert image.load(data).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[image.ORIENTATION] = orientation
    data = encoded(laid_down(1), "PNG", exif=exif)
    assert image.size(data) == (WIDTH, HEIGHT)
    assert np.array_equal(image.load(data), upright())


# Pixels of every kind


def test_cmyk(tmp_path: Path) -> None:
    picture = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for name, tolerance in (("red.tiff", 0), ("red.jpg", 3)):
        picture.save(tmp_path / name)
        assert np.abs(image.load(tmp_path / name).astype(int) - (255, 0, 0)).max() <= tolerance, name


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_greys_keep_their_range(kind: str) -> None:
    greys = np.array([[0, 257, 128 * 257], [200 * 257, 65278, 65535]], np.uint16)
    loaded = image.load(encoded(Image.fromarray(greys), kind))
    assert np.array_equal(loaded, np.repeat(np.array([[0, 1, 128], [200, 254, 255]])[..., None], 3, axis=2))


def test_grey_and_black_and_white() -> None:
    for mode in ("L", "1"):
        picture = Image.new(mode, (3, 2), 255)
        picture.putpixel((0, 0), 0)
        loaded = image.load(encoded(picture, "PNG"))
        assert loaded[0, 0].tolist() == [0, 0, 0]
        assert loaded[1, 2].tolist() == [255, 255, 255]


def palette(transparency: int | bytes | None) -> bytes:
    """Red, green and blue beside each other, by palette."""
    picture = Image.new("P", (3, 1))
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    for column in range(3):
        picture.putpixel((column, 0), column)
    return encoded(picture, "PNG", **({} if transparency is None else {"transparency": transparency}))


def test_palettes_with_and_without_transparency() -> None:
    red, green, blue, white = [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]
    assert image.load(palette(None)).tolist() == [[red, green, blue]]
    assert image.load(palette(1)).tolist() == [[red, white, blue]]
    assert image.load(palette(bytes([255, 0, 128]))).tolist() == [[red, white, [127, 127, 255]]]


def test_transparency_is_laid_on_white() -> None:
    pixels = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [0, 0, 0, 51]]], np.uint8)
    wanted = [[[200, 0, 0], [255, 255, 255], [204, 204, 204]]]
    for kind, settings_ in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        assert image.load(encoded(Image.fromarray(pixels), kind, **settings_)).tolist() == wanted, kind
    assert image.load(Image.fromarray(pixels)).tolist() == wanted
    grey = np.array([[[80, 255], [80, 0]]], np.uint8)
    assert image.load(encoded(Image.fromarray(grey), "PNG")).tolist() == [[[80] * 3, [255] * 3]]


def test_a_colour_marked_transparent_is_laid_on_white() -> None:
    picture = Image.new("RGB", (2, 1), (1, 2, 3))
    picture.putpixel((1, 0), (9, 9, 9))
    data = encoded(picture, "PNG", transparency=(1, 2, 3))
    assert image.load(data).tolist() == [[[255, 255, 255], [9, 9, 9]]]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_a_moving_picture_the_first_frame_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255), (0, 255, 0))]
    settings_ = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=40, **settings_)
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.n_frames == 3  # type: ignore[attr-defined]
    assert image.size(data) == (8, 8)
    assert image.load(data).tolist() == np.full((8, 8, 3), (255, 0, 0)).tolist()


def test_one_pixel() -> None:
    data = encoded(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG")
    assert image.size(data) == (1, 1)
    assert image.load(data).tolist() == [[[1, 2, 3]]]


def test_a_wrong_extension_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(encoded(Image.fromarray(upright()), "PNG"))
    assert image.size(path) == (WIDTH, HEIGHT)
    assert np.array_equal(image.load(path), upright())


def test_floating_point_pixels_are_refused() -> None:
    data = encoded(Image.fromarray(np.full((4, 4), 0.5, np.float32)), "TIFF")
    assert "floating-point" in refusal(data)


# Ways to hand a picture over


def test_path_text_bytes_array_and_opened_picture_agree(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    Image.fromarray(upright()).save(path)
    for given_ in (path, str(path), path.read_bytes(), upright(), Image.fromarray(upright())):
        assert image.size(given_) == (WIDTH, HEIGHT)
        assert np.array_equal(image.load(given_), upright())
        assert image.load(given_).dtype == np.uint8


@pytest.mark.parametrize(
    "array",
    [np.zeros(5, np.uint8), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)],
)
def test_an_array_of_another_shape_or_type_is_refused(array: NDArray[Any]) -> None:
    for read in (image.size, image.load):
        assert f"uint8[H, W, 3], got {array.dtype}{list(array.shape)}" in refusal(array, read)


@pytest.mark.parametrize("given_", [None, 5, [1, 2], {"path": "a.png"}, object()])
def test_what_is_no_picture_at_all_is_refused(given_: object) -> None:
    for read in (image.size, image.load):
        assert type(given_).__name__ in refusal(given_, read)


def test_a_picture_the_caller_has_closed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    Image.fromarray(upright()).save(path)
    opened = Image.open(path)
    opened.close()
    assert "damaged" in refusal(opened)


# Refusals


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_a_picture_that_breaks_off_keeps_its_size_and_is_refused_when_decoded(tmp_path: Path, kind: str) -> None:
    # Noise, so that half of the file is half of the pixels.
    noise = np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8)
    whole = encoded(Image.fromarray(noise), kind)
    path = tmp_path / "half"
    path.write_bytes(whole[: len(whole) // 2])
    if kind not in ("TIFF", "WEBP"):  # their header is at the end, or counts the bytes
        assert image.size(path) == (120, 80)
    assert str(path) in refusal(path)
    assert "given as bytes" in refusal(path.read_bytes())


def test_the_size_of_a_png_is_read_without_decoding_it(tmp_path: Path) -> None:
    path = tmp_path / "header.png"
    path.write_bytes(png_header(300, 200))
    assert image.size(path) == (300, 200)
    with Image.open(path) as opened:
        assert image.size(opened) == (300, 200)
    assert "damaged" in refusal(path)


@pytest.mark.parametrize(
    ("data", "said"), [(b"", "not a picture: it is empty"), (b"hello, I am text\n", "not a picture")]
)
def test_files_that_are_no_pictures(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    for read in (image.size, image.load):
        assert refusal(path, read) == f"picture '{path}' is {said}"
        assert refusal(data, read) == f"picture given as bytes is {said}"


def test_folders_and_missing_files(tmp_path: Path) -> None:
    for read in (image.size, image.load):
        assert refusal(tmp_path, read) == f"picture '{tmp_path}' is not a file"
        assert refusal(tmp_path / "gone.png", read) == f"picture '{tmp_path / 'gone.png'}' does not exist"
        assert refusal("", read).endswith("is not a file")


@pytest.mark.parametrize("name", ["two\nlines.png", "nul\0.png", "half a pair \ud83d.png", "A" * 100_000, "a/" * 5000])
def test_names_that_no_file_has_are_shown_on_one_short_line(name: str) -> None:
    for read in (image.size, image.load):
        message = refusal(name, read)
        assert len(message) < image.LONGEST_NAME + 100
        assert message.isprintable()


@pytest.mark.parametrize(("width", "height"), [(10_000, 10_001), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_by_its_header(width: int, height: int) -> None:
    for read in (image.size, image.load):
        assert f"{image.MAX_PIXELS:,}" in refusal(png_header(width, height), read)


def test_a_large_picture_under_our_limit_gives_no_warning() -> None:
    # Pillow warns from 89 million pixels on, and warnings are errors here.
    assert image.size(png_header(10_000, 10_000)) == (10_000, 10_000)


def test_files_are_closed_whatever_becomes_of_them(tmp_path: Path) -> None:
    # An open file left to the collector is a ResourceWarning, which is an error here.
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.fromarray(upright()).save(good)
    bad.write_bytes(good.read_bytes()[:-100])
    image.size(good)
    image.load(good)
    image.size(bad)
    refusal(bad)
    for path in (good, bad):
        path.unlink()
        assert not path.exists()


def samples() -> dict[str, bytes]:
    picture = Image.fromarray(upright()).resize((24, 16))
    exif = Image.Exif()
    exif[image.ORIENTATION] = 6
    whole = {kind: encoded(picture, kind, exif=exif) for kind in ("JPEG", "PNG", "WEBP", "TIFF")}
    whole |= {kind: encoded(picture, kind) for kind in ("BMP", "PPM")}
    frames = [picture.convert("P"), picture.rotate(90).convert("P")]
    whole["GIF"] = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    return whole


SAMPLES = samples()


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(list(SAMPLES)),
    keep=st.floats(0, 1),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
)
def test_whatever_the_bytes_are_a_picture_is_decoded_or_refused(
    kind: str, keep: float, changes: list[tuple[float, int]]
) -> None:
    data = bytearray(SAMPLES[kind][: round((0.5 + keep) * len(SAMPLES[kind]))])
    for share, value in changes:
        data[int(share * (len(data) - 1))] = value
    refused = ""
    try:
        width, height = image.size(bytes(data))
        if width * height <= 100_000:  # more is allowed, but not worth the memory here
            assert image.load(bytes(data)).shape == (height, width, 3)
    except MediaError as error:
        refused = str(error)
    assert len(refused.splitlines()) <= 1


def test_pillow_still_refuses_pictures_that_break_off() -> None:
    # A global switch of Pillow's: with it on, damaged pictures would come out half grey and be learnt from.
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
