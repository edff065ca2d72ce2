"""The loss of a step by source and by tag: a curve for each part of a mixture, and for each task that rows name.

Costs one pass over the labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vitrail.contracts.samples import Batch
from vitrail.training.objectives.objective import Term

Parts = Sequence[tuple[float, float]]
"""Summed loss and loss weight of each text segment, in their order; a last segment of padding may be among them."""


def parts_of(batch: Batch, terms: Mapping[str, Term]) -> Parts:
    """Those of a batch, from the terms that say what each position adds to them; empty where none does."""
    each = [term.each for term in terms.values() if term.each is not None]
    if not each:
        return ()
    lengths = batch.learnt.segments.lengths
    losses = sum(each[1:], each[0]).cpu().split(lengths)
    weights = batch.learnt.weights.cpu().split(lengths)
    return [(loss.sum().item(), weight.sum().item()) for loss, weight in zip(losses, weights, strict=True)]


@dataclass
class NamedLosses:
    """Summed losses and loss weights of the labelled tokens, by the name that their segment has."""

    sums: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)

    def add(self, names: Sequence[str], parts: Parts) -> None:
        """What a batch adds. names: of its segments, "" for none."""
        # A last segment of padding has no name.
        for name, (loss, weight) in zip(names, parts, strict=False):
            if name:
                self.sums[name] = self.sums.get(name, 0.0) + loss
                self.weights[name] = self.weights.get(name, 0.0) + weight

    def means(self) -> dict[str, float]:
        """Mean loss of a token of each name that the step had labels of."""
        return {name: loss / self.weights[name] for name, loss in self.sums.items() if self.weights[name]}

    @classmethod
    def of(cls, parts: Iterable[NamedLosses]) -> NamedLosses:
        """Those of several ranks together."""
        whole = cls()
        for part in parts:
            for name, loss in part.sums.items():
                whole.sums[name] = whole.sums.get(name, 0.0) + loss
                whole.weights[name] = whole.weights.get(name, 0.0) + part.weights[name]
        return whole
