"""Videos: sampling is the official one, limits hold before decoding, damaged files end in one line."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vitrail.contracts.errors import MediaError, MissingExtraError
from vitrail.contracts.messages import ImagePart, VideoPart
from vitrail.media import video
from vitrail.media.config import NativeResolutionConfig, TilesConfig
from vitrail.media.rule import media_part, picture_rule

QWEN = picture_rule(NativeResolutionConfig(max_tokens=16384))
SAMPLING = video.Sampling()


def frames(count: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """Each of one grey, brighter from one to the next."""
    grey = np.linspace(20, 230, count).astype(np.uint8)
    return np.broadcast_to(grey[:, None, None, None], (count, height, width, 3)).copy()


def written(path: Path | io.BytesIO, count: int = 20, rate: int = 10, form: str = "mp4") -> None:
    av = pytest.importorskip("av", reason="pip install 'vitrail[video]'")
    with av.open(path, "w", format=form) as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for pixels in frames(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


@pytest.mark.parametrize("form", ["mp4", "matroska", "avi"])
def test_a_header_says_all_that_is_needed(form: str, tmp_path: Path) -> None:
    path = tmp_path / "clip"
    written(path, form=form)
    assert video.clip(VideoPart(path)) == video.Clip(64, 48, 20, 10.0)


@pytest.mark.parametrize("as_bytes", [False, True])
def test_frames_are_those_that_were_asked_for(as_bytes: bool, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    written(path)
    found = video.load(VideoPart(path.read_bytes() if as_bytes else path), [0, 5, 5, 19])
    assert sorted(found) == [0, 5, 19]
    for number, pixels in found.items():
        assert (pixels.dtype, pixels.shape) == (np.uint8, (48, 64, 3))
        np.testing.assert_allclose(pixels, frames(20)[number], atol=4)


def test_an_array_is_a_video_with_a_rate() -> None:
    part = VideoPart(frames(7), fps=4.0)
    assert video.clip(part) == video.Clip(64, 48, 7, 4.0)
    assert np.array_equal(video.load(part, [6])[6], frames(7)[6])
    with pytest.raises(MediaError, match=r"uint8\[T, H, W, 3\]"):
        video.clip(VideoPart(frames(7).astype(np.float32)))


@pytest.mark.parametrize(
    ("count", "fps", "expected"),
    [
        (4, 24.0, [0, 1, 2, 3]),
        (5, 29.97, [0, 1, 2, 3]),
        (100, 29.97, [0, 16, 33, 50, 66, 83]),
        (1, 2.0, [0]),
    ],
)
def test_two_frames_a_second_in_pairs(count: int, fps: float, expected: list[int]) -> None:
    assert video.sampled(count, fps, SAMPLING, 2) == expected


def test_no_more_than_so_many_frames_are_looked_at() -> None:
    found = video.sampled(100_000, 25.0, SAMPLING, 2)
    assert len(found) == SAMPLING.max_frames
    assert found[0] == 0
    assert found[-1] < 100_000


def test_each_pair_is_a_view_of_one_size() -> None:
    views = video.views(QWEN, video.Clip(640, 480, 100, 25.0), SAMPLING, 2)
    assert [view.shows for view in views] == [(0, 12), (25, 37), (50, 62), (75, 87)]
    assert len({(view.height, view.width, view.tokens) for view in views}) == 1
    assert views[0].seconds == pytest.approx(1.0)
    assert SAMPLING.min_tokens <= views[0].tokens <= SAMPLING.max_tokens


def test_a_long_video_stays_within_its_tokens() -> None:
    views = video.views(QWEN, video.Clip(1920, 1080, 25 * 120, 25.0), SAMPLING, 2)
    assert len(views) == 120
    assert sum(view.tokens for view in views) <= SAMPLING.total_tokens * 1.05
    fewer = video.views(QWEN, video.Clip(1920, 1080, 25 * 120, 25.0), SAMPLING, 2, most_tokens=1200)
    assert sum(view.tokens for view in fewer) <= 1200


def test_tiles_are_for_still_pictures() -> None:
    with pytest.raises(MediaError, match="a video needs a model whose media rule is native"):
        video.views(picture_rule(TilesConfig()), video.Clip(64, 48, 4, 2.0), SAMPLING, 2)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (video.Clip(64, 48, 10**9, 25.0), "over 1000000 frames"),
        (video.Clip(64, 48, 100, 0.0), "0 frames a second"),
        (video.Clip(64, 48, 100, 1e6), "1e.06 frames a second"),
        (video.Clip(64, 48, 30 * 3600, 1.0), "lasts 108000 s"),
        (video.Clip(20_000, 20_000, 10, 25.0), "20000 x 20000 px"),
        (video.Clip(64, 48, 0, 25.0), "no frames"),
    ],
)
def test_what_a_header_claims_is_limited(found: video.Clip, expected: str) -> None:
    with pytest.raises(MediaError, match=expected):
        video._within(VideoPart("clip.mp4"), found)


def claiming(count: int) -> bytes:
    """A file whose tables say that its one second holds so many frames."""
    buffer = io.BytesIO()
    written(buffer)
    data = bytearray(buffer.getvalue())
    table = data.index(b"stts")
    # One entry: 20 frames; the sizes of the frames have their own table.
    assert int.from_bytes(data[table + 12 : table + 16], "big") == 20
    data[table + 12 : table + 16] = count.to_bytes(4, "big")
    return bytes(data)


def test_a_file_that_claims_a_billion_frames_is_opened_for_those_it_has_or_refused() -> None:
    part = VideoPart(claiming(10**9))
    try:
        found = video.clip(part)
    except MediaError:
        return
    assert found.frames <= video.MAX_FRAMES


@pytest.mark.parametrize(
    "data",
    [b"", b"GIF89a, and more", b"#EXTM3U\nhttp://127.0.0.1/a.ts\n", b"ffconcat version 1.0\nfile /etc/passwd\n"],
)
def test_only_known_containers_are_opened(data: bytes) -> None:
    pytest.importorskip("av", reason="pip install 'vitrail[video]'")
    with pytest.raises(MediaError, match="is no MP4"):
        video.clip(VideoPart(data))


@pytest.mark.parametrize("keep", [40, 200, 0.5])
def test_a_cut_file_ends_in_one_line(keep: float, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    written(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep if keep > 1 else keep * len(data))])
    with pytest.raises(MediaError, match=r"clip\.mp4") as caught:
        video.load(VideoPart(path), [0, 19])
    assert "\n" not in str(caught.value)


def test_frames_that_are_damaged_end_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    written(path, form="matroska")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(MediaError, match=r"clip\.mkv"):
        video.load(VideoPart(path), [19])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="pip install 'vitrail[video]'")
    with pytest.raises(MediaError, match=r"gone\.mp4"):
        video.clip(VideoPart(tmp_path / "gone.mp4"))


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vitrail\[video\]'"):
        video.clip(VideoPart("clip.mp4"))


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("a.MP4", VideoPart),
        (Path("a.webm"), VideoPart),
        ("a.png", ImagePart),
        (np.zeros((2, 4, 4, 3), np.uint8), VideoPart),
        (np.zeros((4, 4, 3), np.uint8), ImagePart),
        (VideoPart(b"x"), VideoPart),
    ],
)
def test_a_caller_need_not_say_which_it_is(given: Any, kind: type) -> None:
    assert type(media_part(given)) is kind


def turned(path: Path, degrees: int, *, across: bool = False) -> NDArray[np.uint8]:
    """A video with a red bar along its left side and a blue one on top of the rest, and such a matrix; its frame."""
    av = pytest.importorskip("av", reason="pip install 'vitrail[video]'")
    frame = np.full((48, 64, 3), 255, np.uint8)
    frame[:16, :, :2] = 0
    frame[:, :16] = (255, 0, 0)
    with av.open(path, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        if not hasattr(stream, "set_display_rotation"):
            pytest.skip("this version of av writes no matrix")
        stream.set_display_rotation(degrees, hflip=across)
        for _ in range(6):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return frame


@pytest.mark.parametrize(("degrees", "quarters"), [(0, 0), (90, 1), (180, 2), (-90, 3)])
def test_a_phones_video_is_turned_upright(tmp_path: Path, degrees: int, quarters: int) -> None:
    path = tmp_path / "clip.mp4"
    upright = np.rot90(turned(path, degrees), quarters)
    found = video.clip(VideoPart(path))
    assert (found.width, found.height) == upright.shape[1::-1]
    shown = video.load(VideoPart(path), [0, 5])
    for pixels in shown.values():
        assert np.abs(pixels.astype(int) - upright).mean() < 8, "bars stand where they belong"
    (view, *_) = video.views(QWEN, found, SAMPLING, 2)
    assert (view.rows > view.columns) == (quarters % 2 == 1), "sizes are swapped before tokens are counted"


def test_a_mirrored_video_is_mirrored_back(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    upright = turned(path, 0, across=True)[:, ::-1]
    assert np.abs(video.load(VideoPart(path), [0])[0].astype(int) - upright).mean() < 8


def test_a_video_turned_by_no_quarter_is_refused(tmp_path: Path) -> None:
    turned(tmp_path / "clip.mp4", 30)
    with pytest.raises(MediaError, match=r"turned by -?30 degrees: only quarter turns are"):
        video.clip(VideoPart(tmp_path / "clip.mp4"))


def test_frames_that_are_pictures_are_a_video(tmp_path: Path) -> None:
    paths = []
    for number, pixels in enumerate(frames(5)):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(paths[-1])
    part = VideoPart((*paths[:4], paths[4].read_bytes()), fps=4.0)
    assert video.clip(part) == video.Clip(64, 48, 5, 4.0)
    found = video.load(part, [0, 4])
    assert all(np.array_equal(found[number], frames(5)[number]) for number in (0, 4))
    Image.new("RGB", (8, 8)).save(paths[2])
    with pytest.raises(MediaError, match=r"frame 2, picture '.*2.png', has 8 x 8 px, and the first has 64 x 48"):
        video.load(part, [0, 2])
    paths[0].unlink()
    with pytest.raises(MediaError, match=r"0.png' does not exist"):
        video.clip(part)
    with pytest.raises(MediaError, match="a video of no frames"):
        video.clip(VideoPart(()))
