"""The model a user talks to: `vitrail.load(...)` returns one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import torch

from vitrail.contracts.errors import DataError, MediaError
from vitrail.contracts.messages import Conversation, Message, Row, TextPart
from vitrail.contracts.replies import Reply
from vitrail.contracts.samples import Batch, Pack, Sample
from vitrail.data.collate import collate
from vitrail.data.dialects import to_messages
from vitrail.data.encode import Encode
from vitrail.inference.config import GenerationConfig
from vitrail.inference.engine import Engine, generate
from vitrail.media.rule import media_part
from vitrail.metrics.calibration import Calibration
from vitrail.models.assembled import MultimodalModel
from vitrail.prompts.boxes import parse

ROOM = 8192
"""Tokens of prompts that are read in one pass, at most; a longer one is read alone."""

Messages = Sequence[Message] | Sequence[Mapping[str, Any]]


@dataclass
class ChatModel:
    """A finished model with its prompt and media rules. encode: as it was trained with.

    notes: what was found when it was opened from a published layout, a line each. calibration: what a likelihood of a
    reply is worth, for questions like those it was fitted to; None where that was not measured.
    """

    model: MultimodalModel
    encode: Encode
    device: str = "cpu"
    notes: tuple[str, ...] = ()
    calibration: Calibration | None = None

    def chat(self, *parts: Any, generation: GenerationConfig | None = None) -> Reply:
        """Answers one question: `model.chat("receipt.png", "What is the total?")`.

        parts: pictures (path, bytes, uint8[H, W, 3] array, Pillow image), videos (path, uint8[T, H, W, 3] frames, a
        VideoPart), sounds (path, an AudioPart) and, last, the question; or a single list of messages, OpenAI style.
        Raises DataError for what is neither, MediaError for what cannot be read.
        """
        return self.reply(conversation(parts), generation)

    def stream(
        self,
        *parts: Any,
        generation: GenerationConfig | None = None,
        on_end: Callable[[float], None] = lambda likelihood: None,
    ) -> Iterator[str]:
        """The same answer in pieces of text, as they are made. on_end: told its `Reply.likelihood`."""
        yield from self._pieces(self.prompt(conversation(parts)), generation or GenerationConfig(), [], on_end)

    def reply(self, asked: Conversation, generation: GenerationConfig | None = None) -> Reply:
        """Answers a conversation that ends with a user's turn."""
        generation = generation or GenerationConfig()
        prompt = self.prompt(asked)
        ids: list[int] = []
        likelihood = [1.0]
        text = "".join(self._pieces(prompt, generation, ids, likelihood.append))
        return self._replied(text, prompt.text.segments.total, len(ids), generation, likelihood[-1])

    def replies(
        self, asked: Iterable[Conversation], generation: GenerationConfig | None = None, together: int = 16
    ) -> Iterator[Reply]:
        """Answers conversations as `reply` does, in their order, at most `together` at once.

        A conversation joins as soon as there is room for it; a reply is given out once those before it are. Questions
        about the same media that follow each other join together, and share what stands before them.
        """
        generation = generation or GenerationConfig()
        engine = Engine(self.model, self._stop)
        waiting = groups(map(self.encode.question, asked), together)
        writing: dict[int, tuple[Sample, list[int]]] = {}
        following = next(waiting, [])
        done: dict[int, Reply] = {}
        said = 0
        while following or writing:
            joining: list[Sample] = []
            while following and len(writing) + len(joining) + len(following) <= together:
                if joining and sum(map(len, (*joining, *following))) > ROOM:
                    break
                joining += following
                following = next(waiting, [])
            if joining:
                numbers = self._joined(engine, joining, generation)
                writing |= {number: (sample, []) for number, sample in zip(numbers, joining, strict=True)}
            done |= self._step(engine, writing, generation)
            while said in done:
                yield done.pop(said)
                said += 1

    def _joined(self, engine: Engine, samples: Sequence[Sample], generation: GenerationConfig) -> list[int]:
        """Hands prompts to the engine: those that begin alike one after another with what they share read once."""
        alike = [list(group) for _, group in groupby(samples, _shown)]
        pairs = [(group, 0 if self.encode.start is not None else _alike(group)) for group in alike]
        numbers: list[int] = []
        for share, run in groupby(pairs, key=lambda pair: pair[1] > 0):
            together = list(run)
            if not share:
                for whole in passes([sample for group, _ in together for sample in group]):
                    numbers += engine.add(self._prompts(whole), generation)
                continue
            heads = self._prompts([group[0].head(cut) for group, cut in together])
            endings = [[torch.from_numpy(one.ids[cut:]).to(self.device) for one in group] for group, cut in together]
            numbers += engine.add(heads, generation, endings)
        return numbers

    def _step(
        self, engine: Engine, writing: dict[int, tuple[Sample, list[int]]], generation: GenerationConfig
    ) -> dict[int, Reply]:
        """One step of the engine; the replies that are finished by it are no longer among those being written."""
        template, tokenizer = self.encode.template, self.encode.tokenizer
        for number, token in engine.step().items():
            writing[number][1].append(token)
            if template.said(tokenizer.decode(writing[number][1]))[1]:
                engine.finish([number])
        replies = {}
        for number in writing.keys() - set(engine.under_way):
            sample, ids = writing.pop(number)
            text = template.said(tokenizer.decode(ids), whole=True)[0]
            replies[number] = self._replied(text, len(sample), len(ids), generation, engine.least_likely(number))
        return replies

    def _replied(self, text: str, asked: int, said: int, generation: GenerationConfig, likelihood: float) -> Reply:
        """asked, said: tokens of prompt and answer."""
        chance = self.calibration.chance(likelihood) if self.calibration else None
        boxes = self.encode.prompt.boxes
        return Reply(parse(text, boxes), asked, said, said < generation.max_tokens, likelihood, chance)

    def prompt(self, asked: Conversation) -> Batch:
        """What the model reads when asked. Raises MediaError for a damaged medium."""
        return self._prompts([self.encode.question(asked)])

    def _prompts(self, samples: Sequence[Sample]) -> Batch:
        rules = {name: rule.in_use for name, rule in self.encode.media.items()}
        batch, events = collate(Pack(tuple(samples)), rules)
        damaged = [event.reason for event in events if event.outcome == "unreadable"]
        if batch is None or damaged:
            raise MediaError(damaged[0])
        return batch.to(self.device)

    @property
    def _stop(self) -> frozenset[int]:
        stop = self.encode.template.stop
        return self.encode.ends | ({self.encode.tokenizer.special(stop.name)} if stop else set())

    def _pieces(
        self,
        prompt: Batch,
        generation: GenerationConfig,
        ids: list[int],
        on_end: Callable[[float], None] = lambda least: None,
    ) -> Iterator[str]:
        """Pieces of text. ids collects the tokens; on_end is told how likely the least likely is. Bytes of a character
        that is not finished wait for the rest."""
        template, tokenizer = self.encode.template, self.encode.tokenizer
        shown = ""
        with closing(generate(self.model, prompt, self._stop, generation, on_end)) as tokens:
            for token in tokens:
                ids.append(token)
                text, ended = template.said(tokenizer.decode(ids))
                if text != shown and not text.endswith("\N{REPLACEMENT CHARACTER}"):
                    yield text[len(shown) :]
                    shown = text
                if ended:
                    return
        rest, _ = template.said(tokenizer.decode(ids), whole=True)
        if rest != shown:
            yield rest[len(shown) :]

    def without_media(self) -> ChatModel:
        """The same model, asked without media."""
        return replace(self, encode=replace(self.encode, shown="nothing"))

    @torch.inference_mode()
    def loss(self, sample: Sample) -> tuple[float, float]:
        """(summed loss, summed loss weight) of a training sample. Raises MediaError for a damaged medium."""
        batch, events = collate(Pack((sample,)), self.encode.media)
        if batch is None:
            raise MediaError(events[0].reason)
        return float(self.model.loss_sum(batch.to(self.device))), batch.label_weight


