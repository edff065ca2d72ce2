"""Turns and spans: what a chat format is given, and what it gives back.

A conversation becomes turns (media numbered, boxes written), a template makes spans of them: text, special tokens
and slots of media, each learnt or not. Special tokens are named, so text can never imitate them. What is written around
a picture, between its views and between the rows of a view stands here too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Role, ToolCall
from vitrail.contracts.samples import View
from vitrail.prompts.config import PictureConfig


@dataclass(frozen=True)
class Special:
    """A special token, by name."""

    name: str


Piece = str | Special

MediaKind = Literal["picture", "audio"]
"""What a recipe says of the surroundings of: `prompt.picture` (videos too), `prompt.audio`."""


@dataclass(frozen=True)
class Slot:
    """Where a medium stands. media: its number in the conversation, from 0; number: the same among those of its kind.

    opened, closed: the template has written itself what stands before, or after, its tokens.
    """

    media: int
    number: int
    kind: MediaKind = "picture"
    opened: bool = False
    closed: bool = False


Content = Piece | Slot


@dataclass(frozen=True)
class Turn:
    """A message whose parts are ready to be written. calls: of an assistant that acts. weight: as in Message."""

    role: Role
    content: tuple[Content, ...]
    calls: tuple[ToolCall, ...] = ()
    weight: float = 1.0

    @property
    def blank(self) -> bool:
        """Whether it says nothing."""
        return not self.calls and all(isinstance(piece, str) and not piece.strip() for piece in self.content)

    def stripped(self) -> Turn:
        """Without white space at its ends."""
        content = list(self.content)
        if content and isinstance(content[0], str):
            content[0] = content[0].lstrip()
        if content and isinstance(content[-1], str):
            content[-1] = content[-1].rstrip()
        return replace(self, content=tuple(content))


@dataclass(frozen=True)
class Span:
    """A stretch of a prompt, and whether it is learnt. weight: loss weight of what is; 0 for what is only read."""

    piece: Content
    learn: bool = False
    weight: float = 1.0


Tools = Sequence[Mapping[str, Any]]
"""What an assistant may call, each as OpenAI's API declares a function."""

Chunk = Sequence[tuple[Piece, Sequence[int]]]
"""What stands between two media, in pieces, each with its ids."""


class Template(ABC):
    """A chat format.

    end: what closes an assistant's turn; it is learnt, and it stops generation. lead, tail: text between an opened turn
    of the assistant and the answer, and between the answer and `end`; learnt, since a tokenizer joins a space to the
    word after it.
    """

    name: str
    end: Piece
    lead: str = ""
    tail: str = ""

    @property
    @abstractmethod
    def specials(self) -> tuple[str, ...]:
        """Names of the special tokens the format needs."""

    @abstractmethod
    def spans(self, turns: Sequence[Turn], tools: Tools = (), *, ask: bool = False) -> list[Span]:
        """The whole prompt. ask: end with an opened assistant's turn.

        Raises DataError for a conversation that the format cannot write.
        """

    def verify(self, chunks: Sequence[Chunk]) -> None:  # noqa: B027, for most formats there is nothing to compare with
        """Raises DataError when the ids are not those of the whole."""

    @property
    def stop(self) -> Special | None:
        """The token that stops generation; None where answers end with plain text."""
        return self.end if isinstance(self.end, Special) else None

    def said(self, text: str, *, whole: bool = False) -> tuple[str, bool]:
        """The answer in what a model has written, and whether the model has ended it in plain text.

        whole: no more will come. Else what may be the beginning of the end waits.
        """
        text = text.removeprefix(self.lead)
        if isinstance(self.end, str):
            answer, ended, _ = text.partition(self.end)
            if ended:
                return answer.removesuffix(self.tail), True
            waiting = [length for length in range(1, len(self.end)) if text.endswith(self.end[:length])]
            if waiting and not whole:
                return text[: -max(waiting)], False
        return text.removesuffix(self.tail), False

    @property
    def filler(self) -> str:
        """A special token to stand where a medium will be, when media have none of their own."""
        return self.end.name if isinstance(self.end, Special) else self.specials[0]


