"""Rows, conversations and their parts: what data looks like before it becomes tokens."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

Role = Literal["system", "user", "assistant", "tool"]
"""tool: what came back from a call that the assistant made."""


@dataclass(frozen=True)
class Row:
    """One record of a source, in whatever dialect its author wrote it.

    id: stable name of the row within its source, used by the ledger and by reports.
    fields: the record itself.
    folder: where relative media paths start; None when the row carries its media.
    location: file and line, for messages to the user.
    confined: whether media must lie in that folder: true of rows of files, which others may have written.
    facts: fields that the source knows to be facts about the row, which no reader of rows needs to understand.
    """

    id: str
    fields: Mapping[str, Any]
    folder: Path | None = None
    location: str = ""
    confined: bool = False
    facts: tuple[str, ...] = ()


@dataclass(frozen=True)
class TextPart:
    """A piece of text inside a message. It never becomes a special token, whatever it spells."""

    text: str


@dataclass(frozen=True)
class Character:
    """A character that is known to stand in a picture. x, y: its middle, in shares of the width and the height.

    before: what parts it from the one before: nothing within a word, a blank, or a line break where a line begins.
    """

    text: str
    x: float
    y: float
    before: str = ""


@dataclass(frozen=True)
class MediaPart:
    """What is no text inside a message: a picture, a video, a sound. Those who count, order or leave out media need
    not know which."""

    @property
    def content(self) -> Any:
        """The file, the bytes or the array that it is given as."""
        raise AssertionError(f"{type(self).__name__} says itself what it holds")

    @property
    def identity(self) -> Hashable:
        """What tells its content from another without decoding it; equal things may differ in it."""
        return _identity(self.content)


def _identity(content: Any) -> Hashable:
    if hasattr(content, "dtype"):  # an array, known without numpy
        return content.shape, content.tobytes()
    if isinstance(content, tuple):
        return tuple(map(_identity, content))
    return content if isinstance(content, Hashable) else id(content)


@dataclass(frozen=True)
class ImagePart(MediaPart):
    """A picture inside a message: a file, its bytes, a uint8[H, W, 3] array, or an opened Pillow image; of a video,
    which is one too, also several of them as a tuple.

    characters: those that are known to stand in it, for objectives that learn from where they stand.
    """

    image: str | Path | bytes | np.ndarray | Image.Image | tuple[Any, ...]
    characters: tuple[Character, ...] = ()

    @property
    def content(self) -> Any:
        """`image`."""
        return self.image


@dataclass(frozen=True)
class VideoPart(ImagePart):
    """A video inside a message: a file, its bytes, or frames, `fps` a second (2 unless said), as uint8[T, H, W, 3] or
    as a tuple of pictures of one size."""

    fps: float | None = None


@dataclass(frozen=True)
class AudioPart(MediaPart):
    """A sound inside a message: a file, its bytes, or float32[T] samples from -1 to 1, `rate` of them a second.

    rate: needed for samples; files say it themselves.
    """

    audio: str | Path | bytes | np.ndarray
    rate: int | None = None

    @property
    def content(self) -> Any:
        """`audio`."""
        return self.audio


@dataclass(frozen=True)
class RefPart:
    """Words that name what a box is around. How they are set apart is the prompt's business (`prompts.boxes`)."""

    text: str


Box = tuple[float, float, float, float]
"""x1, y1 (top left), x2, y2 (bottom right), in shares of the picture's width and height, 0 to 1."""


@dataclass(frozen=True)
class BoxPart:
    """Boxes in a picture. How they are written is the prompt's business (`prompts.boxes`)."""

    boxes: tuple[Box, ...]

    @property
    def text(self) -> str:
        """The boxes as the drawn data write them: `[x1, y1, x2, y2]` in thousandths."""
        return ", ".join(str([round(1000 * edge) for edge in box]) for box in self.boxes)


Part = TextPart | MediaPart | RefPart | BoxPart


@dataclass(frozen=True)
class ToolCall:
    """What the assistant asks to be done: a function and its arguments, as JSON has them."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation. calls: after the text, for an assistant that acts.

    weight: loss weight of each of its tokens, where it is learnt; 0 for an answer that is only read.
    """

    role: Role
    parts: tuple[Part, ...]
    calls: tuple[ToolCall, ...] = ()
    weight: float = 1.0

    @property
    def text(self) -> str:
        """The parts' text joined; media and calls are left out."""
        return "".join(part.text for part in self.parts if not isinstance(part, MediaPart))


@dataclass(frozen=True)
class Conversation:
    """Messages of one row, with what evaluation needs to know about it.

    kind: the question's kind, by which scores are grouped; "" when the row does not say.
    tools: what the assistant may call, each as OpenAI's API declares a function. rejected: of a preference pair, the
    turns that somebody liked less than those that end `messages`; shared: how many messages stand before either.
    """

    id: str
    messages: tuple[Message, ...]
    kind: str = ""
    location: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = field(default=(), kw_only=True)
    rejected: tuple[Message, ...] = ()
    shared: int = 0

    @property
    def media(self) -> tuple[MediaPart, ...]:
        """Every picture, video and sound, in reading order."""
        return tuple(part for message in self.messages for part in message.parts if isinstance(part, MediaPart))

    def up_to_answer(self, count: int) -> Conversation:
        """The same up to its answer of that number, from 1."""
        ends = [number + 1 for number, one in enumerate(self.messages) if one.role == "assistant"]
        return replace(self, messages=self.messages[: ends[count - 1]])


def is_url(given: object) -> bool:
    """Whether a medium is given as an address of the web."""
    return isinstance(given, str) and given[:8].lower().startswith(("http://", "https://"))
