"""The model a user talks to: `vitrail.load(...)` returns one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from vitrail.inference.generate import generate
from vitrail.media.video import shown_part
from vitrail.models.assembled import MultimodalModel

Messages = Sequence[Message] | Sequence[Mapping[str, Any]]


@dataclass
class ChatModel:
    """A finished model with its prompt and media rule. encode: as it was trained with."""

    model: MultimodalModel
    encode: Encode
    device: str = "cpu"

    def chat(self, *parts: Any, generation: GenerationConfig | None = None) -> Reply:
        """Answers one question: `model.chat("receipt.png", "What is the total?")`.

        parts: pictures (path, bytes, uint8[H, W, 3] array, Pillow image), videos (path, uint8[T, H, W, 3] frames, a
        VideoPart) and, last, the question; or a single list of messages, OpenAI style. Raises DataError for what is
        neither, MediaError for what cannot be read.
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

    def prompt(self, asked: Conversation) -> Batch:
        """What the model reads when asked. Raises MediaError for a damaged picture."""
        batch, events = collate(Pack((self.encode.question(asked),)), self.encode.media.in_use)
        if batch is None:
            raise MediaError(events[0].reason)
        return batch.to(self.device)

    def _pieces(self, prompt: Batch, generation: GenerationConfig, ids: list[int]) -> Iterator[str]:
        """Pieces of text; ids collects the tokens. Bytes of an unfinished character wait for the rest."""
        template, tokenizer = self.encode.template, self.encode.tokenizer
        stop = frozenset({tokenizer.special(template.stop.name)} if template.stop else ())
        shown = ""
        for token in generate(self.model, prompt, stop, generation):
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

    def withholding(self) -> ChatModel:
        """The same model, asked without its pictures."""
        return replace(self, encode=replace(self.encode, withhold=True))

    @torch.inference_mode()
    def loss(self, sample: Sample) -> tuple[float, float]:
        """(summed loss, summed loss weight) of a training sample. Raises MediaError for a damaged picture."""
        batch, events = collate(Pack((sample,)), self.encode.media)
        if batch is None:
            raise MediaError(events[0].reason)
        return float(self.model.loss_sum(batch.to(self.device))), batch.label_weight


def conversation(parts: Sequence[Any]) -> Conversation:
    """What a caller handed to `chat`: messages, or pictures and a question. Raises DataError for what is neither."""
    if len(parts) == 1 and isinstance(parts[0], list | tuple):
        messages = tuple(parts[0])
        if not messages or not all(isinstance(message, Message) for message in messages):
            messages = to_messages(Row("chat", {"messages": list(messages)}, place="messages"), "openai")
        if messages[-1].role not in ("user", "tool"):
            raise DataError(f"messages: they must end with a user's turn, the last one is the {messages[-1].role}'s")
        return Conversation("chat", messages)
    if not parts or not isinstance(parts[-1], str):
        raise DataError("chat takes pictures and then a question, or one list of messages")
    *pictures, question = parts
    shown = tuple(map(shown_part, pictures))
    return Conversation("chat", (Message("user", (*shown, TextPart("\n" * bool(shown) + question))),))
