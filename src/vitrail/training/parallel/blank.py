"""Ranks must run the same encoders in every pass: a pack without some medium gets a blank one, in a sample of its own.

Nothing of that sample is learnt, and no other sees it (a pack's samples never see each other), so that what the pack
teaches is the same to the last bit, and gradients of what the blank ran through are exact zeros. Costs one small
picture or sound, where a rank lacks what another has.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np
import torch

from vitrail.contracts.errors import TrainingError
from vitrail.contracts.messages import AudioPart, Conversation, ImagePart, MediaPart, Message, TextPart
from vitrail.contracts.protocols import Needs
from vitrail.contracts.samples import (
    IGNORE,
    Batch,
    Link,
    MediaStream,
    Pack,
    Sample,
    Segments,
    Stream,
    TargetText,
    TextStream,
)
from vitrail.data.collate import collate
from vitrail.data.encode import Encode

BLANKS: Sequence[Callable[[], MediaPart]] = (
    lambda: ImagePart(np.full((32, 32, 3), 255, np.uint8)),
    lambda: AudioPart(np.zeros(16_000, np.float32), 16_000),
)
"""Small media of every kind: white paper, a second of silence."""


def with_blanks(batch: Batch, streams: Collection[str], encode: Encode) -> Batch:
    """The batch with a blank of every stream it lacks; streams: the names of those it is to have.

    Raises TrainingError for a stream that no blank is known for.
    """
    parts: list[MediaPart] = []
    provided = set(batch.media)
    for name in sorted(set(streams) - provided):
        if name in provided:
            continue
        part = next((make() for make in BLANKS if encode.media[name].reads(make())), None)
        if part is None:
            raise TrainingError(f"stream '{name}': every pack needs media of it where several processes train")
        parts.append(part)
        provided |= {name for name, rule in encode.media.items() if rule.reads(part)}
    if not parts:
        return batch
    blank, events = collate(Pack(tuple(_sample((part,), encode) for part in parts)), encode.media)
    assert blank is not None, f"a blank can be decoded: {events[0].reason}"
    return joined(batch, blank)


def nothing(encode: Encode) -> Batch:
    """A pack of one word, of which nothing is learnt, for a rank that has no pack left; counted as padding."""
    word, _ = collate(Pack((_sample((), encode),)), encode.media)
    assert word is not None, "text can be read"
    return replace(word, sample_ids=(), sources=(), padding=word.tokens + word.padding)


def _sample(parts: Sequence[MediaPart], encode: Encode) -> Sample:
    """A conversation about blanks, or nothing, of which nothing is learnt."""
    asked, said = Message("user", (*parts, TextPart("."))), Message("assistant", (TextPart("."),))
    # What an objective compares goes by samples of the data; targets lie beside the media, blanks included.
    encode = replace(encode, needs=Needs(targets=encode.needs.targets))
    sample = encode(Conversation("blank", (asked, said)))
    target = sample.target
    if target is not None:
        labels, weights = np.full_like(target.labels, IGNORE), np.zeros_like(target.weights)
        target = TargetText(target.ids, labels, weights)
    labels, weights = np.full_like(sample.labels, IGNORE), np.zeros_like(sample.weights)
    return replace(sample, labels=labels, weights=weights, target=target)


def joined(batch: Batch, blank: Batch) -> Batch:
    """The batch with the samples of another behind its own, counted as padding."""
    length, segments = batch.text.segments.total, len(batch.text.segments.lengths)
    streams: dict[str, Stream] = dict(batch.streams)
    for name, stream in blank.streams.items():
        before = streams.get(name)
        if isinstance(stream, MediaStream):
            assert before is None or isinstance(before, MediaStream), f"'{name}' is a stream of media"
            moved = _moved(stream, length, segments)
            streams[name] = moved if before is None else _media(before, moved)
        else:
            assert isinstance(before, TextStream), f"'{name}' is a stream of text, which every batch has"
            streams[name] = _text(before, stream)
    targets = {name: torch.cat([target, blank.targets[name]]) for name, target in batch.targets.items()}
    return replace(batch, streams=streams, targets=targets, padding=batch.padding + blank.text.segments.total)


def _moved(stream: MediaStream, length: int, segments: int) -> MediaStream:
    """A stream that follows a text of so many positions and segments."""
    links = tuple(Link(link.segment + segments, link.start + length) for link in stream.links)
    return replace(stream, token_index=stream.token_index + length, links=links)


def _media(first: MediaStream, second: MediaStream) -> MediaStream:
    # Stills may come with one frame where a pack of videos has several: as many equal ones.
    frames = first.values.shape[1] // second.values.shape[1]
    values = second.values if frames == 1 else second.values.unflatten(1, (3, 1, -1)).expand(-1, -1, frames, -1)
    return MediaStream(
        values=torch.cat([first.values, values.flatten(1)]),
        positions=torch.cat([first.positions, second.positions]),
        segments=Segments((*first.segments.lengths, *second.segments.lengths)),
        token_index=torch.cat([first.token_index, second.token_index]),
        views=(*first.views, *second.views),
        links=(*first.links, *second.links),
    )


def _text(first: TextStream, second: TextStream) -> TextStream:
    return TextStream(
        ids=torch.cat([first.ids, second.ids]),
        labels=torch.cat([first.labels, second.labels]),
        weights=torch.cat([first.weights, second.weights]),
        positions=torch.cat([first.positions, second.positions], dim=-1),
        segments=Segments((*first.segments.lengths, *second.segments.lengths)),
    )
