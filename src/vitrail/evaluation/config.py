"""What can be said in a recipe about measuring."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vitrail.synthetic.config import ProseConfig


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured, on data.held_out for the most part."""

    answers: bool = True
    """Ask every held-out question and score the answers."""
    losses: bool = False
    """Loss of the held-out answers with the right picture, with another row's and with none."""
    pairs: bool = False
    """After every stage, the share of held-out preference pairs whose chosen answer the model finds likelier, with the
    media and without."""
    before: bool = True
    """Also measure the untrained model."""
    blind: bool = True
    """Also train and measure the blind baseline, the same recipe with all media left out."""
    swapped: bool = False
    """Also ask every question with another row's media: a model that looks answers otherwise, and no better than the
    blind baseline."""
    pasted: bool = False
    """Also train and measure the same recipe with the text of every page pasted in its place: what a model gains that
    sees more of it. For `media: {kind: text_lines}`."""
    text: bool | Path | ProseConfig = False
    """Also the loss on plain text before and after training: what the language lost; true takes the text that
    comes with the package, a path one of your own, `{kind: prose, split: test, ...}` drawn stories; needs no
    data.held_out."""
    max_tokens: int = 64
    """Of an answer."""
    examples: int = 12
    """Pictures shown in the report."""

    def __post_init__(self) -> None:
        if self.swapped and not self.answers:
            raise ValueError("swapped: true compares with the answers that answers: true gives")
        if self.max_tokens < 1 or self.examples < 0:
            raise ValueError("max_tokens must be 1 or more, examples 0 or more")
