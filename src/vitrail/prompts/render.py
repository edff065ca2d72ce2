"""Conversation to ids, labels, loss weights and media slots, made in one pass so that they cannot disagree.

Training, evaluation and chat call this same function: a prompt cannot differ between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import AudioPart, Conversation, MediaPart, Message, TextPart
from vitrail.contracts.protocols import Tokenizer
from vitrail.contracts.samples import IGNORE, MediaSlot, View
from vitrail.prompts import boxes
from vitrail.prompts.config import PictureConfig, PromptConfig
from vitrail.prompts.pictures import laid_out
from vitrail.prompts.turns import Content, MediaKind, Piece, Slot, Special, Template, Turn

CONTEXT = 16
"""Characters of text before a border that a tokenizer is shown; more than any token joins across one."""


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
    """Collects tokens. Neighbouring text is tokenised in one piece, as it would be if the template were one string.

    chunks: what stands between two media, in pieces with their ids. pending: text that is yet to be tokenised.
    filler: a special token that any template has, for media that have none of their own.
    """

    tokenizer: Tokenizer
    styles: Mapping[MediaKind, PictureConfig]
    filler: str
    ids: list[int] = field(default_factory=list)
    learnt: list[bool] = field(default_factory=list)
    slots: list[MediaSlot] = field(default_factory=list)
    chunks: list[list[tuple[Piece, list[int]]]] = field(default_factory=lambda: [[]])
    pending: str = ""
    pending_learnt: bool = False

    def piece(self, piece: Piece, *, learn: bool = False) -> None:
        """Text waits for more of its kind; where learning begins or ends, it is tokenised apart.

        The prompt ends there when the model is asked, so no token may reach over it.
        """
        if isinstance(piece, Special):
            self.flush()
            self._extend(piece, [self.tokenizer.special(piece.name)], learn)
        elif piece:
            if self.pending_learnt != learn:
                self.flush()
            self.pending += piece
            self.pending_learnt = learn

    def flush(self) -> None:
        if self.pending:
            text, self.pending = self.pending, ""
            self._extend(text, self._encoded(text), self.pending_learnt)

    def _encoded(self, text: str) -> list[int]:
        """Ids of text, as they are after the text before it: some tokenizers write a beginning in another way."""
        before = self.chunks[-1][-1][0] if self.chunks[-1] else None
        if isinstance(before, str):
            context = before[-CONTEXT:]
            head, whole = self.tokenizer.encode(context), self.tokenizer.encode(context + text)
            if whole[: len(head)] == head:
                return whole[len(head) :]
        return self.tokenizer.encode(text)

    def slot(self, slot: Slot, views: Sequence[View]) -> None:
        """Leaves placeholders for a medium's tokens, view by view."""
        style = self.styles[slot.kind]
        for piece in laid_out(slot, views, style):
            if isinstance(piece, View):
                self.flush()
                self._view(slot.media, piece, style)
            else:
                self.piece(piece)

    def _view(self, media: int, view: View, style: PictureConfig) -> None:
        row_break = [self.tokenizer.special(style.row_break)] if style.row_break else []
        slot = MediaSlot(len(self.ids), media, view, gap=len(row_break))
        self.slots.append(slot)
        self.chunks.append([])
        if not view.spliced:
            return
        # Without a token of its own any id will do: fusion puts the medium's tokens in its place.
        row = [self.tokenizer.special(style.token or self.filler)] * view.token_columns
        ids = (row + row_break) * (view.token_rows - 1) + row
        written = len(ids) - len(row_break) * (view.token_rows - 1)
        assert written == view.tokens == len(slot.indices), f"{written} placeholders for {view.tokens} tokens"
        self.ids.extend(ids)
        self.learnt.extend([False] * len(ids))

    def _extend(self, piece: Piece, ids: list[int], learn: bool) -> None:
        self.ids.extend(ids)
        self.learnt.extend([learn] * len(ids))
        self.chunks[-1].append((piece, ids))


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

    views: for each medium in reading order, its views. prompt: the system turn, what stands around media, how boxes are
    written. ask: end with an opened assistant's turn, for generation.
    Raises DataError for an empty answer, when there is nothing to learn (unless `ask`), or when the template cannot
    write the conversation.
    """
    prompt = prompt or PromptConfig()
    where = conversation.location or conversation.id
    turns = turns_of(conversation, prompt)
    # When the model is asked, an earlier answer may be empty: it may have said nothing.
    if not ask and any(turn.role == "assistant" and turn.blank for turn in turns):
        raise DataError(f"{where}: empty answer")
    writer = _Writer(tokenizer, {"picture": prompt.picture, "audio": prompt.audio}, template.filler)
    try:
        for span in template.spans(turns, conversation.tools, ask=ask):
            if isinstance(span.piece, Slot):
                writer.slot(span.piece, views[span.piece.media])
            else:
                writer.piece(span.piece, learn=span.learn)
        writer.flush()
        template.verify(writer.chunks)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    if not ask and not any(writer.learnt):
        raise DataError(f"{where}: no assistant turn to learn from")
    return _shifted(writer)


def turns_of(conversation: Conversation, prompt: PromptConfig) -> list[Turn]:
    """The turns of a conversation, with the prompt's system turn if it has none; media numbered, boxes written."""
    messages = conversation.messages
    if prompt.system and (not messages or messages[0].role != "system"):
        messages = (Message("system", (TextPart(prompt.system),)), *messages)
    gives_way = prompt.picture.after != prompt.picture.after.rstrip()
    turns: list[Turn] = []
    seen: dict[MediaKind, int] = {"picture": 0, "audio": 0}
    for message in messages:
        content: list[Content] = []
        after_picture = False
        for part in message.parts:
            if isinstance(part, MediaPart):
                kind: MediaKind = "audio" if isinstance(part, AudioPart) else "picture"
                content.append(Slot(sum(seen.values()), seen[kind], kind))
                seen[kind] += 1
                after_picture = gives_way and kind == "picture"
            elif isinstance(part, TextPart):
                text = part.text.lstrip() if after_picture else part.text
                content.append(text)
                after_picture = after_picture and not text
            else:
                content += boxes.written(part, prompt.boxes)
                after_picture = False
        turns.append(Turn(message.role, tuple(piece for piece in content if piece != ""), message.calls))
    return turns


def _shifted(writer: _Writer) -> Rendered:
    """Moves labels one position to the left: position t predicts the id at t + 1."""
    ids = np.asarray(writer.ids, np.int64)
    learnt = np.asarray(writer.learnt, bool)
    labels = np.full(len(ids), IGNORE, np.int64)
    labels[:-1] = np.where(learnt[1:], ids[1:], IGNORE)
    return Rendered(ids, labels, (labels != IGNORE).astype(np.float32), tuple(writer.slots))
