"""What each kind of ONNX operation is in torch: those of convolutional readers, in the versions up to opset 12.

Source: the operators' definitions, onnx.ai/onnx/operators; `tests/models/test_onnx.py` compares with onnxruntime.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vitrail.models.onnx.reading import GELU

Attributes = Mapping[str, Any]


def _padded(given: Attributes, x: Tensor, beyond: float = 0.0) -> tuple[Tensor, tuple[int, ...]]:
    """The picture, widened where its two sides differ, and the padding that is left for the operation itself."""
    before, after = _pads(given, x.shape[2:])
    if before == after:
        return x, before
    # torch names the last axis first.
    sides = [side for axis in reversed(range(len(before))) for side in (before[axis], after[axis])]
    return functional.pad(x, sides, value=beyond), (0,) * len(before)


def _pads(given: Attributes, sizes: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding before and after, axis by axis."""
    kernel = given["kernel_shape"]
    how = given.get("auto_pad", "NOTSET")
    if how in ("SAME_UPPER", "SAME_LOWER"):
        strides = given.get("strides", [1] * len(kernel))
        wanted = zip(sizes, kernel, strides, strict=True)
        totals = [max((math.ceil(size / step) - 1) * step + width - size, 0) for size, width, step in wanted]
        small, large = tuple(total // 2 for total in totals), tuple(total - total // 2 for total in totals)
        return (small, large) if how == "SAME_UPPER" else (large, small)
    pads = tuple(given.get("pads", [0] * 2 * len(kernel)))
    return pads[: len(kernel)], pads[len(kernel) :]


def _convolution(given: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    x, padding = _padded(given, x)
    strides, dilations = given.get("strides", [1, 1]), given.get("dilations", [1, 1])
    return functional.conv2d(x, weight, bias, strides, padding, dilations, given.get("group", 1))


def _transposed(given: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    before, after = _pads(given, x.shape[2:])
    assert before == after, "a transposed convolution is cut alike on both sides"
    strides, group = given.get("strides", [1, 1]), given.get("group", 1)
    return functional.conv_transpose2d(x, weight, bias, strides, before, 0, group, given.get("dilations", [1, 1]))


def _max_pool(given: Attributes, x: Tensor) -> Tensor:
    x, padding = _padded(given, x, -math.inf)
    strides = given.get("strides", [1, 1])
    return functional.max_pool2d(x, given["kernel_shape"], strides, padding, ceil_mode=bool(given.get("ceil_mode", 0)))


def _average_pool(given: Attributes, x: Tensor) -> Tensor:
    before, after = _pads(given, x.shape[2:])
    assert before == after, "average pooling is padded alike on both sides"
    counted = bool(given.get("count_include_pad", 0))
    strides, whole = given.get("strides", [1, 1]), bool(given.get("ceil_mode", 0))
    return functional.avg_pool2d(x, given["kernel_shape"], strides, before, whole, counted)


def _batch_norm(given: Attributes, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return functional.batch_norm(x, mean, variance, weight, bias, eps=given.get("epsilon", 1e-5))


def _mean(given: Attributes, x: Tensor) -> Tensor:
    return x.mean(given["axes"], keepdim=bool(given.get("keepdims", 1)))


def _slice(given: Attributes, x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor, *steps: Tensor) -> Tensor:
    cuts = [slice(None)] * x.ndim
    wanted = [one.tolist() for one in (starts, ends, axes, *steps)]
    for axis, (start, end, _, *step) in zip(wanted[2], zip(*wanted, strict=True), strict=True):
        cuts[axis] = slice(start, end, *step)
    return x[tuple(cuts)]


def _reshape(given: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(shape.tolist())])


def _unsqueeze(given: Attributes, x: Tensor) -> Tensor:
    for axis in sorted(given["axes"]):
        x = x.unsqueeze(axis)
    return x


def _resize(given: Attributes, x: Tensor, region: Tensor, scales: Tensor) -> Tensor:
    nearest = (given["mode"], given["coordinate_transformation_mode"], given["nearest_mode"])
    assert nearest == ("nearest", "asymmetric", "floor"), f"resizing by {nearest}"
    return functional.interpolate(x, scale_factor=scales.tolist()[2:], mode="nearest")


def _hard_sigmoid(given: Attributes, x: Tensor) -> Tensor:
    slope, middle = float(given.get("alpha", 0.2)), float(given.get("beta", 0.5))
    return (x * slope + middle).clamp(0, 1)


OPERATIONS: Mapping[str, Callable[..., Tensor]] = {
    "Add": lambda given, x, y: x + y,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Concat": lambda given, *parts: torch.cat(parts, given["axis"]),
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "Div": lambda given, x, y: x / y,
    "Erf": lambda given, x: torch.erf(x),
    GELU: lambda given, x: functional.gelu(x),
    "GlobalAveragePool": lambda given, x: x.mean((2, 3), keepdim=True),
    "HardSigmoid": _hard_sigmoid,
    "MatMul": lambda given, x, y: x @ y,
    "MaxPool": _max_pool,
    "Mul": lambda given, x, y: x * y,
    "Pow": lambda given, x, y: x**y,
    "ReduceMean": _mean,
    "Relu": lambda given, x: functional.relu(x),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": lambda given, x: torch.tensor(x.shape, device="cpu"),
    "Sigmoid": lambda given, x: x.sigmoid(),
    "Slice": _slice,
    "Softmax": lambda given, x: x.softmax(given["axis"]),
    "Sqrt": lambda given, x: x.sqrt(),
    "Squeeze": lambda given, x: x.squeeze(tuple(given["axes"])),
    "Sub": lambda given, x, y: x - y,
    "Transpose": lambda given, x: x.permute(given["perm"]),
    "Unsqueeze": _unsqueeze,
}
"""Kind to function, called with the attributes and the inputs. Shapes are int64 tensors on the processor."""
