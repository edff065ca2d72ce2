"""Rows to samples, and the length policies: text may be cut, a picture never."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.contracts.errors import DataError, MediaError
from vitrail.contracts.messages import Row
from vitrail.contracts.samples import IGNORE, MediaSlot, Sample, View
from vitrail.data.config import Overlong
from vitrail.data.dialects import to_conversation
from vitrail.data.encode import Encode, fit, without_pictures
from vitrail.prompts.config import PromptConfig

Paint = Callable[[Path, int, int], Path]
POLICIES: tuple[Overlong, ...] = ("drop", "truncate_text", "error")


def row(folder: Path, text: str = "<image>What?", answer: str = "That.", images: Sequence[str] = ("a.png",)) -> Row:
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    return Row("r", {"messages": turns, "images": list(images)}, folder, "my.jsonl:3")


# Encode


def test_a_row_becomes_a_sample(tmp_path: Path, encode: Encode, paint: Paint) -> None:
    paint(tmp_path / "a.png", 48, 24)
    paint(tmp_path / "b.png", 16, 16)
    sample = encode.row(row(tmp_path, "<image> or <image>?", "B.", ["a.png", "b.png"]), "mine", "auto")
    assert (sample.id, sample.source, sample.place, sample.cut) == ("r", "mine", "my.jsonl:3", "")
    assert [(slot.start, slot.picture) for slot in sample.slots] == [(0, 0), (18 + 4, 1)]
    assert [slot.view for slot in sample.slots] == [View(24, 48, 6, 12, 18), View(16, 16, 4, 4, 4)]
    assert sample.patches == 72 + 16
    assert len(sample) == 18 + len(" or ") + 4 + len("?") + 1 + len("B.") + 1
    assert [part.image for part in sample.pictures] == [tmp_path / "a.png", tmp_path / "b.png"]
    assert encode.tokenizer.decode(sample.labels[sample.labels != IGNORE].tolist()) == "B."


def test_only_the_header_is_read(tmp_path: Path, encode: Encode, paint: Paint) -> None:
    whole = paint(tmp_path / "a.png", 48, 24).read_bytes()
    intact = encode.row(row(tmp_path), "mine", "tags")
    (tmp_path / "a.png").write_bytes(whole[:60])
    headless = encode.row(row(tmp_path), "mine", "tags")
    assert np.array_equal(headless.ids, intact.ids)
    assert headless.slots == intact.slots


def test_a_bad_picture_is_named_with_its_row(tmp_path: Path, encode: Encode, paint: Paint) -> None:
    paint(tmp_path / "long.png", 500, 2)
    (tmp_path / "text.png").write_text("hello")
    for name, said in (("gone.png", "does not exist"), ("text.png", "is not a picture"), ("long.png", "too narrow")):
        with pytest.raises(MediaError) as caught:
            encode.row(row(tmp_path, images=[name]), "mine", "tags")
        assert str(caught.value).startswith("my.jsonl:3: ")
        assert said in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


def test_withheld_pictures_leave_the_words(tmp_path: Path, encode: Encode) -> None:
    blind = dataclasses.replace(encode, withhold=True)
    sample = blind.row(row(tmp_path, "<image>\nWhat?", images=["never opened.png"]), "mine", "tags")
    assert sample.slots == sample.pictures == ()
    assert encode.tokenizer.decode(sample.ids.tolist()) == "\nWhat?That."
    conversation = to_conversation(row(tmp_path, "x<image>y"))
    assert without_pictures(conversation).messages[0].text == "xy"
    assert without_pictures(conversation).pictures == ()
    assert without_pictures(conversation).place == conversation.place


def test_the_system_text_of_the_recipe_is_used(tmp_path: Path, encode: Encode) -> None:
    instructed = dataclasses.replace(encode, prompt=PromptConfig(system="Be brief."), withhold=True)
    sample = instructed.row(row(tmp_path), "mine", "tags")
    assert encode.tokenizer.decode(sample.ids.tolist()).startswith("Be brief.")


# The length policies


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Pictures anywhere among the words, labels anywhere between the pictures."""
    slots: list[MediaSlot] = []
    place = draw(st.integers(0, 30))
    for number in range(draw(st.integers(0, 3))):
        rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 4))
        view = View(rows * 8, columns * 8, rows * 2, columns * 2, rows * columns)
        slots.append(MediaSlot(place, number, view))
        place += view.tokens + draw(st.integers(0, 20))
    tokens = place + draw(st.integers(2, 60))
    ids = np.arange(tokens, dtype=np.int64)
    learnt = np.array(draw(st.lists(st.booleans(), min_size=tokens, max_size=tokens)), bool)
    for slot in slots:
        learnt[slot.start : slot.start + slot.view.tokens] = False
    labels = np.full(tokens, IGNORE, np.int64)
    labels[:-1] = np.where(learnt[1:], ids[1:], IGNORE)
    weights = (labels != IGNORE).astype(np.float32)
    return Sample("s", "made", ids, labels, weights, tuple(slots), place="my.jsonl:3")


