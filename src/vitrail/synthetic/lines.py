"""Lines of text as a source of rows: what an encoder learns to read from, at the glyph sizes of the documents.

A row is a crop of one to a few lines and the text on it. Over the first rows it grows from single black letters in the
middle of white paper to whole lines anywhere in any ink, so that a model that knows nothing yet can begin: an encoder
without convolutions needs a hundred times the letters where they stand anywhere from the start (docs/log.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitrail.contracts.messages import Character, ImagePart, Row
from vitrail.media.dice import Dice
from vitrail.synthetic.config import LinesConfig, split_of
from vitrail.synthetic.made_up_text import letters, line
from vitrail.synthetic.paper import worn
from vitrail.synthetic.typefaces import lettering_on_baseline, middles, reading_typefaces

_SIZES = (11, 12, 13, 14, 15, 16, 17, 18, 20, 22, 24)
"""Font sizes in px, those of the drawn documents."""

_REQUESTS = ("Read the text.", "What is written here?", "Transcribe the text.")
_MARGIN = 2


class LinesSource:
    """Rows of text crops. Each is a pure function of the configuration and its index."""

    name: str = "lines"
    block: int = 1

    def __init__(self, config: LinesConfig) -> None:
        self.config = config

    def __len__(self) -> int:
        """How many rows there are."""
        return self.config.rows

    def row(self, index: int) -> Row:
        """A row as a chat record: a picture, and its text as the answer, lines parted by a line break.

        Its fields: messages, images (one, with the position of every character), kind. Raises IndexError past the
        last row.
        """
        if not 0 <= index < self.config.rows:
            raise IndexError(f"row {index} of {self.config.rows}")
        dice = Dice("lines", self.config.split, self.config.seed, index)
        grown = min(1.0, index / self.config.grow) if self.config.grow else 1.0
        text = self._text(dice, grown)
        request = f"\n{dice.pick(_REQUESTS)}" if self.config.ask else ""
        fields = {
            "messages": [
                {"role": "user", "content": f"<image>{request}"},
                {"role": "assistant", "content": "\n".join(text)},
            ],
            "images": [self._picture(dice, text, grown)],
            "kind": "lines" if len(text) > 1 else "line",
        }
        return Row(id=f"lines-{self.config.split}-{index:07d}", fields=fields, location=f"drawn lines, row {index}")

    def _text(self, dice: Dice, grown: float) -> list[str]:
        split = self.config.split
        # The whole range from the start of the row's growth up to where it stands: nothing that was learnt is dropped.
        reach = _ramp(grown, 0.0, 0.9) * (0.3 + 0.7 * dice.below(101) / 100)
        longest = max(min(4, self.config.longest), round(self.config.longest * reach))
        if longest < 5 or dice.chance(0.1 * (1 - grown)):
            while True:
                made = letters(dice, dice.between(1, min(longest, 6)))
                if split_of(made) == split or len(made) < 3:
                    return [made]
        most = 1 + round((self.config.lines - 1) * _ramp(grown, 0.3, 0.8))
        return [line(dice, split, longest) for _ in range(dice.between(1, most))]

    def _picture(self, dice: Dice, text: list[str], grown: float) -> ImagePart:
        """Dark on light, or the other way round in one of six; sides are whole multiples of `unit`.

        Marks are where characters stood before the paper was rotated: by so little that they keep their patch.
        """
        face = dice.pick(reading_typefaces(self.config.split))
        size = dice.pick(_SIZES)
        masks = [lettering_on_baseline(row, face, size) for row in text]
        pitch = round(size * dice.between(108, 150) / 100)
        width = max(mask.shape[1] for mask in masks) + 2 * _MARGIN
        height = pitch * (len(masks) - 1) + masks[0].shape[0] + 2 * _MARGIN
        unit = self.config.unit
        sheet = np.zeros((-(-height // unit) * unit, -(-width // unit) * unit), np.uint8)
        astray = _ramp(grown, 0.03, 0.35)
        top = _MARGIN + _stray(dice, sheet.shape[0] - height, astray)
        left = _MARGIN + _stray(dice, sheet.shape[1] - width, astray)
        characters = []
        for number, (row, mask) in enumerate(zip(text, masks, strict=True)):
            spot = sheet[top + number * pitch :, left:][: mask.shape[0], : mask.shape[1]]
            np.maximum(spot, mask[: spot.shape[0]], out=spot)
            before = "\n"
            for character, (x, y) in zip(row, middles(row, face, size), strict=True):
                if character != " ":
                    share = (left + x) / sheet.shape[1], (top + number * pitch + y) / sheet.shape[0]
                    characters.append(Character(character, *share, before))
                before = " " if character == " " else ""
        wear = self.config.wear * grown
        picture = worn(dice, _inked(dice, sheet, _ramp(grown, 0.05, 0.3)), wear, skew=1.5 * wear)
        return ImagePart(picture, tuple(characters))


def _ramp(grown: float, start: float, end: float) -> float:
    """From 0 at `start` to 1 at `end`."""
    return min(1.0, max(0.0, (grown - start) / (end - start)))


def _stray(dice: Dice, room: int, astray: float) -> int:
    """An offset into so many px of room: the middle, or as far from it as `astray` lets it."""
    reach = round(room / 2 * astray)
    return min(room, max(0, room // 2 + dice.between(-reach, reach)))


def _inked(dice: Dice, alpha: NDArray[np.uint8], colour: float) -> NDArray[np.uint8]:
    """A mask as ink on paper of two tints far enough apart to read; colour: 0 for black on white, 1 for any."""
    light = np.array([255 - dice.between(0, 50) * colour for _ in range(3)], np.float32)
    dark = np.array([dice.between(0, 90) * colour for _ in range(3)], np.float32)
    ink, paper = (light, dark) if dice.chance(colour / 6) else (dark, light)
    share = alpha[:, :, None].astype(np.float32) / 255
    return (paper + (ink - paper) * share).astype(np.uint8)
