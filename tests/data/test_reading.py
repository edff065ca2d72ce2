"""What stands in a picture is learnt where it stands."""

from __future__ import annotations

import dataclasses

import pytest
from vitrail.data.reading import tokens_on

from vitrail.contracts.samples import IGNORE, MediaSlot, Pack, View
from vitrail.data.collate import collate
from vitrail.data.encode import Encode
from vitrail.media.config import NativeResolutionConfig
from vitrail.media.native import NativeResolution
from vitrail.models.backbones.tokenizer import small_tokenizer
from vitrail.prompts.config import PictureConfig, PromptConfig
from vitrail.prompts.templates import template
from vitrail.synthetic.config import LinesConfig
from vitrail.synthetic.documents.config import DocumentsConfig
from vitrail.synthetic.documents.source import DocumentsSource
from vitrail.synthetic.lines import LinesSource


@pytest.fixture(scope="module")
def words() -> Encode:
    """Tokens of several letters, places of 28 px, and a row break between rows of places."""
    chat = template("terse")
    media = NativeResolution(NativeResolutionConfig(patch=14, merge=2, min_tokens=1, max_tokens=120))
    prompt = PromptConfig(template="terse", picture=PictureConfig(row_break="<|row|>"))
    return Encode(media, chat, small_tokenizer((*chat.specials, "<|row|>")), prompt)


def line(text: str, y: float, left: float = 0.05, pitch: float = 0.05) -> list[Character]:
    marks, before = [], "\n"
    for number, letter in enumerate(text):
        if letter != " ":
            marks.append(Character(letter, left + pitch * number, y, before))
        before = " " if letter == " " else ""
    return marks


def test_each_place_has_the_token_that_begins_on_it(words: Encode) -> None:
    slot = MediaSlot(start=10, picture=0, view=View(56, 112, 4, 8, 2, 4), gap=1)
    found = tokens_on([*line("the total", 0.2), *line("of the", 0.7)], slot, words.tokenizer, 1)
    assert found.shape == (8, 1)
    # The words of the first line begin on its first and its second place; the second line begins on the fifth.
    first = words.tokenizer.starts("the total")
    assert found[0, 0] == first[0][0]
    assert found[1, 0] == next(number for number, start in first if start >= 3)
    assert found[4, 0] == words.tokenizer.starts("of the")[0][0]


def test_several_tokens_on_a_place_keep_their_order(words: Encode) -> None:
    slot = MediaSlot(0, 0, View(28, 28, 2, 2, 1, 1))
    numbers = [number for number, _ in words.tokenizer.starts("a b c d")]
    for most in (1, 3, len(numbers) + 2):
        (found,) = tokens_on(line("a b c d", 0.5), slot, words.tokenizer, most)
        assert found.tolist() == (numbers + [IGNORE] * 2)[:most]


def test_a_place_with_nothing_has_a_blank(words: Encode) -> None:
    slot = MediaSlot(0, 0, View(56, 56, 4, 4, 2, 2))
    found = tokens_on(line("a", 0.25), slot, words.tokenizer, 2)
    blank = words.tokenizer.encode(" ")[0]
    assert found.tolist() == [[words.tokenizer.starts("a")[0][0], IGNORE], *([[blank, IGNORE]] * 3)]


def test_pictures_without_marks_teach_nothing(words: Encode) -> None:
    assert (tokens_on((), MediaSlot(0, 0, View(28, 28, 2, 2, 1, 1)), words.tokenizer, 2) == IGNORE).all()


def test_what_is_written_arrives_with_the_pictures(words: Encode) -> None:
    encode = dataclasses.replace(words, written=3)
    source = DocumentsSource(DocumentsConfig(rows=3))
    samples = tuple(encode.row(source.row(index), "documents", "tags") for index in range(3))
    batch, _ = collate(Pack(samples), encode.media)
    assert batch is not None
    assert batch.vision is not None
    assert batch.vision.written is not None
    assert batch.vision.written.shape == (len(batch.vision.token_index), 3)
    assert (batch.vision.written[:, 0] != IGNORE).any()
    # It carries no loss weight of its own.
    assert all((sample.labels == words.row(source.row(i), "", "tags").labels).all() for i, sample in enumerate(samples))


@pytest.mark.parametrize("kind", ["lines", "documents"])
def test_drawn_pictures_say_what_is_written_on_them(words: Encode, kind: str) -> None:
    source = LinesSource(LinesConfig(rows=20)) if kind == "lines" else DocumentsSource(DocumentsConfig(rows=6))
    reading = dataclasses.replace(words, written=2)
    for index in range(len(source)):
        row = source.row(index)
        plain, read = words.row(row, kind, "tags"), reading.row(row, kind, "tags")
        assert plain.written == ()
        assert [tokens.shape for tokens in read.written] == [(slot.view.tokens, 2) for slot in read.slots]
        assert any((tokens != IGNORE).any() for tokens in read.written), "every one has a word on it"
        assert (read.labels == plain.labels).all()


def test_marks_say_what_parts_them() -> None:
    row = LinesSource(LinesConfig(rows=400)).row(399)
    (picture,) = row.fields["images"]
    text = "".join(mark.before + mark.text for mark in picture.marks).removeprefix("\n")
    assert text.split() == row.fields["messages"][1]["content"].split()
    document = DocumentsSource(DocumentsConfig(rows=3)).document(2)
    text = "".join(mark.before + mark.text for mark in document.marks)
    assert sorted(text.split()) == sorted(" ".join(run for run, _ in document.runs).split())
