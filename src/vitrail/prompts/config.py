"""What can be said in a recipe about the prompt."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class PictureConfig:
    """The special tokens around a picture's own, by name; "" for none.

    token: what stands in the prompt where the picture's tokens will be. row_break: after every row but the last.
    end: after the last row. Source: Pixtral, arXiv 2410.07073, section 2.2 ([IMG], [IMG_BREAK], [IMG_END]).
    """

    token: str = ""
    row_break: str = ""
    end: str = ""

    @property
    def specials(self) -> tuple[str, ...]:
        """The names that are used."""
        return tuple(name for name in (self.token, self.row_break, self.end) if name)


@dataclass(frozen=True)
class PromptConfig:
    """How conversations are written.

    template: a name from `prompts.templates`. system: what the system turn says when a conversation has none; "" for
    no turn. picture: special tokens around each picture.
    """

    template: str = "chatml"
    system: str = ""
    picture: PictureConfig = field(default_factory=PictureConfig)
