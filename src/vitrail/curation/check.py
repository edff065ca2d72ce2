"""A look at every row, by the same steps that training takes: read, render, fit, decode. One pass, flat memory.

Most of the time goes into decoding: some 10 ms for a photograph, once for neighbours that share it.
"""

from __future__ import annotations

import hashlib
import heapq
import io
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitrail.contracts.errors import DataError, MediaError
from vitrail.contracts.messages import AudioPart, Conversation, ImagePart, MediaPart, Row, VideoPart
from vitrail.contracts.protocols import Source, StreamedSource
from vitrail.contracts.samples import Sample, View
from vitrail.curation.findings import Findings, Long, Shown, SourceFindings, Told
from vitrail.curation.seen import Met, Seen, print_of
from vitrail.curation.words import scripts, sort_of
from vitrail.data.config import PackConfig, Reading
from vitrail.data.dialects import recognise, to_conversation
from vitrail.data.encode import Encode, fitted
from vitrail.data.mixture import numbered
from vitrail.data.spans import spans
from vitrail.media import audio, image, video

SAMPLES, LONGEST, KINDS = 20, 10, 200
"""Samples that are shown; longest ones that are named; kinds of questions that are counted."""

NEIGHBOURS = 256
"""Media whose facts are kept for the rows that follow: rows about one picture lie together, as a rule."""

SIDE, SHOWN = 320, 3
"""Longest side of a shown picture, px, and how many media a sample shows."""


@dataclass(frozen=True)
class Checked:
    """A source to look at. rows: at most so many, 0 for all."""

    name: str
    source: Source | StreamedSource
    reading: Reading
    held_out: bool = False
    rows: int = 0

    @property
    def total(self) -> int | None:
        """Rows that will be looked at; None where nobody knows."""
        if numbered(self.source):
            return min(len(self.source), self.rows or len(self.source))
        return self.rows or None

    def all(self) -> Iterator[tuple[str, Row | DataError]]:
        """Each row with its name, or what is wrong with it."""
        if not numbered(self.source):
            for number, (row, _) in enumerate(islice(self.source.rows(0, None), self.rows or None)):
                yield (row.id if isinstance(row, Row) else f"row {number}"), row
            return
        for index in range(self.total or 0):
            try:
                row = self.source.row(index)
            except DataError as error:
                yield f"row {index}", error
            else:
                yield row.id, row


@dataclass(frozen=True)
class _Medium:
    """What is known of a medium once it was decoded. digest: of its bytes. print: of a still picture alone."""

    kind: type[MediaPart]
    digest: bytes
    width: int = 0
    height: int = 0
    milliseconds: int = 0
    print: np.ndarray[Any, np.dtype[np.uint8]] | None = None


