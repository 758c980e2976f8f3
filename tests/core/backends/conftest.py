"""Small graphs, sealed, that every backend is asked to run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.bundle.open import Bundle
from quatrain.core.bundle.seal import seal

WEIGHTS = np.array([[0.5], [-1.0], [2.0]], dtype=np.float32)


def onnx_bytes(nodes: Sequence[NodeProto]) -> bytes:
    """Return a graph features (batch, 3) -> score (batch,)."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])],
        [numpy_helper.from_array(WEIGHTS, "weights"), numpy_helper.from_array(np.array([1]), "axis")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(model.SerializeToString())


def linear_nodes() -> list[NodeProto]:
    """Return the nodes of score = features @ WEIGHTS."""
    return [
        helper.make_node("MatMul", ["features", "weights"], ["column"]),
        helper.make_node("Squeeze", ["column", "axis"], ["score"]),
    ]


def golden_features() -> NDArray[np.float32]:
    """Return five rows."""
    return np.linspace(-2, 3, 15, dtype=np.float32).reshape(5, 3)


@pytest.fixture
def linear_onnx() -> bytes:
    """Return score = features @ WEIGHTS as a graph."""
    return onnx_bytes(linear_nodes())


@pytest.fixture
def seal_linear(tmp_path: Path, linear_onnx: bytes) -> Callable[..., Bundle]:
    """Return a function that seals the linear graph; keywords replace what `seal` is given."""

    def make(path: Path = tmp_path / "linear", **changes: Any) -> Bundle:
        features = golden_features()
        arguments: dict[str, Any] = {
            "name": "tests/linear",
            "task": "regression",
            "onnx": linear_onnx,
            "inputs": [TensorSpec(name="features", dtype="float32", shape=("batch", 3), columns=("a", "b", "c"))],
            "outputs": [TensorSpec(name="score", dtype="float32", shape=("batch",))],
            "golden_inputs": {"features": features},
            "golden_outputs": {"score": (features @ WEIGHTS)[:, 0]},
            "card": "# A linear model\n",
        }
        return seal(path, **(arguments | changes))

    return make
