"""What stands in a picture is learnt where it stands."""

from __future__ import annotations

import dataclasses

import pytest

from vitrail.contracts.messages import Character, Row
from vitrail.contracts.samples import IGNORE, Pack, Sample, View
from vitrail.data.collate import collate
from vitrail.data.dialects import to_conversation
from vitrail.data.encode import Encode
from vitrail.media.config import NativeResolutionConfig
from vitrail.media.rule import media_rule
from vitrail.models.backbones.tokenizer import small_tokenizer
from vitrail.prompts.config import PictureConfig, PromptConfig
from vitrail.prompts.templates import template
from vitrail.synthetic.config import LinesConfig
from vitrail.synthetic.documents.config import DocumentsConfig
from vitrail.synthetic.documents.source import DocumentsSource
from vitrail.synthetic.lines import LinesSource
from vitrail.training.objectives import EmbeddingAlignment, IdealFeatures
from vitrail.training.objectives.embedding_alignment import tokens_on


@pytest.fixture(scope="module")
def words() -> Encode:
    """Tokens of several letters, media tokens of 28 px, and a row break between their rows."""
    chat = template("terse")
    media = {"vision": media_rule(NativeResolutionConfig(patch=14, merge=2, min_tokens=1, max_tokens=120))}
    prompt = PromptConfig(template="terse", picture=PictureConfig(row_break="<|row|>"))
    return Encode(media, chat, small_tokenizer((*chat.specials, "<|row|>")), prompt)


def line(text: str, y: float, left: float = 0.05, pitch: float = 0.05) -> list[Character]:
    characters, before = [], "\n"
    for number, letter in enumerate(text):
        if letter != " ":
            characters.append(Character(letter, left + pitch * number, y, before))
        before = " " if letter == " " else ""
    return characters


def sample_of(encode: Encode, row: Row) -> Sample:
    return encode(to_conversation(row, "tags"), "drawn")


def test_each_media_token_has_the_token_that_begins_on_it(words: Encode) -> None:
    view = View(56, 112, 4, 8, 2, 4)
    found = tokens_on([*line("the total", 0.2), *line("of the", 0.7)], view, words.tokenizer, 1)
    assert found.shape == (8, 1)
    # The words of the first line begin on its first and its second; the second line begins on the fifth.
    first = words.tokenizer.starts("the total")
    assert found[0, 0] == first[0][0]
    assert found[1, 0] == next(number for number, start in first if start >= 3)
    assert found[4, 0] == words.tokenizer.starts("of the")[0][0]


def test_several_tokens_on_a_media_token_keep_their_order(words: Encode) -> None:
    view = View(28, 28, 2, 2, 1, 1)
    numbers = [number for number, _ in words.tokenizer.starts("a b c d")]
    for most in (1, 3, len(numbers) + 2):
        (found,) = tokens_on(line("a b c d", 0.5), view, words.tokenizer, most)
        assert found.tolist() == (numbers + [IGNORE] * 2)[:most]


def test_a_media_token_with_nothing_has_a_blank(words: Encode) -> None:
    found = tokens_on(line("a", 0.25), View(56, 56, 4, 4, 2, 2), words.tokenizer, 2)
    blank = words.tokenizer.encode(" ")[0]
    assert found.tolist() == [[words.tokenizer.starts("a")[0][0], IGNORE], *([[blank, IGNORE]] * 3)]


def test_pictures_without_known_characters_teach_nothing(words: Encode) -> None:
    assert (tokens_on((), View(28, 28, 2, 2, 1, 1), words.tokenizer, 2) == IGNORE).all()


def test_what_is_written_arrives_with_the_pictures(words: Encode) -> None:
    encode = dataclasses.replace(words, needs=EmbeddingAlignment(tokens=3).needs)
    source = DocumentsSource(DocumentsConfig(rows=3))
    samples = tuple(sample_of(encode, source.row(index)) for index in range(3))
    batch, _ = collate(Pack(samples), encode.media)
    assert batch is not None
    assert batch.vision is not None
    targets = batch.targets["token_targets"]
    assert targets.shape == (len(batch.vision.token_index), 3)
    assert (targets[:, 0] != IGNORE).any()
    # It carries no loss weight of its own.
    plain = [sample_of(words, source.row(index)) for index in range(3)]
    assert all((sample.labels == other.labels).all() for sample, other in zip(samples, plain, strict=True))
    assert all(other.targets == {} for other in plain)


@pytest.mark.parametrize("kind", ["lines", "documents"])
def test_drawn_pictures_say_what_is_written_on_them(words: Encode, kind: str) -> None:
    source = LinesSource(LinesConfig(rows=20)) if kind == "lines" else DocumentsSource(DocumentsConfig(rows=6))
    asking = dataclasses.replace(words, needs=IdealFeatures(tokens=2).needs)
    for index in range(len(source)):
        plain, asked = (sample_of(encode, source.row(index)) for encode in (words, asking))
        assert plain.targets == {}
        targets = asked.targets["token_targets"]
        assert targets.shape == (sum(slot.view.tokens for slot in asked.slots), 2)
        assert (targets != IGNORE).any(), "every one has a word on it"
        assert (asked.labels == plain.labels).all()


def test_characters_say_what_parts_them() -> None:
    row = LinesSource(LinesConfig(rows=400)).row(399)
    (picture,) = row.fields["images"]
    text = "".join(one.before + one.text for one in picture.characters).removeprefix("\n")
    assert text.split() == row.fields["messages"][1]["content"].split()
    document = DocumentsSource(DocumentsConfig(rows=3)).document(2)
    text = "".join(one.before + one.text for one in document.characters)
    assert sorted(text.split()) == sorted(" ".join(run for run, _ in document.runs).split())
