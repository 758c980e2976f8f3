"""ONNX graphs in torch: the standard's own examples come out right or are refused, never wrong."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tests.core.backends.conftest import linear_nodes, onnx_bytes
from torch import nn
from torch.nn import functional

from quatrain.core.backends.onnx_runtime import open_session
from quatrain.core.backends.protocol import BackendError
from quatrain.core.backends.torch_graph import torch_graph
from quatrain.core.backends.torch_operators import OPERATORS
from quatrain.core.export import torch_model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
# What the operators raise for what they do not cover; sessions turn it into a refusal.
REFUSALS = (BackendError, RuntimeError, ValueError, IndexError, TypeError)


def standard_examples() -> Iterator[tuple[str, onnx.ModelProto, list[NDArray[Any]], list[NDArray[Any]]]]:
    """Yield the examples of the ONNX standard whose operators are known here."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    for case in cases:
        inputs, outputs = case.data_sets[0]
        is_plain = all(isinstance(array, np.ndarray) for array in [*inputs, *outputs])
        if is_plain and {node.op_type for node in case.model.graph.node} <= set(OPERATORS):
            yield case.name, case.model, list(inputs), list(outputs)


def is_right(actual: torch.Tensor, expected: NDArray[Any]) -> bool:
    """Return whether shape, type and values are the standard's."""
    array = actual.numpy()
    if array.shape != expected.shape or array.dtype != expected.dtype:
        return False
    return np.allclose(array.astype(np.float64), expected.astype(np.float64), rtol=1e-3, atol=1e-4, equal_nan=True)


def test_the_standards_examples_come_out_right_or_are_refused() -> None:
    """Sizes and bounds are given as constants, as exported graphs have them."""
    verdicts: Counter[str] = Counter()
    for name, model, inputs, outputs in standard_examples():
        for value, array in list(zip(model.graph.input, inputs, strict=False))[1:]:
            model.graph.initializer.append(numpy_helper.from_array(array, value.name))
        try:
            with torch.inference_mode():
                answers = torch_graph(model.SerializeToString())(torch.from_numpy(inputs[0].copy()))
        except REFUSALS:
            verdicts["refused"] += 1
            continue
        assert all(map(is_right, answers, outputs)), name
        verdicts["right"] += 1
    assert verdicts["right"] > 450
    assert verdicts["refused"] < 200


