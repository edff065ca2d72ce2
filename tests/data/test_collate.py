"""Packs to tensors: segments, positions, pictures where they stand, and damage that stays where it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vitrail.contracts.errors import MediaError
from vitrail.contracts.messages import Conversation, Message, Row, TextPart
from vitrail.contracts.protocols import Needs, PictureRule
from vitrail.contracts.samples import IGNORE, Batch, Pack, Sample
from vitrail.data.collate import collate, decode
from vitrail.data.dialects import to_conversation
from vitrail.data.encode import Encode, cut
from vitrail.data.ledger import Event
from vitrail.media import image
from vitrail.media.native import patchify
from vitrail.media.rule import pixels as pixels_of
from vitrail.media.vision import Vision

Paint = Callable[[Path, int, int], Path]
SIZES = {"a": (48, 24), "b": (16, 16), "c": (20, 50)}


@pytest.fixture
def samples(tmp_path: Path, encode: Encode, paint: Paint) -> dict[str, Sample]:
    """One picture, two pictures (one of them twice), no picture."""
    for name, (width, height) in SIZES.items():
        paint(tmp_path / f"{name}.png", width, height)
    talks = {
        "one": ("<image>What?", "a"),
        "two": ("<image> or <image> or <image>?", "bcb"),
        "none": ("What?", ""),
    }
    made = {}
    for name, (text, pictures) in talks.items():
        turns = [{"role": "user", "content": text}, {"role": "assistant", "content": f"{name}!"}]
        fields = {"messages": turns, "images": [f"{letter}.png" for letter in pictures]}
        row = Row(name, fields, tmp_path, f"my.jsonl:{len(made) + 1}")
        made[name] = encode(to_conversation(row, "tags"), "mine")
    return made


def picture_rule_of(encode: Encode) -> PictureRule:
    rule = encode.media["vision"]
    assert isinstance(rule, Vision)
    return rule.picture


def collated(encode: Encode, *samples: Sample, pad_to: int = 0) -> Batch:
    batch, events = collate(Pack(samples), encode.media, pad_to)
    assert batch is not None
    assert [event.id for event in events] == [sample.id for sample in samples]
    return batch


def same(one: Batch, other: Batch) -> None:
    """Every tensor and every name equal."""
    assert dataclasses.replace(one, streams=other.streams, targets=other.targets) == other
    assert one.streams.keys() == other.streams.keys()
    assert one.targets.keys() == other.targets.keys()
    assert all(torch.equal(target, other.targets[name]) for name, target in one.targets.items())
    for stream, mine in one.streams.items():
        theirs = vars(other.streams[stream])
        for name, value in vars(mine).items():
            equal = torch.equal(value, theirs[name]) if isinstance(value, torch.Tensor) else value == theirs[name]
            assert equal, f"{stream}.{name}"


def test_samples_lie_end_to_end_each_its_own_segment(encode: Encode, samples: dict[str, Sample]) -> None:
    pack = list(samples.values())
    batch = collated(encode, *pack)
    lengths = [len(sample) for sample in pack]
    assert batch.text.segments.lengths == tuple(lengths)
    assert batch.text.positions.tolist() == [index for length in lengths for index in range(length)]
    for name in ("ids", "labels", "weights"):
        whole = np.concatenate([getattr(sample, name) for sample in pack])
        assert np.array_equal(getattr(batch.text, name).numpy(), whole)
    assert (batch.text.ids.dtype, batch.text.labels.dtype, batch.text.weights.dtype, batch.text.positions.dtype) == (
        torch.int64,
        torch.int64,
        torch.float32,
        torch.int64,
    )
    assert batch.sample_ids == ("one", "two", "none")
    assert batch.sources == ("mine",) * 3
    assert batch.padding == 0
    assert batch.tokens == sum(lengths)
    assert batch.label_weight == sum(len(f"{name}!") + 1 for name in samples)


def test_no_label_reaches_over_a_segments_end(encode: Encode, samples: dict[str, Sample]) -> None:
    batch = collated(encode, *samples.values())
    ends = np.cumsum(batch.text.segments.lengths) - 1
    assert (batch.text.labels[ends] == IGNORE).all()
    assert (batch.text.weights[ends] == 0).all()


def test_picture_tokens_go_to_their_fillers_and_nowhere_else(encode: Encode, samples: dict[str, Sample]) -> None:
    batch = collated(encode, *samples.values())
    assert batch.vision is not None
    filler = encode.tokenizer.special("<|end|>")
    index = batch.vision.token_index
    assert len(index) == len(set(index.tolist())) == sum(s.view.tokens for one in samples.values() for s in one.slots)
    assert (batch.text.ids[index] == filler).all()
    # Of the end token, what is left are the ends themselves.
    assert int((batch.text.ids == filler).sum()) - len(index) == len(samples)
    assert (batch.text.weights[index[:-1]] == 0).all()


def test_patches_are_the_pictures_in_reading_order(tmp_path: Path, encode: Encode, samples: dict[str, Sample]) -> None:
    vision = collated(encode, *samples.values()).vision
    assert vision is not None
    rule = picture_rule_of(encode)
    patches, positions, lengths, views = [], [], [], []
    for name in "abcb":
        (view,) = rule.views(*image.size(tmp_path / f"{name}.png"))
        (pixels,) = pixels_of(rule, image.load(tmp_path / f"{name}.png"), (view,))
        values, where = patchify(pixels, rule.patch, rule.merge)
        patches.append(values)
        positions.append(where)
        lengths.append(len(values))
        views.append(view)
    assert vision.views == tuple(views)
    assert np.array_equal(vision.values.numpy(), np.concatenate(patches))
    assert np.array_equal(vision.positions.numpy(), np.concatenate(positions))
    assert vision.segments.lengths == tuple(lengths)
    assert vision.values.dtype == torch.float32
    assert len(vision.token_index) * rule.merge**2 == len(vision.values)


def test_padding_is_a_segment_without_loss(encode: Encode, samples: dict[str, Sample]) -> None:
    bare = collated(encode, *samples.values())
    padded = collated(encode, *samples.values(), pad_to=bare.tokens + 9)
    assert padded.padding == 9
    assert padded.tokens == bare.tokens
    assert padded.text.segments.lengths == (*bare.text.segments.lengths, 9)
    assert padded.text.positions[-9:].tolist() == list(range(9))
    assert (padded.text.labels[-9:] == IGNORE).all()
    assert (padded.text.weights[-9:] == 0).all()
    assert torch.equal(padded.text.ids[:-9], bare.text.ids)
    assert padded.label_weight == bare.label_weight
    assert padded.sample_ids == bare.sample_ids
    same(collated(encode, *samples.values(), pad_to=bare.tokens), bare)
    same(collated(encode, *samples.values(), pad_to=3), bare)


def test_text_alone_has_no_vision(encode: Encode, samples: dict[str, Sample]) -> None:
    assert collated(encode, samples["none"]).vision is None


def test_links_say_which_text_a_view_stands_in(encode: Encode, samples: dict[str, Sample]) -> None:
    """Its segment, and where in the stream its first token is."""
    batch = collated(encode, samples["none"], samples["one"], samples["two"])
    assert batch.vision is not None
    assert [link.segment for link in batch.vision.links] == [1, 2, 2, 2]
    counts = [view.tokens for view in batch.vision.views]
    firsts = [part[0] for part in batch.vision.token_index.split(counts)]
    assert [link.start for link in batch.vision.links] == firsts
    ends = np.cumsum(batch.text.segments.lengths)
    assert [int(np.searchsorted(ends, link.start, "right")) for link in batch.vision.links] == [1, 2, 2, 2]


def turned(conversation: Conversation) -> tuple[Conversation, ...]:
    """As the row goes on, and as a worse answer would."""
    asked = conversation.messages[:-1]
    return conversation, dataclasses.replace(conversation, messages=(*asked, Message("assistant", (TextPart("No"),))))


def test_the_ways_a_row_may_go_on_are_segments_of_one_sample(
    tmp_path: Path, encode: Encode, samples: dict[str, Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each as if it were encoded alone; pictures that they share are decoded once."""
    asking = dataclasses.replace(encode, needs=Needs(variants=turned))
    turns = [{"role": "user", "content": "<image> or <image>?"}, {"role": "assistant", "content": "It is."}]
    row = Row("pair", {"messages": turns, "images": ["a.png", "b.png"]}, tmp_path, "my.jsonl:4")
    conversation = to_conversation(row)
    sample = asking(conversation, "mine")
    apart = [encode(one, "mine") for one in turned(conversation)]
    assert sample.segments == sample.lengths == tuple(map(len, apart))
    loaded: list[object] = []

    def load(given: object) -> object:
        loaded.append(given)
        return really(given)

    really = image.load
    monkeypatch.setattr("vitrail.media.vision.image.load", load)
    batch = collated(asking, samples["none"], sample)
    assert loaded == [tmp_path / "a.png", tmp_path / "b.png"]
    alone = collated(encode, samples["none"], *apart)
    assert batch.sample_ids == ("none", "pair", "pair")
    assert batch.vision is not None
    assert [link.segment for link in batch.vision.links] == [1, 1, 2, 2]
    same(batch, alone)
    assert cut(sample, len(sample) - 1) is None, "one of its segments would be cut, and the others not"


