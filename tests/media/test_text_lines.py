"""Pages as a media stream: what tokens carry, and what is kept of a page."""

from __future__ import annotations

import errno
import pickle
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vitrail.contracts.errors import DataError, MediaError
from vitrail.contracts.messages import ImagePart, VideoPart
from vitrail.contracts.pages import Line, Page
from vitrail.media.kept_pages import KeptPages
from vitrail.media.text_lines import TextLines, rows_of
from vitrail.models.backbones.tokenizer import byte_tokenizer, small_tokenizer

WIDTH = 120


def line(text: str, row: int, left: float = 0.1) -> Line:
    """A line whose characters are a hundredth of the page wide; each one's features are its number, all over."""
    count = len(text)
    x = left + 0.01 * np.arange(count)
    top = np.full(count, 0.1 * row)
    boxes = np.stack([x, top, x + 0.01, top + 0.05], 1).astype(np.float32)
    corners = [[left, 0.1 * row], [x[-1] + 0.01, 0.1 * row], [x[-1] + 0.01, 0.1 * row + 0.05], [left, 0.1 * row + 0.05]]
    features = np.repeat(np.arange(count, dtype=np.float16)[:, None], WIDTH, 1)
    confidence = np.linspace(1.0, 0.5, count, dtype=np.float32)
    return Line(text, row, np.array(corners, np.float32), confidence, boxes, features)


PAGE = Page((line("Total", 0), line("12.50", 0, left=0.6), line("Zürich 東京", 1)))


@dataclass
class Counting:
    """A reader that says what pages it was given; every page reads the same."""

    asked: list[tuple[int, ...]] = field(default_factory=list)
    signature: str = "counting"

    def __call__(self, picture: NDArray[np.uint8]) -> Page:
        self.asked.append(picture.shape)
        return PAGE


def same(one: Page, two: Page) -> bool:
    arrays = ("corners", "confidence", "boxes", "features")
    alike = [
        a.text == b.text and a.row == b.row and all(np.array_equal(getattr(a, n), getattr(b, n)) for n in arrays)
        for a, b in zip(one.lines, two.lines, strict=True)
    ]
    return all(alike)


def test_a_row_is_its_text_cut_by_the_language_models_tokenizer() -> None:
    tokenizer = small_tokenizer(())
    rows = rows_of(PAGE, tokenizer)
    assert [tokenizer.decode(row.ids) for row in rows] == ["Total  12.50\n", "Zürich 東京\n"]
    assert [identity for row in rows for identity in row.ids] == tokenizer.encode(PAGE.text)
    assert all(row.values.shape == (len(row.ids), WIDTH + 9) for row in rows)


def test_lines_may_begin_with_their_boxes() -> None:
    """In hundredths of the page; of what is written there nothing was seen, and the rest is as it was."""
    tokenizer = small_tokenizer(())
    rows, plain = rows_of(PAGE, tokenizer, boxes=True), rows_of(PAGE, tokenizer)
    text = "".join(tokenizer.decode(list(row.ids)) for row in rows)
    bare = "".join(tokenizer.decode(list(row.ids)) for row in plain)
    pattern = r" \d{8}(?=  |\n)"
    assert re.sub(pattern, "", text) == bare == PAGE.text
    first = PAGE.lines[0].boxes
    edges = [*first[:, :2].min(0), *first[:, 2:].max(0)]
    written = "".join(f"{round(100 * edge):02d}" for edge in edges)
    assert text.startswith(f"{PAGE.lines[0].text} {written}")
    assert len(re.findall(pattern, text)) == len(PAGE.lines)
    known = [row.values[row.values[:, WIDTH] > 0] for row in (rows[0], plain[0])]
    assert len(known[0]) == len(known[1])


def test_a_token_carries_what_was_seen_of_its_characters() -> None:
    tokenizer = small_tokenizer(())
    first, second = rows_of(PAGE, tokenizer)
    total = next(n for n, one in enumerate(first.ids) if tokenizer.decode([one]).startswith("T"))
    length = len(tokenizer.decode([first.ids[total]]))
    seen = first.values[total]
    np.testing.assert_allclose(seen[:WIDTH], np.arange(length).mean())
    assert seen[WIDTH] == PAGE.lines[0].confidence[length - 1]
    letters = len(PAGE.lines[0].text)
    np.testing.assert_allclose(seen[WIDTH + 1 : WIDTH + 5], [0.1, 0.0, 0.1 + 0.01 * length, 0.05], atol=1e-6)
    np.testing.assert_allclose(seen[WIDTH + 5 :], [0.1, 0.0, 0.1 + 0.01 * letters, 0.05], atol=1e-6)
    assert not first.values[-1].any(), "nothing was seen of a line break"
    assert (second.values[:-1, WIDTH] > 0).all()


