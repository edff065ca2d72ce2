"""Conversation to ids, labels, loss weights and media slots, made in one pass so that they cannot disagree.

Training, evaluation and chat call this same function: a prompt cannot differ between them.

Positions of text and of what stands in it on a grid are made here too, for samples to carry: on a line, or time, row
and column of every token (M-RoPE). For M-RoPE text counts all three up together; a picture's tokens, and a video's,
have the time, row and column of their place on the grid, from where the text before it ended; the text after goes on
behind the largest of them.
Source: Qwen2-VL, arXiv 2409.12191, section 2.1; `get_rope_index` as released, which counts the times of a long video
too (transformers 5.23 counts rows and columns alone). Steps between times: Qwen2.5-VL, arXiv 2502.13923.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import AudioPart, Conversation, MediaPart, Message, TextPart
from vitrail.contracts.protocols import Tokenizer
from vitrail.contracts.samples import IGNORE, MediaSlot, View
from vitrail.prompts import boxes
from vitrail.prompts.config import MRopePositionsConfig, PictureConfig, PositionsConfig, PromptConfig
from vitrail.prompts.turns import Content, MediaKind, Piece, Shown, Slot, Special, Template, Turn, laid_out

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
    weights: list[float] = field(default_factory=list)
    slots: list[MediaSlot] = field(default_factory=list)
    chunks: list[list[tuple[Piece, list[int]]]] = field(default_factory=lambda: [[]])
    pending: str = ""
    pending_learnt: tuple[bool, float] = (False, 0.0)

    def piece(self, piece: Piece, *, learn: bool = False, weight: float = 1.0) -> None:
        """Text waits for more of its kind; where learning begins or ends, it is tokenised apart.

        The prompt ends there when the model is asked, so no token may reach over it.
        """
        learnt = (learn, weight if learn else 0.0)
        if isinstance(piece, Special):
            self.flush()
            self._extend(piece, self._ids(piece), learnt[1])
        elif piece:
            if self.pending_learnt != learnt:
                self.flush()
            self.pending += piece
            self.pending_learnt = learnt

    def flush(self) -> None:
        if self.pending:
            text, self.pending = self.pending, ""
            self._extend(text, self._encoded(text), self.pending_learnt[1])

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
            if not isinstance(piece, Shown):
                self.piece(piece)
            elif piece.view.spliced:
                self._pieces(piece.own)
                self._spliced(slot.media, piece.view, style)
            else:
                self._beside(slot.media, piece)

    def _pieces(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            self.piece(piece)
        self.flush()

    def _beside(self, media: int, shown: Shown) -> None:
        """A view that is not spliced stands before its tag: the tag sees it then."""
        self.flush()
        self.chunks.append([])
        start = len(self.ids)
        if shown.view.tag_beside:
            tag = [number for piece in shown.own for number in self._ids(piece)]
        else:
            self._pieces(shown.own)
            tag = self.ids[start:]
        self.slots.append(MediaSlot(start, media, shown.view, tag=tuple(tag)))

    def _ids(self, piece: Piece) -> list[int]:
        return [self.tokenizer.special(piece.name)] if isinstance(piece, Special) else self.tokenizer.encode(piece)

    def _spliced(self, media: int, view: View, style: PictureConfig) -> None:
        row_break = [self.tokenizer.special(style.row_break)] if style.row_break and not view.ids else []
        slot = MediaSlot(len(self.ids), media, view, gap=len(row_break))
        self.slots.append(slot)
        self.chunks.append([])
        if view.ids:
            assert len(view.ids) == view.tokens == len(slot.indices), "every id has a token that is added to it"
            self.ids.extend(view.ids)
            self.weights.extend([0.0] * len(view.ids))
            return
        # Without a token of its own any id will do: fusion puts the medium's tokens in its place.
        row = [self.tokenizer.special(style.token or self.filler)] * view.token_columns
        ids = (row + row_break) * (view.token_rows - 1) + row
        written = len(ids) - len(row_break) * (view.token_rows - 1)
        assert written == view.tokens == len(slot.indices), f"{written} placeholders for {view.tokens} tokens"
        self.ids.extend(ids)
        self.weights.extend([0.0] * len(ids))

    def _extend(self, piece: Piece, ids: list[int], weight: float) -> None:
        self.ids.extend(ids)
        self.weights.extend([weight] * len(ids))
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
                writer.piece(span.piece, learn=span.learn, weight=span.weight)
        writer.flush()
        template.verify(writer.chunks)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    if not ask and not any(writer.weights):
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
                style = prompt.picture if kind == "picture" else prompt.audio
                label = style.label.replace("{number}", str(seen[kind] + 1))
                if label and content and isinstance(content[-1], str):
                    # Some files write themselves what the style writes before a picture: `Picture 1: `.
                    content[-1] = content[-1].removesuffix(label)
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
        written = tuple(piece for piece in content if piece != "")
        turns.append(Turn(message.role, written, message.calls, message.weight))
    return turns


def _shifted(writer: _Writer) -> Rendered:
    """Moves labels one position to the left: position t predicts the id at t + 1."""
    ids = np.asarray(writer.ids, np.int64)
    weights = np.zeros(len(ids), np.float32)
    weights[:-1] = writer.weights[1:]
    labels = np.full(len(ids), IGNORE, np.int64)
    labels[:-1] = np.where(weights[:-1] > 0, ids[1:], IGNORE)
    return Rendered(ids, labels, weights, tuple(writer.slots))


@dataclass(frozen=True)
class Grid:
    """Tokens of one picture or video, time after time and row by row, from `start` on.

    step: between two times; Qwen2-VL counts them, Qwen2.5-VL measures them in tokens of a second.
    """

    start: int
    times: int
    rows: int
    columns: int
    step: float = 1.0

    @property
    def tokens(self) -> int:
        """Places it takes."""
        return self.times * self.rows * self.columns


def positions_of(config: PositionsConfig, length: int, slots: Iterable[MediaSlot]) -> NDArray[np.int64] | None:
    """Those of a sample, as `Sample.positions` has them: None on a line, int64[3, length] for M-RoPE."""
    if not isinstance(config, MRopePositionsConfig):
        return None
    return grid_positions(length, grids(slots, config.tokens_per_second))


def grids(slots: Iterable[MediaSlot], tokens_per_second: float | None = None) -> list[Grid]:
    """Still pictures, one a view, and videos, whose views follow each other in time."""
    found: list[Grid] = []
    video: int | None = None
    for slot in slots:
        view = slot.view
        if not view.height or not view.spliced:
            # Sound counts up as text does, and what does not stand in the text has no position there.
            continue
        moves = bool(view.shows)
        if moves and slot.media == video and slot.start == found[-1].start + found[-1].tokens:
            found[-1] = replace(found[-1], times=found[-1].times + 1)
            continue
        step = view.seconds * tokens_per_second if moves and tokens_per_second else 1.0
        found.append(Grid(slot.start, 1, view.token_rows, view.token_columns, step))
        video = slot.media if moves else None
    return found


def grid_positions(length: int, found: Sequence[Grid]) -> NDArray[np.int64]:
    """int64[3, length]: time, row and column. found: in reading order, none within another."""
    positions = np.empty((3, length), np.int64)
    done = following = 0
    for grid in found:
        text = grid.start - done
        assert text >= 0, f"a grid starts at {grid.start}, within the one before, which ends at {done}"
        positions[:, done : grid.start] = np.arange(following, following + text)
        following += text
        done = grid.start + grid.tokens
        here = np.indices((grid.times, grid.rows, grid.columns)).reshape(3, -1)
        # In float32 as official code has it, where 10 x 0.7 is 7 and not a little less.
        here[0] = (here[0].astype(np.float32) * np.float32(grid.step)).astype(np.int64)
        positions[:, grid.start : done] = here + following
        following += int(here.max()) + 1
    positions[:, done:] = np.arange(following, following + length - done)
    return positions
