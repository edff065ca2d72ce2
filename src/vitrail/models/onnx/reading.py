"""An ONNX file to a plain graph: operations in the order in which they run, and their constants.

What exporters leave behind is cleared away: operations that change nothing, biases that are added after a convolution,
and GELU spelled out. Reading PP-OCRv6's recogniser (21 MB) takes 0.1 s. The file is parsed by the `onnx` package.
"""

from __future__ import annotations

import importlib.util
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.contracts.errors import MissingExtraError, WeightsError

GELU = "Gelu"
"""Our name for the five operations that GELU is spelled with; later ONNX versions have an operation of that name."""
CONVOLUTIONS = ("Conv", "ConvTranspose")


@dataclass(frozen=True)
class Operation:
    """One node. inputs: names of tensors, "" for one that is left out. output: the only one that it makes."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """A graph with one input. constants: weights and shapes by name. metadata: what the exporter wrote beside it."""

    operations: tuple[Operation, ...]
    constants: Mapping[str, NDArray[Any]]
    input: str
    outputs: tuple[str, ...]
    metadata: Mapping[str, str]

    def maker(self, name: str) -> Operation:
        """The operation that makes a tensor. Raises WeightsError when there is none."""
        for operation in self.operations:
            if operation.output == name:
                return operation
        raise WeightsError(f"the ONNX graph makes no tensor '{name}'")


def read(path: Path) -> Graph:
    """The graph of a file. Raises MissingExtraError without `onnx`, WeightsError for what is no such file."""
    if importlib.util.find_spec("onnx") is None:
        raise MissingExtraError("reading an ONNX file needs the onnx package: pip install 'vitrail[onnx]'")
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    try:
        model = onnx.load(str(path))
    except (OSError, DecodeError) as error:
        raise WeightsError(f"{path}: no ONNX file can be read: {error}") from error
    constants = {one.name: np.array(numpy_helper.to_array(one)) for one in model.graph.initializer}
    inputs = [one.name for one in model.graph.input if one.name not in constants]
    if len(inputs) != 1:
        raise WeightsError(f"{path}: the graph has {len(inputs)} inputs, expected one")
    operations = []
    for node in model.graph.node:
        if len(node.output) != 1:
            raise WeightsError(f"{path}: {node.op_type} has {len(node.output)} outputs, expected one")
        attributes = {one.name: _plain(onnx.helper.get_attribute_value(one)) for one in node.attribute}
        operations.append(Operation(node.op_type, tuple(node.input), node.output[0], attributes))
    metadata = {one.key: one.value for one in model.metadata_props}
    graph = Graph(tuple(operations), constants, inputs[0], tuple(one.name for one in model.graph.output), metadata)
    return _with_gelu(_with_biases(_without_identities(graph)))


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _without_identities(graph: Graph) -> Graph:
    same: dict[str, str] = {}
    kept = []
    for operation in graph.operations:
        inputs = tuple(same.get(name, name) for name in operation.inputs)
        if operation.kind == "Identity":
            same[operation.output] = inputs[0]
        else:
            kept.append(replace(operation, inputs=inputs))
    return replace(graph, operations=tuple(kept), outputs=tuple(same.get(name, name) for name in graph.outputs))


def _readers(graph: Graph) -> dict[str, list[Operation]]:
    """Who reads each tensor; an output of the graph is read by one more."""
    found: dict[str, list[Operation]] = defaultdict(list)
    for operation in graph.operations:
        for name in operation.inputs:
            found[name].append(operation)
    for name in graph.outputs:
        found[name].append(Operation("output", (name,), ""))
    return found


def _with_biases(graph: Graph) -> Graph:
    """A convolution and the constant for each channel that is added after it become one operation."""
    constants, readers = dict(graph.constants), _readers(graph)
    merged: dict[str, Operation] = {}
    done: set[str] = set()
    for operation in graph.operations:
        after = readers[operation.output]
        if operation.kind not in CONVOLUTIONS or len(operation.inputs) != 2 or [one.kind for one in after] != ["Add"]:
            continue
        (add,) = after
        bias = next(name for name in (*add.inputs, "") if name != operation.output)
        value = constants.get(bias)
        if value is None or value.ndim != 4 or value.size != value.shape[1]:
            continue
        constants[bias] = value.reshape(-1)
        merged[operation.output] = replace(operation, inputs=(*operation.inputs, bias), output=add.output)
        done.add(add.output)
    kept = (merged.get(one.output, one) for one in graph.operations if one.output not in done)
    return replace(graph, operations=tuple(kept), constants=constants)


def _with_gelu(graph: Graph) -> Graph:
    """x * (1 + erf(x / sqrt 2)) / 2 becomes one operation, whichever of its products comes first."""
    readers = _readers(graph)
    made = {one.output: one for one in graph.operations}
    gelu: dict[str, Operation] = {}
    done: set[str] = set()
    for erf in (one for one in graph.operations if one.kind == "Erf"):
        scaled = made[erf.inputs[0]]
        chain = [erf]
        while len(chain) < 4 and len(readers[chain[-1].output]) == 1:
            chain.append(readers[chain[-1].output][0])
        if [one.kind for one in chain] != ["Erf", "Add", "Mul", "Mul"] or scaled.kind != "Div":
            continue
        source = scaled.inputs[0]
        inner = {scaled.output, *(one.output for one in chain[:3])}
        numbers = [float(graph.constants[name]) for name in _numbers(graph, (scaled, *chain[1:]))]
        others = [name for one in chain[2:] for name in one.inputs if name not in inner]
        if source not in others or not np.allclose(sorted(numbers), [0.5, 1.0, math.sqrt(2)]):
            continue
        done |= inner
        gelu[chain[3].output] = Operation(GELU, (source,), chain[3].output)
    kept = (gelu.get(one.output, one) for one in graph.operations if one.output not in done)
    return replace(graph, operations=tuple(kept))


def _numbers(graph: Graph, operations: tuple[Operation, ...]) -> list[str]:
    """Names of the single numbers among their inputs."""
    names = (name for one in operations for name in one.inputs)
    return [name for name in names if name in graph.constants and graph.constants[name].size == 1]
