"""ONNX graphs in torch: the same numbers as onnxruntime, and weights that learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from vitrail.contracts.errors import WeightsError
from vitrail.models.onnx.network import OnnxNetwork
from vitrail.models.onnx.reading import GELU, read
from vitrail.models.reading.reader import DETECTOR, RECOGNISER, line_recogniser, model_file

Array = NDArray[np.float32]
SOURCE = "wheel:rapidocr"


def official(path: Path, x: Array) -> Array:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {session.get_inputs()[0].name: x})
    found: Array = np.asarray(out)
    return found


def written(folder: Path, nodes: list[onnx.NodeProto], constants: dict[str, NDArray[np.generic]]) -> Path:
    """A file with one picture `x` in and `y` out."""
    picture = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "c", "h", "w"])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "graph", [picture], [out], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=10)
    path = folder / "model.onnx"
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize(("pattern", "shape"), [(DETECTOR, (1, 3, 96, 160)), (RECOGNISER, (2, 3, 48, 168))])
def test_the_wheels_networks_give_onnxruntimes_numbers(pattern: str, shape: tuple[int, ...]) -> None:
    path = model_file(SOURCE, pattern)
    x = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    network = OnnxNetwork(read(path))
    with torch.inference_mode():
        (ours,) = network(torch.from_numpy(x))
    np.testing.assert_allclose(ours.numpy(), official(path, x), atol=1e-4)
    assert {one.kind for one in network.operations} >= {"Conv", GELU}
    assert not {"Identity", "Erf"} & {one.kind for one in network.operations}


def test_the_recognisers_features_are_what_its_head_reads_and_learn() -> None:
    path = model_file(SOURCE, RECOGNISER)
    network = line_recogniser(read(path)).network
    x = np.random.default_rng(1).uniform(-1, 1, (1, 3, 48, 64)).astype(np.float32)
    features, scores = network(torch.from_numpy(x))
    assert features.shape == (1, 8, 120)
    np.testing.assert_allclose(scores.softmax(-1).detach().numpy(), official(path, x), atol=1e-4)
    features.square().sum().backward()
    names = {name for name, one in network.named_parameters() if one.grad is not None and bool(one.grad.any())}
    unread = {"linear_8_w_0", "linear_8_b_0"}
    assert names == {name for name, _ in network.named_parameters()} - unread


@pytest.mark.parametrize("size", [(7, 9), (8, 6)])
@pytest.mark.parametrize("kind", ["Conv", "MaxPool"])
@pytest.mark.parametrize("how", ["SAME_UPPER", "SAME_LOWER", "pads"])
def test_padding_that_differs_by_side(tmp_path: Path, kind: str, how: str, size: tuple[int, int]) -> None:
    given: dict[str, object] = {"kernel_shape": [2, 3], "strides": [2, 1]}
    given |= {"pads": [0, 1, 1, 2]} if how == "pads" else {"auto_pad": how}
    rng = np.random.default_rng(2)
    weights = {"w": rng.normal(size=(4, 3, 2, 3)).astype(np.float32)} if kind == "Conv" else {}
    path = written(tmp_path, [helper.make_node(kind, ["x", *weights], ["y"], **given)], dict(weights))
    x = rng.normal(size=(2, 3, *size)).astype(np.float32)
    (ours,) = OnnxNetwork(read(path))(torch.from_numpy(x))
    np.testing.assert_allclose(ours.detach().numpy(), official(path, x), atol=1e-5)


def test_what_looks_like_gelu_and_is_not_is_left_as_it_is(tmp_path: Path) -> None:
    """Half of it is missing: x * (1 + erf(x / 2))."""
    two, one, whole = (np.array(number, np.float32) for number in (2.0, 1.0, 1.5))
    nodes = [
        helper.make_node("Div", ["x", "two"], ["a"]),
        helper.make_node("Erf", ["a"], ["b"]),
        helper.make_node("Add", ["b", "one"], ["c"]),
        helper.make_node("Mul", ["x", "c"], ["d"]),
        helper.make_node("Mul", ["d", "whole"], ["y"]),
    ]
    path = written(tmp_path, nodes, {"two": two, "one": one, "whole": whole})
    graph = read(path)
    assert [operation.kind for operation in graph.operations] == ["Div", "Erf", "Add", "Mul", "Mul"]
    x = np.random.default_rng(3).normal(size=(1, 1, 3, 4)).astype(np.float32)
    (ours,) = OnnxNetwork(graph)(torch.from_numpy(x))
    np.testing.assert_allclose(ours.numpy(), official(path, x), atol=1e-6)


def test_an_operation_that_is_not_known_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, [helper.make_node("Tan", ["x"], ["y"])], {})
    with pytest.raises(WeightsError, match="not known here: Tan"):
        OnnxNetwork(read(path))


def test_what_is_no_onnx_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no protobuf at all")
    with pytest.raises(WeightsError, match="no ONNX file") as caught:
        read(tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)