@dataclass
class Check:
    """Goes over rows and fills `findings`. pack: None where nobody says how long a sample may be."""

    findings: Findings
    encode: Encode
    pack: PackConfig | None
    seen: Seen
    _recent: dict[Path, _Medium] = field(default_factory=dict)
    _kept: list[tuple[Conversation, Sample]] = field(default_factory=list)
    _longest: list[tuple[int, int, Long]] = field(default_factory=list)
    _dice: random.Random = field(default_factory=lambda: random.Random(0))

    def source(self, checked: Checked) -> Iterator[None]:
        """Looks at a source's rows, and yields after each."""
        total = len(checked.source) if numbered(checked.source) else None
        found = SourceFindings(checked.held_out, total)
        self.findings.sources[checked.name] = found
        for name, row in checked.all():
            found.rows += 1
            found.outcomes[self._row(name, row, checked, found)] += 1
            yield

    def finish(self) -> None:
        """Draws the samples that are shown."""
        self.findings.longest = [long for *_, long in sorted(self._longest, reverse=True)]
        self.findings.shown = [self._shown(*kept) for kept in self._kept]

    def _row(self, name: str, row: Row | DataError, checked: Checked, found: SourceFindings) -> str:
        """The row's outcome."""
        location = name
        try:
            if isinstance(row, DataError):
                raise row
            location = row.location or row.id
            conversation = to_conversation(row, checked.reading)
            named = checked.reading.dialect
            found.dialects[recognise(row) if named == "auto" else named] += 1
            found.with_media += bool(conversation.media)
            sample = self.encode(conversation, checked.name)
            media = [self._medium(sample, number, location) for number in range(len(sample.media))]
        except DataError as error:
            return self._told(Told(name, checked.name, "unreadable", str(error)), location)
        self._compare(conversation, sample, media, location, checked.held_out)
        if checked.held_out:
            return "used"
        self._count(conversation, sample, media)
        return self._fitted(conversation, sample, checked.name, location)

    def _fitted(self, conversation: Conversation, sample: Sample, source: str, location: str) -> str:
        pack = self.pack
        if pack is None or (sample.tokens <= pack.length and sample.patches <= pack.patches):
            return "used"
        found = fitted(self.encode, conversation, source, pack)
        return self._told(Told(sample.id, source, found.outcome, found.reason), location)

    def _told(self, told: Told, location: str) -> str:
        self.findings.tell(told, sort_of(told.reason, location))
        return told.outcome

    def _medium(self, sample: Sample, number: int, location: str) -> _Medium:
        """Raises MediaError, with the row's location, for what training could not decode."""
        part = sample.media[number]
        path = part.content if isinstance(part.content, Path) else None
        if path is not None and path in self._recent:
            return self._recent[path]
        try:
            if not isinstance(part, ImagePart) or isinstance(part, VideoPart):
                self._decode(sample, number)
            found = _decoded(part, path.read_bytes() if path and path.is_file() else part.content)
        except (MediaError, OSError) as error:
            raise MediaError(f"{location}: {error}") from error
        if path:
            if len(self._recent) >= NEIGHBOURS:
                self._recent.pop(next(iter(self._recent)))
            self._recent[path] = found
        return found

    def _decode(self, sample: Sample, number: int) -> None:
        """As training does: the frames that it would look at, a sound at the rate at which it would hear it.

        Pictures are left to `_decoded`, which wants them whole, and opens them as training does.
        """
        views: dict[str, list[View]] = {}
        for slot in sample.slots:
            if slot.media == number:
                views.setdefault(slot.view.stream, []).append(slot.view)
        for stream, of_stream in views.items():
            self.encode.media[stream].decoded(sample.media[number], of_stream)

    def _compare(
        self, conversation: Conversation, sample: Sample, media: list[_Medium], location: str, held_out: bool
    ) -> None:
        """With the rows and media before this one."""
        findings = self.findings
        said = "\0".join(f"{turn.role}:{turn.text}" for turn in (*conversation.messages, *conversation.rejected))
        here = Met(location, held_out)
        first = self.seen.row(_digest(b"".join((said.encode(errors="replace"), *(one.digest for one in media)))), here)
        if first and first.held_out == held_out:
            findings.rows_again.add(first.name, location)
        for part, one in zip(sample.media, media, strict=True):
            name = str(part.content) if isinstance(part.content, str | Path) else location
            shown = Met(name, held_out)
            same = self.seen.picture(one.digest, shown)
            alike = None if same or one.print is None else self.seen.similar(one.print, shown)
            other = same or alike
            if other and other.held_out != held_out:
                findings.leaked.add(other.name, name)
            elif alike:
                findings.similar.add(alike.name, name)
            elif same and same.name != name and isinstance(part.content, str | Path):
                findings.names_again.add(same.name, name)
            findings.distinct_pictures += same is None and not held_out and one.print is not None

    def _count(self, conversation: Conversation, sample: Sample, media: list[_Medium]) -> None:
        findings = self.findings
        tokens = [0] * len(media)
        for slot in sample.slots:
            tokens[slot.media] += slot.view.tokens
        for one, amount in zip(media, tokens, strict=True):
            if one.kind is AudioPart:
                findings.sounds += 1
                findings.milliseconds.add(one.milliseconds)
                findings.sound_tokens.add(amount)
                continue
            findings.videos += one.kind is VideoPart
            findings.pictures += one.kind is not VideoPart
            findings.width.add(one.width)
            findings.height.add(one.height)
            findings.picture_tokens.add(amount)
        findings.pictures_a_sample.add(len(media))
        findings.sample_tokens.add(sample.tokens)
        findings.learnt.add(int((sample.weights > 0).sum()))
        findings.turns.add(sum(message.role == "assistant" for message in conversation.messages))
        if conversation.kind in findings.kinds or len(findings.kinds) < KINDS:
            findings.kinds[conversation.kind] += 1
        for message in conversation.messages:
            findings.characters.update(scripts(message.text))
        number = findings.sample_tokens.count
        long = Long(sample.tokens, sample.id, sample.location, sum(tokens), len(media))
        push = heapq.heappush if len(self._longest) < LONGEST else heapq.heappushpop
        push(self._longest, (sample.tokens, -number, long))
        # A reservoir: each sample so far is among the kept with the same chance.
        if len(self._kept) < SAMPLES:
            self._kept.append((conversation, sample))
        elif (index := self._dice.randrange(number)) < SAMPLES:
            self._kept[index] = (conversation, sample)

    def _shown(self, conversation: Conversation, sample: Sample) -> Shown:
        *before, last = conversation.messages
        shown = sample.media[:SHOWN]
        return Shown(
            id=sample.id,
            source=sample.source,
            kind=conversation.kind,
            pictures=[small for part in shown if isinstance(part, ImagePart) and (small := thumbnail(part.image))],
            sounds=[small for part in shown if isinstance(part, AudioPart) and (small := beginning(part))],
            more_pictures=max(0, len(sample.media) - SHOWN),
            question=next((turn.text.strip() for turn in reversed(before) if turn.role == "user"), ""),
            answer=last.text.strip(),
            answers=sum(turn.role == "assistant" for turn in conversation.messages),
            tokens=sample.tokens,
            picture_tokens=sum(slot.view.tokens for slot in sample.slots),
            learnt=int((sample.weights > 0).sum()),
            spans=list(spans(sample, self.encode.tokenizer)),
        )