def fits(sample: Sample, length: int, patches: int) -> bool:
    return len(sample) <= length and sample.patches <= patches


@settings(deadline=None)
@given(sample=samples(), length=st.integers(1, 150), patches=st.integers(1, 100), policy=st.sampled_from(POLICIES))
def test_what_fits_is_left_alone(sample: Sample, length: int, patches: int, policy: Overlong) -> None:
    if fits(sample, length, patches):
        assert fit(sample, length, patches, policy) == (sample, "")
        assert fit(sample, len(sample), sample.patches, policy) == (sample, "")
    elif policy == "drop":
        kept, reason = fit(sample, length, patches, policy)
        assert kept is None
        assert reason.startswith("my.jsonl:3: ")


@settings(deadline=None, max_examples=300)
@given(sample=samples(), length=st.integers(1, 150), patches=st.integers(1, 100))
def test_text_may_be_cut_a_picture_never(sample: Sample, length: int, patches: int) -> None:
    kept, reason = fit(sample, length, patches, "truncate_text")
    whole = all(slot.start + slot.view.tokens <= length for slot in sample.slots)
    if kept is None:
        assert reason.startswith("my.jsonl:3: ")
        # It could not be kept: a picture would be cut, or there is no room for its patches, or nothing left to learn.
        assert not whole or sample.patches > patches or not (sample.labels[: length - 1] != IGNORE).any()
        return
    assert reason == ""
    assert fits(kept, length, patches)
    assert whole
    assert kept.slots == sample.slots
    assert kept.pictures == sample.pictures
    assert len(kept) == len(kept.labels) == len(kept.weights) == min(len(sample), length)
    assert bool(kept.cut) == (len(sample) > length)
    assert np.array_equal(kept.ids, sample.ids[:length])
    if kept.cut:
        # What the last place would have to predict is gone; every other label is as it was.
        assert kept.labels[-1] == IGNORE
        assert np.array_equal(kept.labels[:-1], sample.labels[: length - 1])
        assert (kept.labels != IGNORE).any()
    assert np.array_equal(kept.weights > 0, kept.labels != IGNORE)


@settings(deadline=None)
@given(sample=samples(), length=st.integers(1, 150), patches=st.integers(1, 100))
def test_fit_changes_nothing_in_the_sample(sample: Sample, length: int, patches: int) -> None:
    before = [array.copy() for array in (sample.ids, sample.labels, sample.weights)]
    fit(sample, length, patches, "truncate_text")
    for array, copy in zip((sample.ids, sample.labels, sample.weights), before, strict=True):
        assert np.array_equal(array, copy)


def test_reasons_name_the_setting(make_sample: Callable[..., Sample]) -> None:
    text = make_sample("4", 30)
    seen = make_sample("5", 30, [(20, View(32, 32, 8, 8, 4))])
    tokens = "made.jsonl:4: 30 tokens, a pack holds 20 (data.pack.length)"
    patches = "made.jsonl:5: 64 picture patches, a pack holds 60 (data.pack.patches)"
    assert fit(text, 20, 60, "drop") == (None, tokens)
    assert fit(seen, 40, 60, "drop") == (None, patches)
    assert fit(seen, 40, 60, "truncate_text") == (None, patches)
    kept, _ = fit(text, 20, 60, "truncate_text")
    assert kept is not None
    assert kept.cut == tokens
    for sample, said in ((text, tokens), (seen, patches)):
        with pytest.raises(DataError) as caught:
            fit(sample, 20 if sample is text else 40, 60, "error")
        assert str(caught.value) == said


def test_a_question_too_long_for_its_answer_is_dropped(tmp_path: Path, encode: Encode, paint: Paint) -> None:
    paint(tmp_path / "a.png", 16, 16)
    sample = encode.row(row(tmp_path, "<image>" + "x" * 50), "mine", "tags")
    kept, reason = fit(sample, 40, 100, "truncate_text")
    assert kept is None
    assert reason.endswith("cut there, no answer is left")