class Attention(nn.Module):
    """Reshapes by the batch, slices, chunks and a position taken from the end."""

    def __init__(self) -> None:
        super().__init__()
        self.mixed = nn.Linear(8, 24)
        self.norm = nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (B,) and (B, 5) of rows (B, 5, 8)."""
        n, length, width = x.shape
        query, key, value = self.mixed(self.norm(x)).reshape(n, length, 3, 2, -1).permute(2, 0, 3, 1, 4).unbind()
        mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(n, length, width)
        left, right = mixed.chunk(2, dim=-1)
        return torch.sigmoid(left[:, -1].sum(1)), functional.gelu(right).mean(-1)


class Convolutions(nn.Module):
    """Layers of an image network, pixels scaled inside."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU6(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.Hardswish(),
            nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
            nn.ConvTranspose2d(8, 4, 2, stride=2),
            nn.AvgPool2d(2),
            nn.GroupNorm(2, 4),
        )

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (B, 4) and (B, 1, 20, 12) of images (B, H, W, 3)."""
        x = pixels.permute(0, 3, 1, 2).float() / 255
        wide = functional.interpolate(x, (20, 12), mode="bilinear", antialias=True)
        return torch.softmax(self.layers(wide).flatten(2).amax(2), 1), wide.mean(1, keepdim=True)


@pytest.mark.parametrize(
    ("module", "example"),
    [
        (Attention(), torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))),
        (Convolutions(), torch.randint(0, 256, (3, 28, 30, 3), generator=torch.Generator().manual_seed(0)).byte()),
    ],
    ids=["attention", "convolutions"],
)
def test_an_exported_network_gives_onnx_runtimes_numbers(module: nn.Module, example: torch.Tensor) -> None:
    """For one row and for several, and traced for any batch without a look at its size."""
    content = torch_model(module, {"x": example}, output_names=["first", "second"])
    graph = torch_graph(content)
    session = open_session(content, threads=1)
    for rows in (example[:1], example):
        with torch.inference_mode():
            actual = graph(rows)
        for given, wanted in zip(actual, session.run(None, {"x": rows.numpy()}), strict=True):
            np.testing.assert_allclose(given.numpy(), wanted, rtol=1e-5, atol=1e-6)


def one_node(kind: str, inputs: Sequence[str], **attributes: Any) -> bytes:
    """Return a graph of one node."""
    return onnx_bytes([helper.make_node(kind, inputs, ["score"], **attributes)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (one_node("Unheard", ["features"]), r"torch has no Unheard; use onnxruntime"),
        (one_node("TreeEnsembleRegressor", ["features"], domain="ai.onnx.ml"), r"no ai\.onnx\.ml\.TreeEnsembleReg"),
        (one_node("Reshape", ["features", "features"]), r"Reshape only with constant sizes.*features is computed"),
        (one_node("Relu", ["features"], slope=1.0), r"no Relu with 1 inputs, 1 outputs and slope"),
        (
            onnx_bytes([helper.make_node("Dropout", ["features"], ["score", "mask"])]),
            r"no Dropout with 1 inputs, 2 outputs",
        ),
        (
            onnx_bytes(
                [helper.make_node("Shape", ["features"], ["n"]), helper.make_node("Sqrt", ["n"], ["score"])],
            ),
            r"takes sizes only as sizes, but n is computed with",
        ),
    ],
    ids=["unknown", "trees", "computed", "attribute", "outputs", "size"],
)
def test_what_torch_cannot_run_is_refused_by_name(content: bytes, message: str) -> None:
    """The operator is named, and what to use instead."""
    with pytest.raises(BackendError, match=message):
        torch_graph(content)


def test_every_unknown_operator_is_counted() -> None:
    """One look says all that is missing."""
    nodes = [helper.make_node("B", ["features"], ["x"]), helper.make_node("A", ["x"], ["y"])]
    with pytest.raises(BackendError, match=r"no A, B \(2x\);"):
        torch_graph(onnx_bytes([*nodes, helper.make_node("B", ["y"], ["score"])]))


def test_an_old_operator_set_is_refused() -> None:
    """Softmax of set 11 flattens its input."""
    model = onnx.load_from_string(onnx_bytes(linear_nodes()))
    model.opset_import[0].version = 11
    with pytest.raises(BackendError, match="operator set 13 and newer, got 11"):
        torch_graph(model.SerializeToString())


def test_weights_are_buffers_once(linear_onnx: bytes) -> None:
    """A weight that two nodes read is held once, and moves with the module."""
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["column"]),
        helper.make_node("Add", ["column", "weights"], ["other"]),
        helper.make_node("Squeeze", ["column", "axis"], ["score"]),
    ]
    assert [tuple(buffer.shape) for buffer in torch_graph(onnx_bytes(nodes)).buffers()] == [(3, 1)]
    assert torch_graph(linear_onnx).double()(torch.zeros(2, 3).double())[0].dtype == torch.float64


def test_a_tensor_of_a_type_that_torch_lacks_is_refused() -> None:
    """As bfloat16 constants, which NumPy has not."""
    weights = helper.make_tensor("half", TensorProto.BFLOAT16, [1], [1.0])
    model = onnx.load_from_string(one_node("Mul", ["features", "half"]))
    model.graph.initializer.append(weights)
    with pytest.raises(BackendError, match="no constants of type bfloat16"):
        torch_graph(model.SerializeToString())