def test_bytes_of_one_character_share_it() -> None:
    """A tokenizer of bytes cuts a Chinese character into three tokens."""
    tokenizer = byte_tokenizer(())
    _, row = rows_of(PAGE, tokenizer)
    assert tokenizer.decode(row.ids) == "Zürich 東京\n"
    last = row.values[-4:-1]
    assert (last == last[0]).all()
    assert last[0, 0] == len("Zürich 東京") - 1


def test_an_empty_page_is_a_line_break() -> None:
    rule = TextLines(KeptPages(lambda picture: Page(())), small_tokenizer(()))  # type: ignore[arg-type]
    (view,) = rule.views(ImagePart(np.zeros((8, 8, 3), np.uint8)))
    (values,) = rule.decoded(ImagePart(np.zeros((8, 8, 3), np.uint8)), [view])
    assert rule.tokenizer.decode(view.ids) == "\n"
    assert values.shape == (view.tokens, WIDTH + 9)
    assert not values.any()


def test_rows_are_laid_end_to_end() -> None:
    rule = TextLines(KeptPages(Counting()), small_tokenizer(()))
    part = ImagePart(np.zeros((8, 8, 3), np.uint8))
    views = rule.views(part)
    values, positions, lengths = rule.laid_out(rule.decoded(part, views))
    assert lengths == tuple(view.tokens for view in views) == tuple(view.patches for view in views)
    assert values.shape == (sum(lengths), WIDTH + 9)
    np.testing.assert_array_equal(positions, np.concatenate([rule.positions(view) for view in views]))
    assert rule.reads(part)
    assert not rule.reads(VideoPart(np.zeros((2, 8, 8, 3), np.uint8)))


def test_a_page_is_read_once_for_all_runs(tmp_path: Path) -> None:
    """By its file's bytes, whatever its name; another process, or another run, takes it from the disk."""
    picture = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    for name in ("one.png", "two.png"):
        Image.fromarray(picture).save(tmp_path / name)
    reader = Counting()
    kept = KeptPages(reader, tmp_path / "pages")
    for given in (tmp_path / "one.png", str(tmp_path / "two.png"), (tmp_path / "one.png").read_bytes()):
        assert same(kept.page(given), PAGE)
    assert reader.asked == [(20, 30, 3)]
    later = Counting()
    assert same(KeptPages(later, tmp_path / "pages").page(tmp_path / "two.png"), PAGE)
    assert not later.asked
    there = pickle.loads(pickle.dumps(kept))
    assert same(there.page(tmp_path / "one.png"), PAGE)
    assert len(there.reader.asked) == 1
    changed = Counting(signature="others")
    KeptPages(changed, tmp_path / "pages").page(tmp_path / "one.png")
    assert len(changed.asked) == 1, "another reader has pages of its own"


def test_pixels_of_another_shape_are_another_page() -> None:
    kept = KeptPages(reader := Counting())
    pixels = np.zeros((4, 6, 3), np.uint8)
    kept.page(pixels), kept.page(pixels.reshape(6, 4, 3)), kept.page(pixels.copy())
    assert reader.asked == [(4, 6, 3), (6, 4, 3)]


def test_a_damaged_page_is_read_again_and_a_stopped_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", _stopped)
        with pytest.raises(KeyboardInterrupt):
            KeptPages(Counting(), tmp_path).page(pixels)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    KeptPages(Counting(), tmp_path).page(pixels)
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    whole = file.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"x" * len(whole)):
        file.write_bytes(damaged)
        reader = Counting()
        assert same(KeptPages(reader, tmp_path).page(pixels), PAGE)
        assert len(reader.asked) == 1
        assert file.read_bytes() == whole


def test_a_page_that_cannot_be_kept_is_used_on_a_full_disk_and_one_line_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", _full)
        assert same(KeptPages(Counting(), tmp_path / "pages").page(pixels), PAGE)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=f"cannot keep what pages say in '{tmp_path / 'file'}': Not a directory"):
        KeptPages(Counting(), tmp_path / "file").page(pixels)


def _stopped(*_: object) -> None:
    raise KeyboardInterrupt


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_is_no_picture_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "page.png").write_bytes(b"no picture")
    for given in (tmp_path / "page.png", tmp_path / "missing.png"):
        with pytest.raises(MediaError) as caught:
            KeptPages(Counting()).page(given)
        assert "\n" not in str(caught.value)
