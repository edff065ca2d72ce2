"""Rows to samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from vitrail.contracts.errors import MediaError
from vitrail.contracts.messages import Row
from vitrail.contracts.samples import IGNORE, View
from vitrail.data.dialects import to_conversation
from vitrail.data.encode import Encode, without_media
from vitrail.prompts.config import PromptConfig

Paint = Callable[[Path, int, int], Path]


def row(folder: Path, text: str = "<image>What?", answer: str = "That.", images: Sequence[str] = ("a.png",)) -> Row:
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    return Row("r", {"messages": turns, "images": list(images)}, folder, "my.jsonl:3")


# Encode


def test_a_row_becomes_a_sample(tmp_path: Path, encode: Encode, paint: Paint) -> None:
    paint(tmp_path / "a.png", 48, 24)
    paint(tmp_path / "b.png", 16, 16)
    sample = encode(to_conversation(row(tmp_path, "<image> or <image>?", "B.", ["a.png", "b.png"])), "mine")
    assert (sample.id, sample.source, sample.location, sample.outcome) == ("r", "mine", "my.jsonl:3", "used")
    assert [(slot.start, slot.media) for slot in sample.slots] == [(0, 0), (18 + 4, 1)]
    assert [slot.view for slot in sample.slots] == [View(24, 48, 6, 12, 3, 6), View(16, 16, 4, 4, 2, 2)]
    assert sample.patches == 72 + 16
    assert len(sample) == 18 + len(" or ") + 4 + len("?") + 1 + len("B.") + 1
    assert [part.image for part in sample.media] == [tmp_path / "a.png", tmp_path / "b.png"]
    assert encode.tokenizer.decode(sample.labels[sample.labels != IGNORE].tolist()) == "B."


def test_only_the_header_is_read(tmp_path: Path, encode: Encode, paint: Paint) -> None:
    whole = paint(tmp_path / "a.png", 48, 24).read_bytes()
    intact = encode(to_conversation(row(tmp_path), "tags"), "mine")
    (tmp_path / "a.png").write_bytes(whole[:60])
    headless = encode(to_conversation(row(tmp_path), "tags"), "mine")
    assert np.array_equal(headless.ids, intact.ids)
    assert headless.slots == intact.slots


def test_a_bad_picture_is_named_with_its_row(tmp_path: Path, encode: Encode, paint: Paint) -> None:
    paint(tmp_path / "long.png", 500, 2)
    (tmp_path / "text.png").write_text("hello")
    for name, said in (("gone.png", "does not exist"), ("text.png", "is not a picture"), ("long.png", "too narrow")):
        with pytest.raises(MediaError) as caught:
            encode(to_conversation(row(tmp_path, images=[name]), "tags"), "mine")
        assert str(caught.value).startswith("my.jsonl:3: ")
        assert said in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


def test_withheld_pictures_leave_the_words(tmp_path: Path, encode: Encode) -> None:
    blind = dataclasses.replace(encode, shown="nothing")
    sample = blind(to_conversation(row(tmp_path, "<image>\nWhat?", images=["never opened.png"]), "tags"), "mine")
    assert sample.slots == sample.media == ()
    assert encode.tokenizer.decode(sample.ids.tolist()) == "\nWhat?That."
    conversation = to_conversation(row(tmp_path, "x<image>y"))
    assert without_media(conversation).messages[0].text == "xy"
    assert without_media(conversation).media == ()
    assert without_media(conversation).location == conversation.location


def test_the_first_pictures_can_be_kept(tmp_path: Path) -> None:
    conversation = to_conversation(row(tmp_path, "a<image>b<image>c<image>", images=["1.png", "2.png", "3.png"]))
    for keep in range(4):
        kept = without_media(conversation, keep)
        assert [part.image for part in kept.media] == [tmp_path / f"{number + 1}.png" for number in range(keep)]
        assert kept.messages[0].text == "abc"


def test_pictures_take_no_more_tokens_than_asked(tmp_path: Path, encode: Encode, paint: Paint) -> None:
    paint(tmp_path / "a.png", 48, 24)
    for most in (18, 17, 9, 2, 1):
        sample = encode(to_conversation(row(tmp_path)), most_tokens=most)
        (slot,) = sample.slots
        assert 1 <= slot.view.tokens <= most


def test_the_system_text_of_the_recipe_is_used(tmp_path: Path, encode: Encode) -> None:
    instructed = dataclasses.replace(encode, prompt=PromptConfig(system="Be brief."), shown="nothing")
    sample = instructed(to_conversation(row(tmp_path), "tags"), "mine")
    assert encode.tokenizer.decode(sample.ids.tolist()).startswith("Be brief.")