def thumbnail(picture: object) -> bytes:
    """A small PNG, or nothing when the picture is not there any more."""
    with suppress(DataError):
        small = Image.fromarray(image.load(picture))
        small.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        small.save(buffer, "PNG")
        return buffer.getvalue()
    return b""


def beginning(sound: AudioPart) -> bytes:
    """How a sound begins, as WAV, or nothing when it is not there any more."""
    with suppress(DataError):
        return audio.excerpt(sound)
    return b""


def _decoded(part: MediaPart, held: Any) -> _Medium:
    """held: its file's bytes, or what it is given as. Raises MediaError for a picture that cannot be decoded."""
    if isinstance(part, AudioPart):
        found = audio.header(part)
        held = held if isinstance(held, bytes) else f"{found.rate}".encode() + np.asarray(part.audio).tobytes()
        return _Medium(AudioPart, _digest(held), milliseconds=1000 * found.samples // found.rate)
    if isinstance(part, VideoPart):
        clip = video.clip(part)
        if isinstance(part.image, tuple):
            held = b"".join(_digest(image.load(frame).tobytes()) for frame in part.image)
        held = held if isinstance(held, bytes) else str(clip).encode() + np.asarray(part.image).tobytes()
        return _Medium(VideoPart, _digest(held), clip.width, clip.height)
    pixels = image.load(part.content)
    held = held if isinstance(held, bytes) else str(pixels.shape).encode() + pixels.tobytes()
    height, width, _ = pixels.shape
    return _Medium(ImagePart, _digest(held), width, height, print=print_of(pixels))


def _digest(held: bytes) -> bytes:
    return hashlib.blake2b(held, digest_size=16).digest()
