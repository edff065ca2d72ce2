"""Pictures with the code that made them, as a source of rows: a picture is drawn when its row is asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitrail.contracts.messages import Row
from vitrail.media.dice import Dice
from vitrail.synthetic.code.config import CodeConfig
from vitrail.synthetic.code.screens import drawn, made_up
from vitrail.synthetic.config import ANSWERS
from vitrail.synthetic.scenes import bars
from vitrail.synthetic.scenes.scene import Frame
from vitrail.synthetic.typefaces import typefaces

REQUESTS = {
    "html": ("Write the HTML of this page.", "Which HTML makes this page?"),
    "plot": ("Write the code of this plot.", "Which code draws this plot?"),
}
"""What is asked for, by language."""


class CodeSource:
    """Rows of pictures and their code. Each is a pure function of the configuration and its index."""

    name: str = "code"
    block: int = 1

    def __init__(self, config: CodeConfig) -> None:
        self.config = config

    def __len__(self) -> int:
        """How many rows there are."""
        return self.config.rows

    def row(self, index: int) -> Row:
        """A row as a chat record: a picture, and its code as the answer.

        Its fields: messages, images (one uint8[H, W, 3]), kind (the language), tag ("code"). Raises IndexError past
        the last row.
        """
        if not 0 <= index < self.config.rows:
            raise IndexError(f"row {index} of {self.config.rows}")
        dice = Dice("code", self.config.split, self.config.seed, index)
        asked = self.config.asked
        language = dice.pick(asked) if self.config.split == "train" else asked[index % len(asked)]
        picture, text = self._page(dice) if language == "html" else self._plot(dice)
        fields = {
            "messages": [
                {"role": "user", "content": f"<image>\n{dice.pick(REQUESTS[language])}"},
                {"role": "assistant", "content": text},
            ],
            "images": [picture],
            "kind": language,
            "tag": "code",
        }
        return Row(id=f"code-{self.config.split}-{index:07d}", fields=fields, location=f"drawn code, row {index}")

    def _page(self, dice: Dice) -> tuple[NDArray[np.uint8], str]:
        screen = made_up(dice, self.config.split, self.config.most)
        return drawn(screen, dice.pick(typefaces(self.config.split)), self.config.size), screen.html

    def _plot(self, dice: Dice) -> tuple[NDArray[np.uint8], str]:
        """The bars of the drawn scenes, as matplotlib's call."""
        side = self.config.size
        scene = bars.draw(dice, Frame(self.config.split, "bar value", dice.below(ANSWERS), side, side))
        assert isinstance(scene.layout, tuple), "the kind of scene, then the heights of its bars"
        colours = [name.removesuffix(" bar") for name in scene.boxes]
        heights = ", ".join(map(str, scene.layout[1:]))
        return scene.picture, f"plt.bar({colours}, [{heights}], color={colours})".replace("'", '"')
