"""What a run asks of the processes that it is made of, answered for one process: next to nothing is to be done.

`sharded.Sharded` answers the same for several. The loop and the run know this class alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from vitrail.contracts.samples import Batch
from vitrail.data.encode import Encode
from vitrail.data.loader import Stream
from vitrail.training.config import StageConfig
from vitrail.training.objectives.objective import Objective, Terms

T = TypeVar("T")


class Parallel:
    """One process. rank: its number. ranks: how many there are."""

    rank: int = 0
    ranks: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes, asks, measures and speaks."""
        return self.rank == 0

    # What the processes tell each other.

    def exchanged(self, work: Callable[[], T]) -> list[T]:
        """Every rank does it; what came of it on each, in their order. Where one fails, all do."""
        return [work()]

    def alone(self, work: Callable[[], T]) -> T:
        """Rank 0 does it while the others wait; all get what came of it. Where it fails, all do."""
        return work()

    def agreed(self, work: Callable[[], T]) -> T:
        """Every rank does it for itself. Where one fails, all do."""
        return work()

    @contextmanager
    def held(self, context: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
        """Rank 0 alone is in the context, for all."""
        with context():
            yield

    def everywhere(self, error: Exception) -> Exception:
        """What to raise for an error that every rank sees: one of them tells it."""
        return error

    # What a stage's packs and passes need.

    def check(self, stages: Sequence[StageConfig], objectives: Mapping[str, Objective]) -> None:
        """Raises RecipeError for stages that so many ranks cannot train. objectives: by the stage's name."""

    def share(self, accumulate: int) -> int:
        """This rank's packs, of those of a step."""
        return accumulate

    def dealt(self, stream: Stream) -> Stream:
        """This rank's packs of a stream."""
        return stream

    def level(self, batches: Sequence[Batch], encode: Encode) -> Sequence[Batch]:
        """The packs of one step, such that in each pass all ranks run the same encoders."""
        return batches

    def forward(self, work: Callable[[], Terms]) -> Terms:
        """An objective's passes over a model, within which all of its weights may be read as they are."""
        return work()

    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of this rank's part of a loss; over all ranks they are those of the sum of the parts."""
        if loss.requires_grad:
            loss.backward()

    # What becomes of the tensors.

    def shard(self, model: nn.Module) -> None:
        """From now on each rank keeps its part of the weights."""

    def local(self, tensor: Tensor) -> Tensor:
        """What this rank has of a weight or its gradient, for an optimizer that works value by value."""
        return tensor

    def part(self, parameter: nn.Parameter, whole: Tensor) -> Tensor:
        """Of a tensor as large as the whole parameter, the values that belong to this rank's part."""
        return whole

    def whole(self, parameter: Tensor, local: Tensor) -> Tensor:
        """The inverse, on rank 0; what the others get is not to be used."""
        return local

    def reduce(self, parameters: Sequence[nn.Parameter], masters: Sequence[Tensor]) -> None:
        """Brings the gradients of `masters` to their end, once all passes of a step are done.

        masters: of each parameter, what `local` gave, or a copy.
        """

    def clip(self, parameters: Sequence[nn.Parameter], masters: Sequence[Tensor], limit: float) -> float:
        """Scales the gradients of `masters` down to the norm `limit`, over all ranks; returns their norm before.

        masters: of each parameter, what `local` gave, or a copy.
        """
        return float(torch.nn.utils.clip_grad_norm_(masters, limit))