def groups(samples: Iterable[Sample], most: int) -> Iterator[list[Sample]]:
    """Samples that follow each other and show the same, at most so many together, whose endings a pass has room for;
    each of those without media alone."""
    group: list[Sample] = []
    shows: tuple[object, ...] = ()
    room = 0
    for sample in samples:
        shown = _shown(sample)
        ending = len(sample) - max((slot.end for slot in sample.slots), default=0)
        if group and (not sample.slots or shown != shows or len(group) == most or room + ending > ROOM):
            yield group
            group = []
        room = room + ending if group else len(sample)
        group, shows = [*group, sample], shown
    if group:
        yield group


def passes(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    """As many at once as a pass has room for."""
    taken: list[Sample] = []
    for sample in samples:
        if taken and sum(map(len, taken)) + len(sample) > ROOM:
            yield taken
            taken = []
        taken.append(sample)
    if taken:
        yield taken


def _shown(sample: Sample) -> tuple[object, ...]:
    """Equal for samples that show the same at the same positions."""
    return sample.slots, tuple(medium.identity for medium in sample.media)


def _alike(group: Sequence[Sample]) -> int:
    """Tokens that samples of the same media begin with alike: one past the media at least, which sees what all later
    ones see, and short of any one's end; 0 for none."""
    if len(group) < 2 or not group[0].slots:
        return 0
    least = min(map(len, group)) - 1
    same = np.logical_and.reduce([group[0].ids[:least] == other.ids[:least] for other in group[1:]])
    cut = least if same.all() else int(same.argmin())
    return cut if cut > max(max(slot.end, slot.start + len(slot.tag)) for slot in group[0].slots) else 0


def conversation(parts: Sequence[Any]) -> Conversation:
    """What a caller handed to `chat`: messages, or media and a question. Raises DataError for what is neither."""
    if len(parts) == 1 and isinstance(parts[0], list | tuple):
        messages = tuple(parts[0])
        if not messages or not all(isinstance(message, Message) for message in messages):
            messages = to_messages(Row("chat", {"messages": list(messages)}, location="messages"), "openai")
        if messages[-1].role not in ("user", "tool"):
            raise DataError(f"messages: they must end with a user's turn, the last one is the {messages[-1].role}'s")
        return Conversation("chat", messages)
    if not parts or not isinstance(parts[-1], str):
        raise DataError("chat takes pictures and then a question, or one list of messages")
    *media, question = parts
    shown = tuple(map(media_part, media))
    return Conversation("chat", (Message("user", (*shown, TextPart("\n" * bool(shown) + question))),))
