"""Samples longer than a pack: text may be cut, a picture is kept, made smaller or left out as a whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.contracts.messages import Conversation, ImagePart, Message, TextPart
from vitrail.contracts.samples import IGNORE, MediaSlot, Sample, View
from vitrail.data.config import PackConfig
from vitrail.data.encode import Encode, cut, fitted
from vitrail.data.ledger import Event

Paint = Callable[[Path, int, int], Path]


def talk(*images: Path, text: str = "What?", answer: str = "That.") -> Conversation:
    pictures = tuple(ImagePart(image) for image in images)
    turns = (Message("user", (*pictures, TextPart(text))), Message("assistant", (TextPart(answer),)))
    return Conversation("r", turns, location="my.jsonl:3")


def fit(encode: Encode, conversation: Conversation, length: int, patches: int = 10_000, **pack: Any) -> Sample | Event:
    return fitted(encode, conversation, "mine", PackConfig(length=length, patches=patches, **pack))


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Pictures anywhere among the words, labels anywhere between the pictures."""
    slots: list[MediaSlot] = []
    index = draw(st.integers(0, 30))
    for number in range(draw(st.integers(0, 3))):
        rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 4))
        view = View(rows * 8, columns * 8, rows * 2, columns * 2, rows, columns)
        slots.append(MediaSlot(index, number, view))
        index += view.tokens + draw(st.integers(0, 20))
    tokens = index + draw(st.integers(2, 60))
    ids = np.arange(tokens, dtype=np.int64)
    learnt = np.array(draw(st.lists(st.booleans(), min_size=tokens, max_size=tokens)), bool)
    for slot in slots:
        learnt[slot.start : slot.start + slot.view.tokens] = False
    labels = np.full(tokens, IGNORE, np.int64)
    labels[:-1] = np.where(learnt[1:], ids[1:], IGNORE)
    weights = (labels != IGNORE).astype(np.float32)
    return Sample("s", "made", ids, labels, weights, tuple(slots), location="my.jsonl:3")


@settings(deadline=None, max_examples=300)
@given(sample=samples(), length=st.integers(1, 150))
def test_text_may_be_cut_a_picture_never(sample: Sample, length: int) -> None:
    before = [array.copy() for array in (sample.ids, sample.labels, sample.weights)]
    kept = cut(sample, length)
    whole = all(slot.start + slot.view.tokens <= length for slot in sample.slots)
    if kept is None:
        assert not whole or not (sample.labels[: length - 1] != IGNORE).any()
    else:
        assert whole
        assert kept.slots == sample.slots
        assert kept.outcome == "text_cut"
        assert len(kept) == len(kept.labels) == len(kept.weights) == min(len(sample), length)
        assert np.array_equal(kept.ids, sample.ids[:length])
        # What the last position would have to predict is gone; every other label is as it was.
        assert kept.labels[-1] == IGNORE
        assert np.array_equal(kept.labels[:-1], sample.labels[: len(kept) - 1])
        assert (kept.labels != IGNORE).any()
        assert np.array_equal(kept.weights > 0, kept.labels != IGNORE)
    for array, copy in zip((sample.ids, sample.labels, sample.weights), before, strict=True):
        assert np.array_equal(array, copy)


def test_positions_are_cut_with_the_text(make_sample: Callable[..., Sample]) -> None:
    sample = make_sample("4", 30)
    assert cut(sample, 20) is not None
    turning = Sample(**{**vars(sample), "positions": np.tile(np.arange(30), (3, 1))})
    kept = cut(turning, 20)
    assert kept is not None
    assert kept.positions is not None
    assert kept.positions.shape == (3, 20)


@pytest.mark.parametrize("policy", ["drop", "truncate_text", "shrink_media", "drop_media", "error"])
def test_what_fits_is_left_alone(tmp_path: Path, encode: Encode, paint: Paint, policy: str) -> None:
    conversation = talk(paint(tmp_path / "a.png", 32, 32))
    whole = encode(conversation, "mine")
    kept = fit(encode, conversation, len(whole), whole.patches, overlong=policy)
    assert isinstance(kept, Sample)
    assert (kept.outcome, kept.reason) == ("used", "")
    assert np.array_equal(kept.ids, whole.ids)


def test_reasons_name_the_setting(tmp_path: Path, encode: Encode, paint: Paint) -> None:
    conversation = talk(paint(tmp_path / "a.png", 32, 32))
    tokens = "my.jsonl:3: 28 tokens, a pack holds 20 (data.pack.length)"
    patches = "my.jsonl:3: 64 patches, a pack holds 60 (data.pack.patches)"
    assert fit(encode, conversation, 20) == Event("r", "mine", "too_long", tokens)
    assert fit(encode, conversation, 40, 60) == Event("r", "mine", "too_long", patches)
    kept = fit(encode, conversation, 27, overlong="truncate_text")
    assert isinstance(kept, Sample)
    assert kept.reason == tokens.replace("20", "27")
    # The patches are too many whatever is cut.
    assert isinstance(fit(encode, conversation, 40, 60, overlong="truncate_text"), Event)


def test_a_question_too_long_for_its_answer_is_dropped(tmp_path: Path, encode: Encode, paint: Paint) -> None:
    conversation = talk(paint(tmp_path / "a.png", 16, 16), text="x" * 50)
    lost = fit(encode, conversation, 40, overlong="truncate_text")
    assert isinstance(lost, Event)
    assert "cut there, no answer is left" in lost.reason


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.tuples(st.integers(8, 64), st.integers(8, 64)), min_size=1, max_size=4),
    length=st.integers(14, 120),
    patches=st.integers(4, 400),
)
def test_pictures_are_shrunk_until_they_fit(
    encode: Encode, sizes: list[tuple[int, int]], length: int, patches: int
) -> None:
    pictures = [np.zeros((height, width, 3), np.uint8) for width, height in sizes]
    turns = (Message("user", tuple(map(ImagePart, pictures))), Message("assistant", (TextPart("That."),)))
    conversation = Conversation("r", turns, location="my.jsonl:3")
    whole = encode(conversation)
    kept = fit(encode, conversation, length, patches, overlong="shrink_media")
    least = encode(conversation, most_tokens=1)
    if isinstance(kept, Event):
        assert len(least) > length or least.patches > patches
        return
    assert len(kept) <= length
    assert kept.patches <= patches
    assert len(kept.slots) == len(sizes)
    if kept.outcome == "media_shrunk":
        assert len(whole) > length or whole.patches > patches
        assert len(least) <= len(kept) < len(whole) or kept.patches < whole.patches


def test_pictures_are_dropped_from_the_last_and_never_all(tmp_path: Path, encode: Encode, paint: Paint) -> None:
    conversation = talk(*(paint(tmp_path / f"{number}.png", 32, 32) for number in range(3)))
    whole = encode(conversation)
    for length, left in ((len(whole) - 1, 2), (len(whole) - 17, 1)):
        kept = fit(encode, conversation, length, overlong="drop_media")
        assert isinstance(kept, Sample)
        assert kept.outcome == "media_dropped"
        assert [part.image for part in kept.media] == [tmp_path / f"{number}.png" for number in range(left)]
        assert "a pack holds" in kept.reason
    lost = fit(encode, conversation, 20, overlong="drop_media")
    assert isinstance(lost, Event)
    assert "its first picture, or other medium, alone" in lost.reason
