"""What can be said in a recipe about measuring."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured, on data.held_out for the most part.

    answers: ask every held-out question and score the answers. losses: loss of the held-out answers with the right
    picture, with another row's and with none. pairs: after every stage, the share of held-out preference pairs whose
    chosen answer the model finds likelier, with the picture and without. before: also measure the untrained model.
    blind: also train and measure the blind baseline, the same recipe with every picture withheld. text: also the loss
    on plain text before and after training, which says what the language lost; true takes the text that comes with the
    package, a path one of your own; needs no data.held_out. max_tokens: of an answer. examples: pictures shown in the
    report.
    """

    answers: bool = True
    losses: bool = False
    pairs: bool = False
    before: bool = True
    blind: bool = True
    text: bool | Path = False
    max_tokens: int = 64
    examples: int = 12

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or self.examples < 0:
            raise ValueError("max_tokens must be 1 or more, examples 0 or more")
