"""Several processes, each with a part of every weight, gradient and moment: FSDP2, applied from outside.

Layers that a component names in `shardable()` are gathered one at a time, when they are called; what is left, from the
embeddings to the heads, is gathered for the length of an objective's passes. These run within the call of one module,
`Passes`, so that whatever they read of a model is there, whole: no component needs to know that it is sharded.
Each rank still builds the whole model before it keeps its part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from vitrail.contracts.errors import ElsewhereError, RecipeError, TrainingError
from vitrail.contracts.samples import Batch
from vitrail.data.encode import Encode
from vitrail.data.loader import Stream
from vitrail.training.config import StageConfig
from vitrail.training.objectives.objective import Objective, Terms
from vitrail.training.parallel.blank import with_blanks
from vitrail.training.parallel.environment import local_rank
from vitrail.training.parallel.single import Parallel

T = TypeVar("T")

PATIENCE = timedelta(days=30)
"""How long ranks wait for what rank 0 does alone. A process that dies is told by its closed connection, not by this."""


@contextmanager
def joined(device: str, rank: int, ranks: int) -> Iterator[dist.ProcessGroup]:
    """The processes find each other; theirs is the group in which they talk, beside that of the tensors.

    Raises TrainingError when they do not.
    """
    try:
        if device == "cuda":
            torch.cuda.set_device(local_rank())
        dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", rank=rank, world_size=ranks)
        control = dist.new_group(backend="gloo", timeout=PATIENCE)
    except (ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise TrainingError(f"rank {rank} of {ranks} finds no other: {first}; start them with torchrun") from error
    assert control is not None, "every rank is in the group"
    try:
        yield control
    finally:
        dist.destroy_process_group()


class Passes(nn.Module):
    """Calls whatever it is given. As the root of what is sharded it holds all weights that no layer holds."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[], Terms]) -> tuple[Mapping[str, Tensor], Terms]:
        """The sums beside their terms: FSDP2 looks for the tensors to begin the way back from."""
        terms = work()
        return {name: term.loss_sum for name, term in terms.items()}, terms


