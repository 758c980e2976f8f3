"""A tiny ONNX model and a way to seal it, for every test that needs a bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.bundle.open import Bundle
from quatrain.core.bundle.seal import seal


@pytest.fixture(scope="session")
def doubling_onnx() -> bytes:
    """Return an ONNX model that doubles a float32 input of shape (batch, 2)."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["features", "two"], ["doubled"])],
        "doubling",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("doubled", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor("two", TensorProto.FLOAT, [1], [2.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return model.SerializeToString()


@pytest.fixture
def seal_doubling(tmp_path: Path, doubling_onnx: bytes) -> Callable[..., Bundle]:
    """Return a function that seals the doubling model; keywords replace what `seal` is given."""

    def make(path: Path = tmp_path / "doubling", **changes: Any) -> Bundle:
        features = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], dtype=np.float32)
        spec = TensorSpec(name="features", dtype="float32", shape=("batch", 2), columns=("amount", "hour"))
        arguments: dict[str, Any] = {
            "name": "fintech/fraud",
            "task": "classification",
            "onnx": doubling_onnx,
            "inputs": [spec],
            "outputs": [TensorSpec(name="doubled", dtype="float32", shape=("batch", 2))],
            "golden_inputs": {"features": features},
            "golden_outputs": {"doubled": 2 * features},
            "card": "# Doubles its input\n",
            "weights": {"two": np.array([2.0], dtype=np.float32)},
        }
        return seal(path, **(arguments | changes))

    return make
