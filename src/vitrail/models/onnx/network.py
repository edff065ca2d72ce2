"""A graph read from an ONNX file, as an `nn.Module`: its weights are parameters, on any device, and learn.

It runs operation by operation, as torch's eager mode does anyway, and computes no more than the outputs asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vitrail.contracts.errors import WeightsError
from vitrail.models.onnx.operations import OPERATIONS
from vitrail.models.onnx.reading import Graph, Operation

STATISTICS = slice(3, 5)
"""Inputs of a batch norm that are counted and not learnt."""


class OnnxNetwork(nn.Module):
    """One input to the tensors named. Weights are float32 as in the file; single numbers in it are not learnt."""

    def __init__(self, graph: Graph, outputs: Sequence[str] = ()) -> None:
        """outputs: names of tensors within the graph; its own outputs where none are given.

        Raises WeightsError for operations that are not known here.
        """
        super().__init__()
        self.outputs = tuple(outputs) or graph.outputs
        self.source = graph.input
        self.operations = needed(graph, self.outputs)
        unknown = sorted({one.kind for one in self.operations} - OPERATIONS.keys())
        if unknown:
            raise WeightsError(f"the ONNX graph has operations that are not known here: {', '.join(unknown)}")
        self._last = {name: number for number, one in enumerate(self.operations) for name in one.inputs}
        self._shapes: dict[str, Tensor] = {}
        counted = {
            name for one in self.operations if one.kind == "BatchNormalization" for name in one.inputs[STATISTICS]
        }
        for name in sorted(self._last.keys() & graph.constants.keys()):
            value = torch.from_numpy(graph.constants[name])
            if not value.is_floating_point() or not value.numel():
                self._shapes[name] = value
            elif value.numel() == 1 or name in counted:
                self.register_buffer(_flat(name), value)
            else:
                # Convolutions go over pixels whose channels lie together, about twice as fast on a processor.
                kept = value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
                self.register_parameter(_flat(name), nn.Parameter(kept))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The outputs, in the order in which they were named."""
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        values: dict[str, Tensor] = {self.source: x}
        for number, operation in enumerate(self.operations):
            given = [self._value(name, values) for name in operation.inputs if name]
            values[operation.output] = OPERATIONS[operation.kind](operation.attributes, *given)
            for name in set(operation.inputs) - set(self.outputs):
                if self._last[name] == number:
                    values.pop(name, None)
        return tuple(values[name] for name in self.outputs)

    def _value(self, name: str, values: dict[str, Tensor]) -> Tensor:
        if name in values:
            return values[name]
        if name in self._shapes:
            return self._shapes[name]
        found = getattr(self, _flat(name))
        assert isinstance(found, Tensor), f"'{name}' is a constant of the graph"
        return found


def needed(graph: Graph, outputs: Sequence[str]) -> tuple[Operation, ...]:
    """The operations that lead to these tensors. Raises WeightsError for a tensor that is not in the graph."""
    wanted, kept = {graph.maker(name).output for name in outputs}, []
    for operation in reversed(graph.operations):
        if operation.output in wanted:
            kept.append(operation)
            wanted |= set(operation.inputs)
    return tuple(reversed(kept))


def _flat(name: str) -> str:
    """A tensor's name as torch may have it."""
    return name.replace(".", "_")
