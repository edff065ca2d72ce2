"""The model a user talks to: `vitrail.load(...)` returns one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from vitrail.contracts.errors import DataError, MediaError
from vitrail.contracts.messages import Conversation, Message, Row, TextPart
from vitrail.contracts.replies import Reply
from vitrail.contracts.samples import Batch, Pack, Sample
from vitrail.data.collate import collate
from vitrail.data.dialects import to_messages
from vitrail.data.encode import Encode
from vitrail.inference.config import GenerationConfig
from vitrail.inference.generate import Answering, generate
from vitrail.media.rule import media_part
from vitrail.models.assembled import MultimodalModel

ROOM = 8192
"""Tokens of prompts that are read in one pass, at most; a longer one is read alone."""

Messages = Sequence[Message] | Sequence[Mapping[str, Any]]


@dataclass
class ChatModel:
    """A finished model with its prompt and media rules. encode: as it was trained with."""

    model: MultimodalModel
    encode: Encode
    device: str = "cpu"

    def chat(self, *parts: Any, generation: GenerationConfig | None = None) -> Reply:
        """Answers one question: `model.chat("receipt.png", "What is the total?")`.

        parts: pictures (path, bytes, uint8[H, W, 3] array, Pillow image), videos (path, uint8[T, H, W, 3] frames, a
        VideoPart), sounds (path, an AudioPart) and, last, the question; or a single list of messages, OpenAI style.
        Raises DataError for what is neither, MediaError for what cannot be read.
        """
        return self.reply(conversation(parts), generation)

    def stream(self, *parts: Any, generation: GenerationConfig | None = None) -> Iterator[str]:
        """The same answer in pieces of text, as they are made."""
        yield from self._pieces(self.prompt(conversation(parts)), generation or GenerationConfig(), [])

    def reply(self, asked: Conversation, generation: GenerationConfig | None = None) -> Reply:
        """Answers a conversation that ends with a user's turn."""
        generation = generation or GenerationConfig()
        prompt = self.prompt(asked)
        ids: list[int] = []
        text = "".join(self._pieces(prompt, generation, ids))
        return Reply((TextPart(text),), prompt.tokens, len(ids), len(ids) < generation.max_tokens)

    def replies(
        self, asked: Iterable[Conversation], generation: GenerationConfig | None = None, together: int = 16
    ) -> Iterator[Reply]:
        """Answers conversations as `reply` does, in their order, at most `together` at once."""
        samples: list[Sample] = []
        for sample in map(self.encode.question, asked):
            if len(samples) == together or sum(map(len, samples)) + len(sample) > ROOM:
                yield from self._together(samples, generation or GenerationConfig())
                samples = []
            samples.append(sample)
        yield from self._together(samples, generation or GenerationConfig())

    def _together(self, samples: Sequence[Sample], generation: GenerationConfig) -> list[Reply]:
        if not samples:
            return []
        template, tokenizer = self.encode.template, self.encode.tokenizer
        made: list[list[int]] = [[] for _ in samples]
        answering = Answering(self.model, self._prompts(samples), self._stop, generation)
        while tokens := answering.step():
            for number, token in tokens.items():
                made[number].append(token)
            answering.finish([number for number in tokens if template.said(tokenizer.decode(made[number]))[1]])
        texts = [template.said(tokenizer.decode(ids), whole=True)[0] for ids in made]
        return [
            Reply((TextPart(text),), len(sample), len(ids), len(ids) < generation.max_tokens)
            for text, sample, ids in zip(texts, samples, made, strict=True)
        ]

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
        return frozenset({self.encode.tokenizer.special(stop.name)} if stop else ())

    def _pieces(self, prompt: Batch, generation: GenerationConfig, ids: list[int]) -> Iterator[str]:
        """Pieces of text; ids collects the tokens. Bytes of an unfinished character wait for the rest."""
        template, tokenizer = self.encode.template, self.encode.tokenizer
        shown = ""
        for token in generate(self.model, prompt, self._stop, generation):
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
        return replace(self, encode=replace(self.encode, drop_media=True))

    @torch.inference_mode()
    def loss(self, sample: Sample) -> tuple[float, float]:
        """(summed loss, summed loss weight) of a training sample. Raises MediaError for a damaged medium."""
        batch, events = collate(Pack((sample,)), self.encode.media)
        if batch is None:
            raise MediaError(events[0].reason)
        return float(self.model.loss_sum(batch.to(self.device))), batch.label_weight


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