class Sharded(Parallel):
    """One of several processes. control: the group in which they talk."""

    def __init__(self, device: str, rank: int, ranks: int, control: dist.ProcessGroup) -> None:
        self.device, self.rank, self.ranks, self.control = device, rank, ranks, control
        self._mesh = init_device_mesh(device, (ranks,), mesh_dim_names=("ranks",))
        self._passes: Passes | None = None

    def exchanged(self, work: Callable[[], T]) -> list[T]:
        """As in `Parallel`. What is told must be small, and picklable."""
        result, error = _tried(work)
        told: list[tuple[T | None, str]] = [(None, "")] * self.ranks
        dist.all_gather_object(told, (result, _line(error)), group=self.control)
        return [cast(T, one) for one in self._unless_failed(told, error)]

    def alone(self, work: Callable[[], T]) -> T:
        """As in `Parallel`. What comes of it must be picklable."""
        result, error = _tried(work) if self.first else (None, None)
        told: list[tuple[T | None, str]] = [(result, _line(error))]
        dist.broadcast_object_list(told, src=0, group=self.control)
        return cast(T, self._unless_failed(told, error)[0])

    def agreed(self, work: Callable[[], T]) -> T:
        """As in `Parallel`."""
        result, error = _tried(work)
        told: list[tuple[None, str]] = [(None, "")] * self.ranks
        dist.all_gather_object(told, (None, _line(error)), group=self.control)
        self._unless_failed(told, error)
        return cast(T, result)

    def _unless_failed(self, told: Sequence[tuple[T | None, str]], error: Exception | None) -> list[T | None]:
        """Raises what failed first: on the rank it failed on as it is, elsewhere as an ElsewhereError."""
        failed = next((rank for rank, (_, line) in enumerate(told) if line), None)
        if failed is not None:
            raise error if error is not None and failed == self.rank else ElsewhereError(told[failed][1])
        return [result for result, _ in told]

    @contextmanager
    def held(self, context: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
        """As in `Parallel`."""
        with ExitStack() as stack:
            self.alone(lambda: stack.enter_context(context()))
            yield

    def everywhere(self, error: Exception) -> Exception:
        """As in `Parallel`."""
        return error if self.first else ElsewhereError(str(error))

    def check(self, stages: Sequence[StageConfig], objectives: Mapping[str, Objective]) -> None:
        """As in `Parallel`."""
        for stage in stages:
            objective, where = objectives[stage.name], f"stages.{stage.name}"
            if objective.compares_samples:
                raise self.everywhere(
                    RecipeError(f"{where}.objective compares the samples of one pack: train it in one process")
                )
            if objective.remembers_start:
                raise self.everywhere(
                    RecipeError(f"{where}.objective remembers the model of the stage's start: train it in one process")
                )
            if stage.accumulate % self.ranks:
                raise self.everywhere(
                    RecipeError(
                        f"{where}.accumulate is {stage.accumulate}; it is the packs of a step over all {self.ranks} "
                        f"processes, allowed: multiples of {self.ranks}"
                    )
                )

    def share(self, accumulate: int) -> int:
        """As in `Parallel`."""
        assert accumulate % self.ranks == 0, "`check` refuses what cannot be dealt"
        return accumulate // self.ranks

    def dealt(self, stream: Stream) -> Stream:
        """As in `Parallel`."""
        return replace(stream, rank=self.rank, ranks=self.ranks)

    def level(self, batches: Sequence[Batch], encode: Encode) -> Sequence[Batch]:
        """As in `Parallel`."""
        held = self.exchanged(lambda: [tuple(batch.media) for batch in batches])
        wanted = [{name for names in of_pass for name in names} for of_pass in zip(*held, strict=True)]
        return self.agreed(lambda: [with_blanks(*pair, encode) for pair in zip(batches, wanted, strict=True)])

    def forward(self, work: Callable[[], Terms]) -> Terms:
        """As in `Parallel`."""
        assert self._passes is not None, "the model is sharded before it runs"
        terms: Terms = self._passes(work)[1]
        return terms

    def backward(self, loss: Tensor) -> None:
        """As in `Parallel`. FSDP2 takes the mean over ranks, so the sum is that of `ranks` times the loss."""
        assert isinstance(self._passes, FSDPModule), "the model is sharded before it runs"
        if loss.requires_grad:
            (loss * self.ranks).backward()
        else:
            # The way back would have let go of the weights that the passes have gathered.
            self._passes.reshard()

    def shard(self, model: nn.Module) -> None:
        """As in `Parallel`. Parameters without a dimension cannot be parted: every rank keeps them, and reduces them.

        The model must be the same on every rank, and whole on its device.
        """
        if self._passes is not None and self._passes.model is model:
            return
        self._passes = Passes(model)
        policy = MixedPrecisionPolicy(reduce_dtype=torch.float32)
        for component in model.modules():
            for piece in getattr(component, "shardable", list)():
                kept = {parameter for parameter in piece.parameters() if not parameter.ndim}
                fully_shard(piece, mesh=self._mesh, mp_policy=policy, ignored_params=kept)
        kept = {parameter for parameter in model.parameters() if not parameter.ndim}
        fully_shard(self._passes, mesh=self._mesh, mp_policy=policy, ignored_params=kept)

    def local(self, tensor: Tensor) -> Tensor:
        """As in `Parallel`; without a gradient of its own."""
        if not isinstance(tensor, DTensor):
            return tensor
        with torch.no_grad():
            return tensor.to_local().detach()

    def part(self, parameter: nn.Parameter, whole: Tensor) -> Tensor:
        """As in `Parallel`."""
        if not isinstance(parameter, DTensor):
            return whole
        whole = whole.to(parameter.device)
        return distribute_tensor(whole, self._mesh, parameter.placements, src_data_rank=None).to_local()

    def whole(self, parameter: Tensor, local: Tensor) -> Tensor:
        """As in `Parallel`; on the CPU."""
        if not isinstance(parameter, DTensor):
            return local
        shape, stride = parameter.shape, parameter.stride()
        sharded = DTensor.from_local(
            self.local(local), self._mesh, parameter.placements, run_check=False, shape=shape, stride=stride
        )
        every = sharded.full_tensor()
        return every.cpu() if self.first else local

    def reduce(self, parameters: Sequence[nn.Parameter], masters: Sequence[Tensor]) -> None:
        """As in `Parallel`: what FSDP2 does not do for parameters that every rank keeps."""
        pairs = zip(parameters, masters, strict=True)
        kept = [master for parameter, master in pairs if not isinstance(parameter, DTensor)]
        if not kept:
            return
        values = [torch.zeros_like(one) if one.grad is None else one.grad for one in kept]
        known = [float(one.grad is not None) for one in kept]
        both = torch.stack([torch.stack(values), torch.tensor(known, device=self.device)])
        dist.all_reduce(both)
        for master, value, ranks in zip(kept, both[0], both[1], strict=True):
            master.grad = value / self.ranks if ranks else None

    def clip(self, parameters: Sequence[nn.Parameter], masters: Sequence[Tensor], limit: float) -> float:
        """As in `Parallel`."""
        squares = torch.zeros((), dtype=torch.float64, device=self.device)
        gradients = []
        for parameter, master in zip(parameters, masters, strict=True):
            if master.grad is None:
                continue
            gradients.append(master.grad)
            # Of what every rank keeps, one counts it.
            if isinstance(parameter, DTensor) or self.first:
                squares += torch.linalg.vector_norm(master.grad).double().square()
        dist.all_reduce(squares)
        norm = float(squares.sqrt())
        if gradients and limit / (norm + 1e-6) < 1:
            torch._foreach_mul_(gradients, limit / (norm + 1e-6))
        return norm


def _tried(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """What came of it, or how it failed: the others must hear of it before anybody goes on."""
    try:
        return work(), None
    except Exception as error:
        return None, error


def _line(error: Exception | None) -> str:
    return "" if error is None else str(error) or type(error).__name__