def test_what_is_done_to_a_picture_is_done_in_every_segment_that_shows_it(
    tmp_path: Path, encode: Encode, samples: dict[str, Sample]
) -> None:
    asking = dataclasses.replace(encode, needs=Needs(variants=turned))
    turns = [{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": "It is."}]
    sample = asking(to_conversation(Row("pair", {"messages": turns, "images": ["a.png"]}, tmp_path)), "mine")

    def darker(pixels: np.ndarray, number: int) -> np.ndarray:
        return pixels // (number + 2)

    batch = collated(asking, dataclasses.replace(sample, alter=darker))
    assert batch.vision is not None
    first, second = batch.vision.values.split(batch.vision.segments.lengths)
    assert torch.equal(first, second)


def break_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def test_a_damaged_picture_takes_its_sample_out_and_leaves_the_rest(
    tmp_path: Path, encode: Encode, samples: dict[str, Sample]
) -> None:
    break_off(tmp_path / "c.png")
    batch, events = collate(Pack(tuple(samples.values())), encode.media)
    assert batch is not None
    same(batch, collated(encode, samples["one"], samples["none"]))
    assert [(event.id, event.outcome) for event in events] == [("one", "used"), ("two", "unreadable"), ("none", "used")]
    assert events[1].reason.startswith(f"my.jsonl:2: picture '{tmp_path / 'c.png'}' is damaged: ")
    assert len(events[1].reason.splitlines()) == 1
    with pytest.raises(MediaError):
        decode(samples["two"], encode.media)


def test_nothing_left_is_no_batch(tmp_path: Path, encode: Encode, samples: dict[str, Sample]) -> None:
    for name in SIZES:
        break_off(tmp_path / f"{name}.png")
    batch, events = collate(Pack((samples["one"], samples["two"])), encode.media, pad_to=500)
    assert batch is None
    assert [event.outcome for event in events] == ["unreadable"] * 2


def test_a_picture_that_shrinks_after_it_was_measured_still_fills_its_placeholders(
    tmp_path: Path, encode: Encode, samples: dict[str, Sample], paint: Paint
) -> None:
    paint(tmp_path / "a.png", 8, 8)
    vision = collated(encode, samples["one"]).vision
    assert vision is not None
    assert len(vision.token_index) == samples["one"].slots[0].view.tokens


def test_a_cut_sample_is_counted_as_cut(encode: Encode, samples: dict[str, Sample]) -> None:
    kept = cut(samples["one"], len(samples["one"]) - 2)
    assert kept is not None
    _, events = collate(Pack((samples["none"], dataclasses.replace(kept, reason="why"))), encode.media)
    assert events == [Event("none", "mine", "used"), Event("one", "mine", "text_cut", "why")]


def test_a_batch_moves_as_a_whole(encode: Encode, samples: dict[str, Sample]) -> None:
    batch = collated(encode, *samples.values())
    same(batch.to("cpu"), batch)
    moved = batch.to("meta")
    assert moved.vision is not None
    tensors = [value for one in (moved.text, moved.vision) for value in vars(one).values() if hasattr(value, "device")]
    assert len(tensors) == 7
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.text.segments == batch.text.segments
    assert collated(encode, samples["none"]).to("meta").vision is None
