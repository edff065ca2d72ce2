"""Which documents to draw and what to ask about them. No torch, no numpy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vitrail.contracts.errors import DataError, nearest
from vitrail.synthetic.config import SPLITS

OFFERS: dict[str, tuple[str, ...]] = {
    "receipt": ("field", "sum", "compare", "position", "box"),
    "invoice": ("field", "sum", "compare", "position", "box"),
    "form": ("field", "position", "box"),
    "table": ("field", "sum", "compare", "position", "box"),
    "bar chart": ("field", "sum", "compare", "position", "box"),
    "line chart": ("field", "sum", "compare", "position", "box"),
    "notice": ("field", "position", "box"),
    "screen": ("field", "position", "box", "click"),
}
"""Each kind of document, and the kinds of question that can be asked about it; `text` about any."""

DOCUMENTS: tuple[str, ...] = tuple(OFFERS)
READING = "text"
"""The kind of question whose answer is every line of the document."""

ASKS: tuple[str, ...] = ("field", "sum", "compare", "position", "box", "click", READING)
SCORED_ASKS: tuple[str, ...] = ("field", "sum", "compare", "position")
"""The kinds that exact match can score; a box is scored by overlap, a click by whether it hits."""

SCRIPTS: tuple[str, ...] = ("latin", "chinese")
LARGEST_UNIT = 56


@dataclass(frozen=True)
class DocumentsConfig:
    """Settings of the drawn documents.

    split: "train" or "test". The two share no value (name, amount, date, code ...), no layout and no font.
    rows: how many rows, each a document. seed: another seed gives other documents of the same split.
    documents: kinds of document to draw; empty = all of `DOCUMENTS`.
    ask: kinds of question to ask; empty = all of `ASKS` but `text`.
    questions: most questions a train document, in one conversation. The test split asks one, the kinds alternating.
    every_kind: the test split asks every document one question of each kind, a row each: fewer pages to read for as
        many questions. Only documents are drawn then that offer all of `ask`.
    text: share of train rows with a turn that reads every line. caption: share of train rows with a caption turn.
    level: difficulty from 0 to 1: more lines, items and series, smaller type, more skew.
    grow: over so many of the first train rows the level rises from 0 to `level`; for a stage that takes the rows in
        order (shuffle: false).
    wear: 0 for clean pictures, 1 for bad photocopies.
    unit: sides are whole multiples of it, px.
    script: "latin" for English, "chinese" for Chinese labels, values and questions; these need `font`.
    font: a font file with Chinese characters. There is one font then, which both splits write with.
    shuffle: whether a run mixes the rows, or takes them in order but for how a window packs.

    Raises DataError when a value is not allowed.
    """

    split: str = "train"
    rows: int = 10_000
    seed: int = 0
    documents: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    questions: int = 3
    every_kind: bool = False
    text: float = 0.25
    caption: float = 0.1
    level: float = 0.5
    grow: int = 0
    wear: float = 0.3
    unit: int = 28
    script: str = "latin"
    font: Path | None = None
    shuffle: bool = True
    kind: Literal["documents"] = "documents"

    def __post_init__(self) -> None:
        """Refuses what cannot be drawn."""
        _among("split", self.split, SPLITS)
        _among("script", self.script, SCRIPTS)
        for name, chosen, allowed in (("documents", self.documents, DOCUMENTS), ("ask", self.ask, ASKS)):
            for item in chosen:
                _among(name, item, allowed)
            if len(set(chosen)) != len(chosen):
                raise DataError(f"drawn documents: {name} names one twice: {', '.join(chosen)}")
        for name in ("rows", "grow", "questions"):
            if getattr(self, name) < 0:
                raise DataError(f"drawn documents: {name} is {getattr(self, name)}, allowed: 0 or more")
        for name in ("text", "caption", "level", "wear"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"drawn documents: {name} is {getattr(self, name)}, allowed: 0 to 1")
        if not 1 <= self.unit <= LARGEST_UNIT:
            raise DataError(f"drawn documents: unit is {self.unit}, allowed: 1 to {LARGEST_UNIT}")
        self._check_there_is_something_to_say()
        self._check_every_kind()
        self._check_font()

    @property
    def drawn(self) -> tuple[str, ...]:
        """The kinds of document that are drawn, in the order of `DOCUMENTS`: those that something is asked about."""
        chosen = tuple(kind for kind in DOCUMENTS if kind in self.documents) or DOCUMENTS
        if self.every_kind:
            return tuple(kind for kind in chosen if all(kind in self.offering(ask) for ask in self.ask or ASKS[:-1]))
        if not self.questions:
            return chosen
        return tuple(kind for kind in chosen if any(kind in self.offering(ask) for ask in self.asked))

    @property
    def asked(self) -> tuple[str, ...]:
        """The kinds of question that are asked, in the order of `ASKS`: those that some chosen document offers."""
        chosen = tuple(kind for kind in ASKS if kind in self.ask) or ASKS[:-1]
        return tuple(kind for kind in chosen if self.offering(kind))

    def offering(self, ask: str) -> tuple[str, ...]:
        """The chosen kinds of document that a kind of question can be asked about."""
        chosen = self.documents or DOCUMENTS
        return tuple(kind for kind in DOCUMENTS if kind in chosen and (ask == READING or ask in OFFERS[kind]))

    def _check_there_is_something_to_say(self) -> None:
        if not self.asked:
            offered = sorted({ask for kind in self.documents for ask in OFFERS[kind]}, key=ASKS.index)
            raise DataError(
                f"drawn documents: ask is {', '.join(self.ask)}, which {', '.join(self.documents)} does not offer, "
                f"allowed: {', '.join(offered)}, {READING}"
            )
        if self.split == "train" and not (self.questions or self.text or self.caption):
            raise DataError("drawn documents: questions is 0, allowed: 1 or more, or 0 with text or caption above 0")

    def _check_every_kind(self) -> None:
        if self.every_kind and self.split != "test":
            raise DataError("drawn documents: every_kind is for split: test")
        if self.every_kind and not self.drawn:
            wanted = ", ".join(self.ask or ASKS[:-1])
            raise DataError(f"drawn documents: every_kind, and none of the documents offers all of {wanted}")

    def _check_font(self) -> None:
        if self.script == "chinese" and self.font is None:
            raise DataError(
                "drawn documents: script is chinese without a font, allowed: font: path of a font file with Chinese "
                "characters (none is bundled)"
            )
        if self.script == "latin" and self.font is not None:
            raise DataError(
                f"drawn documents: font is '{self.font}' with script: latin, allowed: only with script: chinese"
            )


def _among(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise DataError(f"drawn documents: {name} is '{value}'{nearest(value, allowed)}, allowed: {', '.join(allowed)}")
