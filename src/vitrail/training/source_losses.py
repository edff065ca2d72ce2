"""The loss of a step by source, so that a mixture has a curve for each of its parts. Costs one pass over the labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vitrail.contracts.samples import Batch
from vitrail.training.objectives.objective import Term


@dataclass
class SourceLosses:
    """Summed losses and loss weights of the labelled tokens, by source."""

    sums: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)

    def add(self, batch: Batch, terms: Mapping[str, Term]) -> None:
        """What a batch adds, from the terms that say what each position adds to them."""
        lengths = batch.learnt.segments.lengths
        each = [term.each for term in terms.values() if term.each is not None]
        if not each:
            return
        losses = [part.sum().item() for part in sum(each[1:], each[0]).cpu().split(lengths)]
        weights = [part.sum().item() for part in batch.learnt.weights.cpu().split(lengths)]
        # A last segment of padding belongs to no source.
        for source, loss, weight in zip(batch.sources, losses, weights, strict=False):
            self.sums[source] = self.sums.get(source, 0.0) + loss
            self.weights[source] = self.weights.get(source, 0.0) + weight

    def means(self) -> dict[str, float]:
        """Mean loss of a token of each source that the step had labels of."""
        return {name: loss / self.weights[name] for name, loss in self.sums.items() if self.weights[name]}

    @classmethod
    def of(cls, parts: Iterable[SourceLosses]) -> SourceLosses:
        """Those of several ranks together."""
        whole = cls()
        for part in parts:
            for name, loss in part.sums.items():
                whole.sums[name] = whole.sums.get(name, 0.0) + loss
                whole.weights[name] = whole.weights.get(name, 0.0) + part.weights[name]
        return whole
