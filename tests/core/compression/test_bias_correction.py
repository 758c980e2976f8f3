"""Bias correction against the float network's own means."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.core.compression.conftest import Digits

from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.compression import preparing
from quatrain.core.compression.artifact import Artifact
from quatrain.core.compression.bias_correction import correct_biases
from quatrain.core.compression.measures import sqnr_db
from quatrain.core.compression.quantize import Int8
from quatrain.core.export import finished, model_of
from quatrain.core.inference import open_session

N_CHANNELS = 24
X = TensorSpec(name="x", dtype="float32", shape=("batch", N_CHANNELS, 6, 6))


@pytest.fixture(scope="module")
def depthwise() -> bytes:
    """Return four convolutions, two of them depthwise, with ReLU6 between: what int8 shifts most."""
    rng = np.random.default_rng(5)
    nodes, constants, before = [], [], "x"
    for place, groups in enumerate((N_CHANNELS, 1, N_CHANNELS, 1)):
        kernel = 3 if groups > 1 else 1
        weights = rng.normal(
            0, 1.5 / (N_CHANNELS // groups * kernel**2) ** 0.5, (N_CHANNELS, N_CHANNELS // groups, kernel, kernel)
        ).astype(np.float32)
        constants += [
            numpy_helper.from_array(weights, f"w{place}"),
            numpy_helper.from_array(rng.normal(0, 0.3, N_CHANNELS).astype(np.float32), f"b{place}"),
        ]
        pads = [kernel // 2] * 4
        inputs = [before, f"w{place}", f"b{place}"]
        nodes.append(helper.make_node("Conv", inputs, [f"c{place}"], name=f"conv{place}", group=groups, pads=pads))
        before = f"r{place}"
        nodes.append(helper.make_node("Clip", [f"c{place}", "low", "high"], [before]))
    nodes.append(helper.make_node("GlobalAveragePool", [before], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["y"]))
    constants += [numpy_helper.from_array(np.float32(value), name) for value, name in ((0, "low"), (6, "high"))]
    graph = helper.make_graph(
        nodes,
        "depthwise",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", N_CHANNELS, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", N_CHANNELS])],
        constants,
    )
    return finished(model_of(graph))


@pytest.fixture(scope="module")
def rows() -> dict[str, np.ndarray]:
    """Return rows whose channels differ in scale."""
    rng = np.random.default_rng(6)
    return {"x": (rng.gamma(2, 1, (96, N_CHANNELS, 6, 6)) * rng.uniform(0.2, 2, (N_CHANNELS, 1, 1))).astype(np.float32)}


def _means(model: onnx.ModelProto, name: str, rows: dict[str, np.ndarray]) -> np.ndarray:
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return open_session(shown.SerializeToString(), threads=1).run([name], rows)[0].mean((0, 2, 3))


def test_a_product_keeps_its_mean_within_a_step_of_its_bias(depthwise: bytes, rows: dict[str, np.ndarray]) -> None:
    """In int8 the last convolution's means drift; corrected, none is off by more than rounding the bias allows."""
    prepared = preparing.prepared(depthwise)
    step = Int8(calibration=rows, method="minmax", correct_bias=False)
    model = step._quantised(prepared, rows, "minmax")
    last = next(node for node in reversed(model.graph.node) if node.op_type == "Conv")
    floats = next(node for node in prepared.graph.node if node.name == last.name)
    wanted = _means(prepared, floats.output[0], rows)
    drift = np.abs(_means(model, last.output[0], rows) - wanted)

    assert correct_biases(model, prepared, rows) == 4

    dequantised = next(node for node in model.graph.node if node.output[0] == last.input[2])
    scales = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    left = np.abs(_means(model, last.output[0], rows) - wanted)
    assert np.all(left <= 0.51 * scales[dequantised.input[1]] + 1e-5)
    assert drift.mean() > 5 * left.mean()


def test_rows_that_were_not_seen_lose_less(depthwise: bytes, rows: dict[str, np.ndarray]) -> None:
    """The correction is of the network, not of the rows that it was measured on."""
    artifact = Artifact(depthwise, (X,), (TensorSpec(name="y", dtype="float32", shape=("batch", N_CHANNELS)),))
    seen, unseen = {"x": rows["x"][:48]}, {"x": rows["x"][48:]}
    expected = open_session(depthwise, threads=1).run(None, unseen)[0]
    noise = {}
    for is_corrected in (False, True):
        step = Int8(calibration=seen, method="minmax", correct_bias=is_corrected)
        noise[is_corrected] = sqnr_db(expected, open_session(step.apply(artifact).onnx, threads=1).run(None, unseen)[0])
    assert noise[True] > noise[False] + 1


@pytest.mark.parametrize("is_corrected", [False, True])
def test_the_last_activation_is_kept(depthwise: bytes, rows: dict[str, np.ndarray], is_corrected: bool) -> None:
    """A ReLU6 with no product after it is not lost with the rounding that had stood for it."""
    artifact = Artifact(depthwise, (X,), (TensorSpec(name="y", dtype="float32", shape=("batch", N_CHANNELS)),))
    step = Int8(calibration=rows, method="minmax", correct_bias=is_corrected)
    answers = open_session(step.apply(artifact).onnx, threads=1).run(None, rows)[0]
    expected = open_session(depthwise, threads=1).run(None, rows)[0]
    assert answers.min() >= 0
    assert answers.max() <= 6
    assert sqnr_db(expected, answers) > 20


def test_a_network_without_bias_in_integers_is_left_as_it_is(digits: Digits) -> None:
    """A bare product has no bias to correct."""
    weights = np.eye(4, dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weights, "w")],
    )
    calibration = {"x": digits.x_train[:64].reshape(64, -1)[:, 20:24]}
    prepared = preparing.prepared(finished(model_of(graph)))
    model = Int8(calibration=calibration, method="minmax")._quantised(prepared, calibration, "minmax")
    before = model.SerializeToString()
    assert correct_biases(model, prepared, calibration) == 0
    assert model.SerializeToString() == before
