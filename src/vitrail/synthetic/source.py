"""The drawn data as a source of rows: a picture is drawn when its row is asked for, in about half a ms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from vitrail.contracts.messages import Row
from vitrail.media.dice import Dice
from vitrail.synthetic.config import ANSWERS, EASY_KINDS, SCENE_OF_KIND, STEP, DrawnConfig
from vitrail.synthetic.paper import COLOURS
from vitrail.synthetic.scenes import bars, count, shapes, text
from vitrail.synthetic.scenes.scene import CAPTION_REQUESTS, Ask, Frame, Scene
from vitrail.synthetic.shapes import SHAPES

FACTS = ("kinds", "caption", "boxes", "scene")
"""Fields that say how a row was drawn."""

_DRAW: dict[str, Callable[[Dice, Frame], Scene]] = {
    "shapes": shapes.draw,
    "count": count.draw,
    "text": text.draw,
    "bars": bars.draw,
}

assert {len(COLOURS), len(SHAPES), len(shapes.POSITIONS), count.MOST, bars.MOST} == {ANSWERS}, "unequal answer lists"


class DrawnSource:
    """Rows of drawn pictures with questions and answers. Each is a pure function of the configuration and its index.

    A picture depends on the split, the seed, the index, the size and the kinds alone: other settings change what is
    said about it, never what it shows.
    """

    name: str = "drawn"
    block: int = 1

    def __init__(self, config: DrawnConfig) -> None:
        """config: what to draw; see `DrawnConfig`."""
        self.config = config

    def __len__(self) -> int:
        """How many rows there are."""
        return self.config.rows

    def picture_size(self, index: int) -> tuple[int, int]:
        """Width and height of a row's picture in px, without drawing it."""
        low, high = self.config.size
        if low == high:
            return low, low
        dice, steps = self._dice("size", index), (high - low) // STEP
        return low + STEP * dice.between(0, steps), low + STEP * dice.between(0, steps)

    def scene(self, index: int) -> Scene:
        """The picture of a row with every question that it offers."""
        if not 0 <= index < self.config.rows:
            raise IndexError(f"row {index} of {self.config.rows}")
        dice = self._dice("scene", index)
        easy = self._is_easy(index)
        kind, answer = self._aim(dice, index, easy)
        width, height = self.picture_size(index)
        return _DRAW[SCENE_OF_KIND[kind]](dice, Frame(self.config.split, kind, answer, width, height, easy))

    def row(self, index: int) -> Row:
        """A row as a chat record with its picture.

        Its fields: messages (role and content, "<image>" first in the first user turn), images (one uint8[H, W, 3]),
        kind (of the last question; "caption" when nothing is asked), kinds (of every question), caption, boxes (name
        of a thing to [x1, y1, x2, y2] in px), scene. Pairs have prompt, chosen and rejected instead of messages.
        Raises IndexError past the last row.
        """
        scene = self.scene(index)
        dice = self._dice("turns", index)
        # An easy row has its caption alone: answers that can be copied from it would teach reading, not looking.
        asks = [] if self.config.caption and self._is_easy(index) else self._choose(dice, scene)
        turns = [(ask.question, ask.answer) for ask in asks]
        if self.config.caption and self.config.split == "train" and not self.config.pairs:
            request = (dice.pick(CAPTION_REQUESTS), scene.caption)
            # A caption that comes first answers most questions after it, and a reader of text alone could then answer
            # them; one that comes last leaves them to the picture. Half of each.
            turns.insert(0 if dice.chance(0.5) else len(turns), request)
        messages: list[dict[str, str]] = []
        for number, (said, reply) in enumerate(turns):
            messages.append({"role": "user", "content": said if number else f"<image>\n{said}"})
            messages.append({"role": "assistant", "content": reply})
        told: dict[str, Any] = {"messages": messages}
        if self.config.pairs:
            wrong = {"role": "assistant", "content": self._other_answer(index, asks[-1])}
            told = {"prompt": messages[:-1], "chosen": messages[-1:], "rejected": [wrong]}
        fields = {
            **told,
            "images": [scene.picture],
            "kind": asks[-1].kind if asks else "caption",
            "kinds": [ask.kind for ask in asks],
            "caption": scene.caption,
            "boxes": scene.boxes,
            "scene": scene.name,
        }
        name = f"drawn-{self.config.split}-{index:06d}"
        return Row(id=name, fields=fields, location=f"drawn data, row {index}", facts=FACTS)

    def _other_answer(self, index: int, asked: Ask) -> str:
        """What the same kind of question has for an answer about another picture, where that is another answer."""
        dice = self._dice("rejected", index)
        while True:
            frame = Frame(self.config.split, asked.kind, dice.below(ANSWERS), *self.picture_size(index))
            answer = _DRAW[SCENE_OF_KIND[asked.kind]](dice, frame).asks[0].answer
            if answer != asked.answer:
                return answer

    def _dice(self, purpose: str, index: int) -> Dice:
        """A stream of its own for each purpose, so that what one draws never shifts another."""
        return Dice(purpose, self.config.split, self.config.seed, index)

    def _is_easy(self, index: int) -> bool:
        """Always over the first half of `easy_first`, then ever more seldom."""
        first = self.config.easy_first
        if self.config.split != "train" or index >= first:
            return False
        return self._dice("easy", index).chance(2 - 2 * index / first)

    def _aim(self, dice: Dice, index: int, easy: bool) -> tuple[str, int]:
        """The kind that a row's scene is drawn for, and which answer: alternating for test, random for train."""
        # Random for train: a reader that takes every n-th row must still meet every scene. Alternating for test: each
        # kind has as many rows, and in any twelve of its rows each answer comes once.
        if easy:
            return dice.pick(EASY_KINDS), dice.below(ANSWERS)
        if self.config.split == "train":
            return dice.pick(dice.pick(self.config.lessons)), dice.below(ANSWERS)
        round_, number = divmod(index, len(self.config.asked))
        kind = self.config.asked[number]
        order = Dice("answers", self.config.split, self.config.seed, kind, round_ // ANSWERS)
        return kind, order.sample(range(ANSWERS), ANSWERS)[round_ % ANSWERS]

    def _choose(self, dice: Dice, scene: Scene) -> list[Ask]:
        """What to ask: the first of all for test; for train a mix of kinds, no question twice."""
        if self.config.split == "test":
            return [scene.asks[0]]
        rounds: Counter[str] = Counter()
        ranked: list[tuple[int, Ask]] = []
        for ask in dice.sample(scene.asks, len(scene.asks)):
            if ask.kind in self.config.asked:
                ranked.append((rounds[ask.kind], ask))
                rounds[ask.kind] += 1
        ranked.sort(key=lambda pair: pair[0])  # one of every kind before a second of any
        kept = [ask for _, ask in ranked[: self.config.questions]]
        return dice.sample(kept, len(kept))
