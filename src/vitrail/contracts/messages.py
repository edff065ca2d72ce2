"""Rows, conversations and their parts: what data looks like before it becomes tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    folder: where relative picture paths start; None when the row carries its pictures.
    location: file and line, for messages to the user.
    """

    id: str
    fields: Mapping[str, Any]
    folder: Path | None = None
    location: str = ""


@dataclass(frozen=True)
class TextPart:
    """A piece of text inside a message. It never becomes a special token, whatever it spells."""

    text: str


@dataclass(frozen=True)
class Mark:
    """A character and the middle of where it stands in a picture. x, y: shares of the width and the height.

    before: what parts it from the mark before: nothing within a word, a blank, or a line break where a line begins.
    """

    text: str
    x: float
    y: float
    before: str = ""


@dataclass(frozen=True)
class ImagePart:
    """A picture inside a message: a file, its bytes, a uint8[H, W, 3] array, or an opened Pillow image.

    marks: what is known to stand where in it, for objectives that learn from places.
    """

    image: str | Path | bytes | np.ndarray | Image.Image
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class VideoPart(ImagePart):
    """A video inside a message: a file, its bytes, or uint8[T, H, W, 3] frames, `fps` of them a second (2 unless said).

    It is a picture to everyone who counts, orders, withholds or leaves out pictures.
    """

    fps: float | None = None


@dataclass(frozen=True)
class RefPart:
    """Words that name what a box is around. How they are set apart is the prompt's business (`prompts.boxes`)."""

    text: str


Box = tuple[float, float, float, float]
"""x1, y1 (top left), x2, y2 (bottom right), in shares of the picture's width and height, 0 to 1."""


@dataclass(frozen=True)
class BoxPart:
    """Places in a picture. How they are written is the prompt's business (`prompts.boxes`)."""

    boxes: tuple[Box, ...]

    @property
    def text(self) -> str:
        """The boxes as the drawn data write them: `[x1, y1, x2, y2]` in thousandths."""
        return ", ".join(str([round(1000 * edge) for edge in box]) for box in self.boxes)


Part = TextPart | ImagePart | RefPart | BoxPart


@dataclass(frozen=True)
class ToolCall:
    """What the assistant asks to be done: a function and its arguments, as JSON has them."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation. calls: after the text, for an assistant that acts."""

    role: Role
    parts: tuple[Part, ...]
    calls: tuple[ToolCall, ...] = ()

    @property
    def text(self) -> str:
        """The parts' text joined; pictures and calls are left out."""
        return "".join(part.text for part in self.parts if not isinstance(part, ImagePart))


@dataclass(frozen=True)
class Conversation:
    """Messages of one row, with what evaluation needs to know about it.

    kind: the question's kind, by which scores are grouped; "" when the row does not say.
    tools: what the assistant may call, each as OpenAI's API declares a function. rejected: of a preference pair, the
    turns that somebody liked less than those which stand in their place at the end of `messages`.
    """

    id: str
    messages: tuple[Message, ...]
    kind: str = ""
    location: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = field(default=(), kw_only=True)
    rejected: tuple[Message, ...] = ()

    @property
    def pictures(self) -> tuple[ImagePart, ...]:
        """Every picture, in reading order."""
        return tuple(part for message in self.messages for part in message.parts if isinstance(part, ImagePart))
