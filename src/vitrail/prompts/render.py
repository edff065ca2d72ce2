"""Conversation to ids, labels, loss weights and media slots, made in one pass so that they cannot disagree.

Training, evaluation and chat call this same function: a prompt cannot differ between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Conversation, ImagePart, Message, TextPart
from vitrail.contracts.protocols import Tokenizer
from vitrail.contracts.samples import IGNORE, MediaSlot, View
from vitrail.prompts.config import PictureConfig, PromptConfig
from vitrail.prompts.templates import Piece, Special, Template


@dataclass(frozen=True)
class Rendered:
    """ids, labels: int64[T]; weights: float32[T]; slots in reading order.

    Labels are shifted: see `contracts.samples`.
    """

    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    weights: NDArray[np.float32]
    slots: tuple[MediaSlot, ...]


@dataclass
class _Writer:
    """Collects tokens. Neighbouring text is tokenised in one piece, as it would be if the template were one string."""

    tokenizer: Tokenizer
    picture: PictureConfig
    filler: int
    ids: list[int] = field(default_factory=list)
    learnt: list[bool] = field(default_factory=list)
    slots: list[MediaSlot] = field(default_factory=list)
    pending: str = ""

    def text(self, text: str) -> None:
        self.pending += text

    def flush(self, *, learn: bool = False) -> None:
        if self.pending:
            self._extend(self.tokenizer.encode(self.pending), learn)
            self.pending = ""

    def special(self, name: str, *, learn: bool = False) -> None:
        self.flush(learn=learn)
        self._extend([self.tokenizer.special(name)], learn)

    def pieces(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            if isinstance(piece, Special):
                self.special(piece.name)
            else:
                self.text(piece)

    def view(self, picture: int, view: View) -> None:
        """Leaves places for a view's tokens, row by row."""
        row_break = self._optional(self.picture.row_break)
        self.slots.append(MediaSlot(len(self.ids), picture, view, gap=len(row_break)))
        row = [self.filler] * view.token_columns
        rows = view.tokens // view.token_columns
        self._extend((row + row_break) * (rows - 1) + row + self._optional(self.picture.end), learn=False)

    def _optional(self, name: str) -> list[int]:
        return [self.tokenizer.special(name)] if name else []

    def _extend(self, ids: Sequence[int], learn: bool) -> None:
        self.ids.extend(ids)
        self.learnt.extend([learn] * len(ids))


def render(
    conversation: Conversation,
    views: Sequence[Sequence[View]],
    template: Template,
    tokenizer: Tokenizer,
    prompt: PromptConfig | None = None,
    *,
    ask: bool = False,
) -> Rendered:
    """Renders a conversation.

    views: for each picture in reading order, its views. prompt: the system turn and the tokens around pictures.
    ask: end with an opened assistant's turn, for generation.
    Raises DataError for an empty answer, or when there is nothing to learn (unless `ask`).
    """
    messages = conversation.messages
    prompt = prompt or PromptConfig()
    if prompt.system and (not messages or messages[0].role != "system"):
        messages = (Message("system", (TextPart(prompt.system),)), *messages)
    # Without a token of its own any id will do as filler: fusion puts the picture in its place.
    filler = tokenizer.special(prompt.picture.token or template.end.name)
    writer = _Writer(tokenizer, prompt.picture, filler)
    pictures = iter(enumerate(views))
    writer.pieces(template.start)
    for message in messages:
        # When the model is asked, an earlier answer may be empty: it may have said nothing.
        if message.role == "assistant" and not ask and not message.text.strip():
            raise DataError(f"{conversation.place or conversation.id}: empty answer")
        _turn(writer, message, template, pictures)
    if ask:
        writer.pieces(template.before["assistant"])
    writer.flush()
    if not ask and not any(writer.learnt):
        raise DataError(f"{conversation.place or conversation.id}: no assistant turn to learn from")
    return _shifted(writer)


def _turn(
    writer: _Writer,
    message: Message,
    template: Template,
    pictures: Iterator[tuple[int, Sequence[View]]],
) -> None:
    """Writes one turn; of an assistant's turn the text and the closing token are learnt."""
    assistant = message.role == "assistant"
    writer.pieces(template.before[message.role])
    if assistant:
        # The prompt ends here when the model is asked, so what comes before must be tokenised apart from the answer.
        writer.flush()
    for part in message.parts:
        if isinstance(part, ImagePart):
            writer.flush(learn=assistant)
            number, views = next(pictures)
            for view in views:
                writer.view(number, view)
        else:
            writer.text(part.text)
    if assistant:
        writer.special(template.end.name, learn=True)
    writer.pieces(template.after[message.role])


def _shifted(writer: _Writer) -> Rendered:
    """Moves labels one place to the left: position t predicts the id at t + 1."""
    ids = np.asarray(writer.ids, np.int64)
    learnt = np.asarray(writer.learnt, bool)
    labels = np.full(len(ids), IGNORE, np.int64)
    labels[:-1] = np.where(learnt[1:], ids[1:], IGNORE)
    return Rendered(ids, labels, (labels != IGNORE).astype(np.float32), tuple(writer.slots))