@dataclass(frozen=True)
class TurnTemplate(Template):
    """A chat format that says what stands before and after each turn.

    before: what opens a turn of each role. joined: what opens a turn of the second role right after one of the first,
    where that differs. after: what closes a turn of each role; for the assistant, what follows `end`, not learnt.
    start: what stands before the first turn. strips: turns are written without white space at their ends.
    end_last_only: an answer that is followed by another turn has no `end`. tools: makes turns of calls and their
    results; None where the format has no convention.
    """

    name: str
    before: Mapping[Role, tuple[Piece, ...]]
    after: Mapping[Role, tuple[Piece, ...]]
    end: Piece
    start: tuple[Piece, ...] = ()
    joined: Mapping[tuple[Role, Role], tuple[Piece, ...]] = field(default_factory=dict)
    lead: str = ""
    tail: str = ""
    strips: bool = False
    end_last_only: bool = False
    tools: Callable[[Sequence[Turn], Tools], list[Turn]] | None = None

    @property
    def specials(self) -> tuple[str, ...]:
        """Names of the special tokens the format needs."""
        tables = (self.before, self.after, self.joined)
        pieces = [self.end, *self.start, *(piece for table in tables for row in table.values() for piece in row)]
        return tuple(dict.fromkeys(piece.name for piece in pieces if isinstance(piece, Special)))

    def spans(self, turns: Sequence[Turn], tools: Tools = (), *, ask: bool = False) -> list[Span]:
        """The whole prompt; see `Template.spans`."""
        turns = self._without_tools(turns, tools)
        spans = [Span(piece) for piece in self.start]
        previous: Role | None = None
        for number, turn in enumerate(turns):
            spans += self._opening(previous, turn.role)
            content = (turn.stripped() if self.strips else turn).content
            if turn.role == "assistant":
                closed = not self.end_last_only or number == len(turns) - 1
                closing = (self.tail, self.end) if closed else ()
                spans += [Span(piece, True, turn.weight) for piece in (self.lead, *content, *closing)]
            else:
                spans += [Span(piece) for piece in content]
            spans += [Span(piece) for piece in self.after[turn.role]]
            previous = turn.role
        if ask:
            spans += self._opening(previous, "assistant")
        return [span for span in spans if span.piece != ""]

    def _opening(self, previous: Role | None, role: Role) -> list[Span]:
        joined = self.joined.get((previous, role)) if previous else None
        return [Span(piece) for piece in (self.before[role] if joined is None else joined)]

    def _without_tools(self, turns: Sequence[Turn], tools: Tools) -> Sequence[Turn]:
        if not tools and not any(turn.calls or turn.role == "tool" for turn in turns):
            return turns
        if self.tools is None:
            raise DataError(
                f"the template '{self.name}' has no convention for tools (calls and their results); 'chatml' has one, "
                "and `prompt.template: tokenizer` uses the tokenizer's own"
            )
        return self.tools(turns, tools)


@dataclass(frozen=True)
class Shown:
    """A view, which stands for its own tokens and row breaks. own: what is written for it alone, its tag above all."""

    view: View
    own: tuple[Piece, ...] = ()


def laid_out(slot: Slot, views: Sequence[View], style: PictureConfig) -> Iterator[Piece | Shown]:
    """Pieces and views in reading order."""
    around = not style.each_view
    if not slot.opened:
        if style.label:
            yield style.label.replace("{number}", str(slot.number + 1))
        if around:
            yield from _opening(style)
    for number, view in enumerate(views):
        if number == 1 and style.tiles_start:
            yield Special(style.tiles_start)
        each = not around and not view.tag_beside
        yield Shown(view, (*_tag(view, style), *(_opening(style) if each else ())))
        if each:
            yield from _special(style.end)
    if len(views) > 1 and style.tiles_end:
        yield Special(style.tiles_end)
    if not slot.closed:
        if around:
            yield from _special(style.end)
        if style.after:
            yield style.after


def _tag(view: View, style: PictureConfig) -> tuple[Piece, ...]:
    tag = (view.tag,) if style.tags == "text" else _special(view.tag)
    return tag if view.tag else ()


def _opening(style: PictureConfig) -> tuple[Piece, ...]:
    return (*_special(style.start), *filter(None, (style.inside,)), *_special(style.content))


def _special(name: str) -> tuple[Special, ...]:
    return (Special(name),) if name else ()


def picture_spelled(style: PictureConfig, slot: Slot | None = None) -> str:
    """A picture as it stands in a prompt that nobody has expanded yet, with one token for all of its own.

    Without a slot its number is left as `{number}`. A reader that knows of rows writes their breaks, and what ends the
    last, itself.
    """
    label = style.label.replace("{number}", str(slot.number + 1)) if slot else style.label
    before = "" if slot and slot.opened else label + style.start + style.inside + style.content
    end = "" if style.row_break else style.end
    return before + style.token + ("" if slot and slot.closed else end + style.after)
