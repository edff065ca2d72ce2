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
from vitrail.data.encode import Encode, cut, fitted
from vitrail.data.spans import spans
from vitrail.media.config import NativeResolutionConfig
from vitrail.media.rule import media_rule
from vitrail.models.backbones.tokenizer import byte_tokenizer
from vitrail.prompts.templates import template

START, CHOSEN = 7, template("text_to_text")


@pytest.fixture(scope="module")
def encode() -> Encode:
    rules = {"vision": media_rule(NativeResolutionConfig(patch=8, merge=2))}
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


def test_every_answer_is_learnt_and_reads_the_turns_before_it(encode: Encode) -> None:
    sample = encode(talk("One?", "1", "Two?", "22", "Three?"))
    read = "One?</s>", "One?</s>1</s>Two?</s>"
    assert encode.tokenizer.decode(sample.ids.tolist(), show_special=True) == "".join(read)
    assert (sample.labels == IGNORE).all()
    assert sample.target is not None
    assert (len(sample.lengths), sample.target.lengths) == (2, (2, 3))
    shown = [list(spans(part, encode.tokenizer)) for part in sample.apart()]
    assert shown == [[("read", read[0]), ("learnt", "1</s>")], [("read", read[1]), ("learnt", "22</s>")]]
    batch, _ = collate(Pack((sample, encode(talk("So?", "Yes")))), encode.media)
    assert batch is not None
    assert batch.learnt.segments.lengths == (2, 3, 4)
    assert batch.text.segments.lengths == (*sample.lengths, 4)
    assert batch.learnt.ids[batch.learnt.positions.eq(0)].tolist() == [START] * 3


def test_a_picture_stands_before_every_answer_to_it(encode: Encode) -> None:
    sample = encode(talk("One?", "1", "Two?", "2", pictures=1))
    assert [part.slots[0].start for part in sample.apart()] == [0, 0]
    assert [slot.start for slot in sample.slots] == [0, sample.lengths[0]]
    batch, _ = collate(Pack((sample,)), encode.media)
    assert batch is not None
    vision = batch.vision
    assert vision is not None
    assert [link.segment for link in vision.links] == [0, 1]
    one, other = vision.values.split(vision.segments.lengths)
    assert one.equal(other)


def test_what_is_asked_is_what_was_learnt_from(encode: Encode) -> None:
    learnt = encode(talk("One?", "1", "Two?", "2", pictures=1)).apart()[-1]
    asked = encode.question(talk("One?", "1", "Two?", pictures=1))
    assert asked.ids.tolist() == learnt.ids.tolist()
    assert [slot.indices for slot in asked.slots] == [slot.indices for slot in learnt.slots]
    assert len(asked.slots) == 1
    assert asked.target is not None
    assert (asked.target.ids.tolist(), asked.target.weights.tolist()) == ([START], [0.0])
    assert (asked.labels == IGNORE).all()


def test_a_row_without_an_answer_to_a_question_is_refused(encode: Encode) -> None:
    begun = Conversation("one", (Message("assistant", (TextPart("Hello."),)),), location="rows.jsonl:1")
    for row in (talk("What?"), begun):
        with pytest.raises(DataError, match=r"rows\.jsonl:1: an encoder-decoder learns answers, each to a question"):
            encode(row)


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


def test_of_several_answers_the_first_ones_that_fit_are_kept(encode: Encode) -> None:
    row = talk("One?", "1111", "Two?", "2222", "Three?", "3333")
    whole = encode(row)
    sizes = [part.tokens for part in whole.apart()]
    for length in range(1, whole.tokens):
        found = fitted(encode, row, "rows", PackConfig(length=length, overlong="truncate_text"))
        count = sum(sum(sizes[: number + 1]) <= length for number in range(3))
        if count:
            assert isinstance(found, Sample)
            assert (len(found.segments), found.tokens, found.outcome) == (count, sum(sizes[:count]), "text_cut")
        elif length > len(whole.apart()[0]):
            assert isinstance(found, Sample)
            assert found.tokens == length
        else:
            assert found.outcome == "too_long"
    assert cut(whole, whole.tokens - 1) is None, "packs of a fixed length leave it whole"


def test_packs_of_a_fixed_length_are_filled_with_the_beginnings_of_answers(encode: Encode) -> None:
    samples = [encode(talk("question", "a" * 15)) for _ in range(10)]
    packs = pack_window(samples, PackConfig(length=40, policy="fixed_length"))
    assert [pack.tokens for pack in packs[:-1]] == [40] * (len(packs) - 1)
    assert all(len(sample) == 9 for pack in packs for sample in pack.samples)
    assert {sample.outcome for pack in packs for sample in pack.samples} == {"used", "text_cut"}
