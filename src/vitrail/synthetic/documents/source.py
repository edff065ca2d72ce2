"""The drawn documents as a source of rows: a document is drawn when its row is asked for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

from vitrail.contracts.messages import Character, ImagePart, Row
from vitrail.media.dice import Dice
from vitrail.synthetic.documents import bar_chart, form, invoice, line_chart, notice, receipt, screen, table
from vitrail.synthetic.documents.chinese import ChineseVocabulary
from vitrail.synthetic.documents.config import READING, DocumentsConfig
from vitrail.synthetic.documents.draft import Draft, Job
from vitrail.synthetic.documents.page import Document, Rotation, UnfitError
from vitrail.synthetic.documents.vocabulary import Vocabulary
from vitrail.synthetic.documents.wording import worded
from vitrail.synthetic.paper import worn
from vitrail.synthetic.scenes.scene import Ask, in_thousandths
from vitrail.synthetic.typefaces import chinese_typeface, reading_typefaces

BBOX = "<bbox>"
"""Stands in a text for a box of `objects`."""
FACTS = ("kinds", "boxes", "document", "text")
"""Fields that say how a row was drawn."""

_DRAW: dict[str, Callable[[Draft], None]] = {
    "receipt": receipt.draw,
    "invoice": invoice.draw,
    "form": form.draw,
    "table": table.draw,
    "bar chart": bar_chart.draw,
    "line chart": line_chart.draw,
    "notice": notice.draw,
    "screen": screen.draw,
}

_MOST_SKEW = 1.4  # degrees, at level 1 and wear 1: less than the margins take
_TRIES = 500


class DocumentsSource:
    """Rows of drawn documents with questions. Each is a pure function of the configuration and its index.

    A document depends on the split, the seed, the index, `documents`, `level`, `grow`, `wear`, `unit` and the script
    alone (in the test split on `ask` too): other settings change what is said about it, never what it shows.
    """

    name: str = "documents"
    block: int = 1

    def __init__(self, config: DocumentsConfig) -> None:
        """config: what to draw; see `DocumentsConfig`. Raises DataError when its font cannot be used."""
        self.config = config
        self._asked = config.asked
        self._drawn_kinds = config.drawn
        self._faces = reading_typefaces(config.split)
        if config.font is not None:
            self._faces = (chinese_typeface(config.font, config.split),)
        self._offering = {ask: config.offering(ask) for ask in config.asked}

    def __len__(self) -> int:
        """How many rows there are."""
        return self.config.rows

    def document(self, index: int) -> Document:
        """The document of a row, with every question that it offers. Raises IndexError past the last row."""
        if not 0 <= index < self.config.rows:
            raise IndexError(f"row {index} of {self.config.rows}")
        kind, wanted = self._aim(index)
        page = self._page(index)
        for attempt in range(_TRIES):
            try:
                return self._drawn(page, attempt, kind, wanted)
            except UnfitError:
                continue
        raise AssertionError(f"no {kind} fits a page of whole {self.config.unit} px: row {index} of {self.config}")

    def row(self, index: int) -> Row:
        """A row as a chat record with its picture.

        Its fields: messages (role and content, "<image>" first in the first user turn, "<bbox>" for a box), objects
        (these boxes, in thousandths, if there are any), images (one: uint8[H, W, 3] with the position of every
        character), kind (of the last question; "text" or "caption" where nothing else is asked), kinds (of every turn),
        boxes (name of a thing to [x1, y1, x2, y2] in px), document (its kind), text (its lines), and target (a box in
        thousandths) where the last question is where to click. Raises IndexError past the last row.
        """
        document = self.document(index)
        asks = self._choose(index, document)
        messages = []
        for number, ask in enumerate(asks):
            messages.append({"role": "user", "content": ask.question if number else f"<image>\n{ask.question}"})
            messages.append({"role": "assistant", "content": BBOX if ask.kind == "box" else ask.answer})
        questions = [ask.kind for ask in asks if ask.kind not in (READING, "caption")]
        fields = {
            "messages": messages,
            "images": [ImagePart(document.picture, document.characters)],
            "kind": questions[-1] if questions else asks[-1].kind,
            "kinds": [ask.kind for ask in asks],
            "boxes": document.boxes,
            "document": document.name,
            "text": "\n".join(document.lines),
        }
        boxes = [json.loads(ask.answer) for ask in asks if ask.kind == "box"]
        if boxes:
            # How a box is written is the prompt's business.
            fields["objects"] = {"bbox": boxes, "bbox_type": "norm1000"}
        if asks[-1].target:
            fields["target"] = list(asks[-1].target)
        name = f"documents-{self.config.split}-{self._page(index):07d}"
        if self.config.every_kind:
            name = f"{name}-{fields['kind']}"
        return Row(id=name, fields=fields, location=f"drawn documents, row {index}", facts=FACTS)

    def _page(self, index: int) -> int:
        """Number of a row's document: several rows may ask about one."""
        return index // len(self._asked) if self.config.every_kind else index

    def _dice(self, purpose: str, index: int, attempt: int = 0) -> Dice:
        """A stream of its own for each purpose, so that what one draws never shifts another."""
        return Dice("documents", purpose, self.config.split, self.config.seed, index, attempt)

    def _aim(self, index: int) -> tuple[str, tuple[str, ...]]:
        """The kind of document of a row, and kinds of question of which it must offer one; for test they alternate."""
        if self.config.split == "train":
            kind = self._dice("kind", index).pick(self._drawn_kinds)
            return kind, self._asked if self.config.questions else ()
        if self.config.every_kind:
            return self._drawn_kinds[self._page(index) % len(self._drawn_kinds)], self._asked
        round_, number = divmod(index, len(self._asked))
        offering = self._offering[self._asked[number]]
        return offering[round_ % len(offering)], self._asked[number : number + 1]

    def _drawn(self, index: int, attempt: int, kind: str, wanted: tuple[str, ...]) -> Document:
        """One attempt at a document. Raises UnfitError when it fits no page, or offers nothing that is wanted."""
        config, dice = self.config, self._dice("document", index, attempt)
        grown = min(1.0, index / config.grow) if config.grow and config.split == "train" else 1.0
        talk = self._dice("talk", index, attempt)
        job = Job(config.split, config.level * grown, config.unit, self._faces)
        vocabulary = ChineseVocabulary if config.script == "chinese" else Vocabulary
        draft = Draft(job, dice, vocabulary(dice, config.split), talk)
        _DRAW[kind](draft)
        page = draft.page
        # Not every document has a sum of the split, or anything to click on; known before it is drawn.
        offered = {ask.kind for ask in draft.asks} | {READING}
        if page.names:
            offered.add("box")
        if page.targets:
            offered.add("click")
        found = offered & {*wanted}
        if wanted and (found < {*wanted} if config.every_kind else not found):
            raise UnfitError(f"too little of {', '.join(wanted)}")
        lines = page.lines()
        if len(lines) > job.most_lines:
            raise UnfitError(f"{len(lines)} lines")
        width, height = page.finish(config.unit)
        picture, runs = page.draw(dice)
        most = _MOST_SKEW * job.level * config.wear
        rotation = Rotation(width, height, dice.spread(most) if most and dice.chance(0.4) else 0.0)
        boxes = {name: rotation.box(box) for name, box in page.boxes.items()}
        spots = [(character, *rotation.point(x, y), before) for character, x, y, before in page.middles()]
        picture = rotation.picture(picture)
        picture = worn(dice, picture, config.wear * (0.5 + 0.5 * grown))
        asks = [*draft.asks, Ask(READING, worded(talk, config.script, READING), "\n".join(lines))]
        for name, box in boxes.items():
            asks.append(Ask("box", worded(talk, config.script, "box", name=name), in_thousandths(box, width, height)))
        for name in page.targets:
            x1, y1, x2, y2 = boxes[name]
            point = str([round(500 * (x1 + x2) / width), round(500 * (y1 + y2) / height)])
            target = tuple(json.loads(in_thousandths(boxes[name], width, height)))
            asks.append(Ask("click", worded(talk, config.script, "click", name=name), point, target))
        return Document(
            name=kind,
            picture=picture,
            lines=lines,
            caption=draft.caption,
            asks=tuple(asks),
            boxes=boxes,
            targets=tuple(page.targets),
            layout=draft.layout,
            values=tuple(draft.words.values),
            fonts=tuple(sorted({run.pen.face.name for run in page.runs})),
            runs=runs,
            characters=tuple(Character(character, x / width, y / height, before) for character, x, y, before in spots),
        )

    def _choose(self, index: int, document: Document) -> list[Ask]:
        """What to ask: one question for test; for train a mix of kinds, with the text and the caption by lot."""
        dice, config = self._dice("turns", index), self.config
        shuffled = dice.sample(document.asks, len(document.asks))
        if config.split == "test":
            wanted = self._asked[index % len(self._asked)]
            return [next(ask for ask in shuffled if ask.kind == wanted)]
        rounds: Counter[str] = Counter()
        ranked: list[tuple[int, Ask]] = []
        for ask in shuffled:
            if ask.kind in self._asked:
                ranked.append((rounds[ask.kind], ask))
                rounds[ask.kind] += 1
        ranked.sort(key=lambda pair: pair[0])  # one of every kind before a second of any
        kept = dice.sample([ask for _, ask in ranked[: config.questions]], min(len(ranked), config.questions))
        # What comes first gives most of the answers after it away, and then they are copied; what comes last leaves
        # them to the picture. Half of each.
        reading = next(ask for ask in document.asks if ask.kind == READING)
        caption = Ask("caption", worded(dice, config.script, "caption"), document.caption)
        shares = ((config.text, reading), (config.caption, caption))
        for share, whole in shares:
            if dice.chance(share) and whole not in kept:
                kept.insert(0 if dice.chance(0.5) else len(kept), whole)
        if not kept:
            kept.append(reading if dice.chance(config.text / (config.text + config.caption)) else caption)
        return kept
