"""Losses by source and by tag: sums over segments, whoever they are of."""

from __future__ import annotations

import pytest
import torch

from vitrail.contracts.samples import Batch, Segments, TextStream
from vitrail.training.named_losses import NamedLosses, parts_of
from vitrail.training.objectives.objective import Term


def batch_of(lengths: tuple[int, ...], weights: torch.Tensor) -> Batch:
    count = sum(lengths)
    ids = torch.zeros(count, dtype=torch.long)
    text = TextStream(ids, ids, weights, torch.arange(count), Segments(lengths))
    return Batch({"text": text}, ("a", "b"), ("one", "two"), float(weights.sum()), tags=("x", ""))


def test_losses_are_those_of_the_segments_and_padding_has_no_name() -> None:
    batch = batch_of((2, 3, 4), torch.tensor([1.0, 0, 1, 1, 0, 0, 0, 0, 0]))
    each = torch.tensor([0.5, 0, 2, 4, 0, 0, 0, 0, 0])
    parts = parts_of(batch, {"one": Term(each.sum(), 3.0, 1.0, each), "other": Term(torch.tensor(9.0), 1.0, 1.0)})
    assert parts == [(0.5, 1.0), (6.0, 2.0), (0.0, 0.0)]
    sources, tags = NamedLosses(), NamedLosses()
    sources.add(batch.sources, parts)
    tags.add(batch.tags, parts)
    assert sources.means() == {"one": 0.5, "two": 3.0}
    assert tags.means() == {"x": 0.5}


def test_those_of_several_ranks_are_one() -> None:
    first, second = NamedLosses({"a": 2.0}, {"a": 1.0}), NamedLosses({"a": 4.0, "b": 1.0}, {"a": 2.0, "b": 0.0})
    assert NamedLosses.of([first, second]).means() == {"a": pytest.approx(2.0)}
