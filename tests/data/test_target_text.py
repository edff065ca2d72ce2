"""What an encoder-decoder reads and says: ids of question and answer, their room in a pack, and how they are cut."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Conversation, ImagePart, Message, TextPart
from vitrail.contracts.samples import IGNORE, Pack, Sample
from vitrail.data.collate import collate, pack_window
from vitrail.data.config import PackConfig
from vitrail.data.encode import Encode, cut, fitted, spans
from vitrail.media.config import NativeResolutionConfig
from vitrail.media.rule import vision_alone
from vitrail.models.backbones.tokenizer import byte_tokenizer
from vitrail.prompts.templates import template

START, CHOSEN = 7, template("text_to_text")


@pytest.fixture(scope="module")
def encode() -> Encode:
    rules = vision_alone(NativeResolutionConfig(patch=8, merge=2))
    return Encode(rules, CHOSEN, byte_tokenizer(CHOSEN.specials), start=START)


def talk(*texts: str, pictures: int = 0) -> Conversation:
    """Question, answer, question ...; the first question comes with pictures."""
    image = np.zeros((32, 32, 3), np.uint8)
    messages = [
        Message("user" if number % 2 == 0 else "assistant", (TextPart(text),)) for number, text in enumerate(texts)
    ]
    shown = tuple(ImagePart(image) for _ in range(pictures))
    messages[0] = Message("user", (*shown, *messages[0].parts))
    return Conversation("one", tuple(messages), location="rows.jsonl:1")


def test_the_question_is_read_and_the_answer_is_learnt_to_its_end(encode: Encode) -> None:
    end, ids = encode.tokenizer.special("</s>"), encode.tokenizer.encode
    sample = encode(talk("What?", "A cat."))
    assert sample.ids.tolist() == [*ids("What?"), end]
    assert (sample.labels == IGNORE).all()
    assert not sample.weights.any()
    assert sample.target is not None
    assert sample.target.ids.tolist() == [START, *ids("A cat.")]
    assert sample.target.labels.tolist() == [*ids("A cat."), end]
    assert sample.target.weights.tolist() == [1.0] * 7
    assert sample.tokens == len(sample) + 7


def test_earlier_turns_are_read_and_only_read(encode: Encode) -> None:
    sample = encode(talk("One?", "1", "Two?", "2"))
    assert encode.tokenizer.decode(sample.ids.tolist(), show_special=True) == "One?</s>1</s>Two?</s>"
    assert (sample.labels == IGNORE).all()
    assert sample.target is not None
    assert encode.tokenizer.decode(sample.target.labels.tolist(), show_special=True) == "2</s>"
    assert list(spans(sample, encode.tokenizer)) == [("read", "One?</s>1</s>Two?</s>"), ("learnt", "2</s>")]


def test_what_is_asked_is_what_was_learnt_from(encode: Encode) -> None:
    learnt = encode(talk("One?", "1", "Two?", "2", pictures=1))
    asked = encode.question(talk("One?", "1", "Two?", pictures=1))
    assert asked.ids.tolist() == learnt.ids.tolist()
    assert asked.slots == learnt.slots
    assert len(asked.slots) == 1
    assert asked.target is not None
    assert (asked.target.ids.tolist(), asked.target.weights.tolist()) == ([START], [0.0])
    assert (asked.labels == IGNORE).all()


def test_a_row_that_ends_with_no_answer_is_refused(encode: Encode) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl:1: an encoder-decoder learns a question and its answer"):
        encode(talk("What?", "A cat.", "And?"))


def test_a_picture_cannot_be_said(encode: Encode) -> None:
    image = ImagePart(np.zeros((32, 32, 3), np.uint8))
    row = Conversation(
        "one", (Message("user", (TextPart("Draw."),)), Message("assistant", (TextPart("There: "), image)))
    )
    with pytest.raises(DataError, match="cannot be said"):
        encode(row)


def test_both_streams_are_in_the_batch(encode: Encode) -> None:
    samples = tuple(encode(talk(f"{'Why' * number}?", "x" * number, pictures=1)) for number in (1, 4, 2))
    for pad_to in (0, 200):
        batch, _ = collate(Pack(samples), encode.media, pad_to)
        assert batch is not None
        assert batch.learnt is batch.streams["target"]
        assert batch.tokens == Pack(samples).tokens == sum(sample.tokens for sample in samples)
        assert batch.label_weight == sum(len(sample.target.ids) for sample in samples if sample.target)
        padded = bool(pad_to)
        assert len(batch.text.segments.lengths) == len(batch.learnt.segments.lengths) == 3 + padded
        assert batch.learnt.segments.lengths == (2, 5, 3, *[1] * padded)
        assert batch.text.segments.total == (pad_to or sum(map(len, samples)))
        assert batch.learnt.positions.tolist()[:9] == [0, 1, 0, 1, 2, 3, 4, 0, 1]
        assert not batch.learnt.weights[10:].any()


def test_a_pack_holds_so_many_tokens_read_and_said(encode: Encode) -> None:
    samples = [encode(talk("q" * (number % 7 + 1), "a" * (number % 11 + 1))) for number in range(60)]
    packs = pack_window(samples, PackConfig(length=40))
    assert max(pack.tokens for pack in packs) <= 40
    assert sum(len(pack.samples) for pack in packs) == 60
    assert sum(pack.tokens for pack in packs[:-1]) / (40 * (len(packs) - 1)) > 0.9


def test_a_cut_takes_the_end_of_the_answer_and_leaves_the_question(encode: Encode) -> None:
    sample = encode(talk("What is it?", "A long answer."))
    for room in range(len(sample) + 1, sample.tokens):
        short = cut(sample, room)
        assert short is not None
        assert short.target is not None
        assert sample.target is not None
        assert short.tokens == room
        assert short.ids.tolist() == sample.ids.tolist()
        said = room - len(sample)
        assert short.target.labels.tolist() == sample.target.labels.tolist()[:said]
        assert short.target.ids.tolist() == sample.target.ids.tolist()[:said]
        assert short.outcome == "text_cut"
    assert cut(sample, len(sample)) is None
    assert cut(sample, 3) is None


@pytest.mark.parametrize(("answer", "outcome"), [(30, "used"), (60, "text_cut")])
def test_what_is_too_long_is_cut_or_lost(encode: Encode, answer: int, outcome: str) -> None:
    """A pack of 45 tokens: 12 are read, with what ends them."""
    pack = PackConfig(length=45, overlong="truncate_text")
    row = talk("What is it?", "a" * answer)
    found = fitted(encode, row, "rows", pack)
    assert isinstance(found, Sample)
    assert (found.outcome, found.tokens) == (outcome, min(12 + answer + 1, 45))
    dropped = fitted(encode, row, "rows", dataclasses.replace(pack, overlong="drop"))
    assert dropped.outcome == ("used" if outcome == "used" else "too_long")
    lost = fitted(encode, talk("q" * 60, "a"), "rows", pack)
    assert lost.outcome == "too_long"
    assert "63 tokens, a pack holds 45" in lost.reason


def test_packs_of_a_fixed_length_are_filled_with_the_beginnings_of_answers(encode: Encode) -> None:
    samples = [encode(talk("question", "a" * 15)) for _ in range(10)]
    packs = pack_window(samples, PackConfig(length=40, policy="fixed_length"))
    assert [pack.tokens for pack in packs[:-1]] == [40] * (len(packs) - 1)
    assert all(len(sample) == 9 for pack in packs for sample in pack.samples)
    assert {sample.outcome for pack in packs for sample in pack.samples} == {"used", "text_cut"}
