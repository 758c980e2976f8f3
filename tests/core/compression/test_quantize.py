"""Int8 graphs against the ONNX reference evaluator, closed forms, and what their profile must show."""

from __future__ import annotations

import logging
import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, version_converter
from onnx.reference import ReferenceEvaluator
from tests.core.compression.conftest import Digits

from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.compression.artifact import Artifact
from quatrain.core.compression.kernels import cost_of
from quatrain.core.compression.measures import sqnr_db
from quatrain.core.compression.nan_guard import add_guard, swallowed
from quatrain.core.compression.quantize import MATMUL_ONLY, DynamicInt8, Int8
from quatrain.core.export import finished, model_of
from quatrain.core.inference import open_session

IMAGE = TensorSpec(name="image", dtype="float32", shape=("batch", 1, 8, 8))
PROBABILITY = TensorSpec(name="probability", dtype="float32", shape=("batch", 10))


@pytest.fixture
def artifact(cnn_onnx: bytes) -> Artifact:
    """Return the trained network as a plan's first artifact."""
    return Artifact(cnn_onnx, (IMAGE,), (PROBABILITY,))


@pytest.fixture(scope="module")
def int8(cnn_onnx: bytes, digits: Digits) -> Artifact:
    """Return the network in int8."""
    step = Int8(calibration=digits.calibration, method="minmax")
    return step.apply(Artifact(cnn_onnx, (IMAGE,), (PROBABILITY,)))


def _product(weights: np.ndarray, *, n_in: int) -> bytes:
    """Return the graph y = x @ weights."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", n_in])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", weights.shape[1]])],
        [numpy_helper.from_array(weights.astype(np.float32), "w")],
    )
    return finished(model_of(graph))


def test_the_int8_graph_means_what_the_onnx_standard_says(int8: Artifact, digits: Digits) -> None:
    """The reference evaluator, pure NumPy, gives the answers of ONNX Runtime's integer kernels."""
    newer = version_converter.convert_version(onnx.load_from_string(int8.onnx), 21)
    rows = {"image": digits.x_test[:8]}
    expected = ReferenceEvaluator(newer).run(None, rows)[0]
    actual = open_session(int8.onnx, threads=1).run(None, rows)[0]
    np.testing.assert_allclose(actual, expected, atol=0.02)
    np.testing.assert_array_equal(actual.argmax(1), expected.argmax(1))


def test_rounding_the_input_of_an_exact_product_costs_what_theory_says() -> None:
    """With weights that int8 holds exactly, only x is rounded: 10 log10(12 x 255^2 / 3) dB for uniform x in [0, 1]."""
    x = np.random.default_rng(0).uniform(0, 1, (4000, 4)).astype(np.float32)
    x[0] = [0, 1, 0, 1]
    spec = TensorSpec(name="x", dtype="float32", shape=("batch", 4))
    exact = Artifact(_product(np.eye(4), n_in=4), (spec,), ())
    quantised = Int8(calibration={"x": x}, method="minmax").apply(exact)
    answers = open_session(quantised.onnx, threads=1).run(None, {"x": x})[0]
    assert sqnr_db(x, answers) == pytest.approx(10 * math.log10(4 * 255**2), abs=0.1)


def test_every_product_of_a_static_graph_runs_in_integers(artifact: Artifact, int8: Artifact, digits: Digits) -> None:
    """Two convolutions and one product, with the multiply-accumulates that the float graph has."""
    rows = {"image": digits.x_test[:1]}
    cost = cost_of(int8.onnx, rows)
    convolutions = 64 * 16 * 9 + 16 * 32 * 16 * 9
    assert cost.macs == cost_of(artifact.onnx, rows).macs == convolutions + 32 * 16 * 10
    assert (cost.integer_kernels, cost.integer_share) == (3, 1.0)
    assert cost_of(artifact.onnx, rows).integer_share == 0.0


def test_products_only_leaves_convolutions_in_float(artifact: Artifact, digits: Digits) -> None:
    """What is asked is what runs, and the share of integers says how little that is here."""
    rows = {"image": digits.x_test[:1]}
    for step in (Int8(calibration=digits.calibration, method="minmax", operators=MATMUL_ONLY), DynamicInt8()):
        cost = cost_of(step.apply(artifact).onnx, rows)
        assert cost.integer_kernels == 1
        assert cost.integer_macs == 32 * 16 * 10


def test_products_only_gives_their_results_in_float(artifact: Artifact, digits: Digits) -> None:
    """One rounding before each product, none after it."""
    only = Int8(calibration=digits.calibration, method="minmax", operators=MATMUL_ONLY).apply(artifact)
    kinds = [node.op_type for node in onnx.load_from_string(only.onnx).graph.node]
    assert kinds.count("Gemm") == 1
    assert kinds.count("QuantizeLinear") == 1


def test_a_node_kept_in_float_runs_in_float(artifact: Artifact, digits: Digits) -> None:
    """Sensitive nodes are named."""
    first = next(node.name for node in onnx.load_from_string(artifact.onnx).graph.node if node.op_type == "Conv")
    step = Int8(calibration=digits.calibration, method="minmax", keep_float=(first,))
    assert cost_of(step.apply(artifact).onnx, {"image": digits.x_test[:1]}).integer_kernels == 2


def test_probabilities_are_not_rounded_to_256_steps(int8: Artifact, digits: Digits) -> None:
    """Rounded scores would tie rows that the model tells apart."""
    answers = open_session(int8.onnx, threads=1).run(None, {"image": digits.x_test})[0]
    assert len(np.unique(answers)) > 1000


def test_the_chosen_calibration_is_the_one_with_the_least_noise(artifact: Artifact, digits: Digits) -> None:
    """The note names the method and all figures; the graph is the one that this method alone gives."""
    calibration = digits.calibration
    chosen = Int8(calibration=calibration).apply(artifact)
    (note,) = chosen.notes
    method = note.split()[1]
    figures = dict(part.split()[-3:-1] for part in note.replace("calibration", "").split(","))
    assert float(figures[method]) == max(map(float, figures.values()))
    assert chosen.onnx == Int8(calibration=calibration, method=method).apply(artifact).onnx


def test_quantizing_prints_nothing_and_leaves_the_root_logger_alone(
    artifact: Artifact, digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime's calibrators print, and its quantizer logs to the root logger; stdout belongs to --json."""
    root = logging.getLogger()
    before = (list(root.handlers), list(root.filters))
    Int8(calibration=digits.calibration, method="entropy").apply(artifact)
    assert (list(root.handlers), list(root.filters)) == before
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_the_same_settings_give_the_same_bytes(artifact: Artifact, digits: Digits) -> None:
    """A rerun elsewhere is recognised by its digest."""
    step = Int8(calibration=digits.calibration, method="minmax")
    assert step.apply(artifact).onnx == step.apply(artifact).onnx


def _guarded(onnx_bytes: bytes, *, whole_batch: bool) -> bytes:
    model = onnx.load_from_string(onnx_bytes)
    add_guard(model, whole_batch=whole_batch)
    return finished(model)


def test_the_guard_spoils_the_row_and_no_other() -> None:
    """Each row with NaN or infinity is NaN; the others keep their bits."""
    graph = _product(np.arange(6).reshape(3, 2) / 7, n_in=3)
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    clean = open_session(graph, threads=1).run(None, {"x": x})[0]
    x[1, 2], x[3, 0] = np.nan, -np.inf
    answers = open_session(_guarded(graph, whole_batch=False), threads=1).run(None, {"x": x})[0]
    assert np.isnan(answers[[1, 3]]).all()
    np.testing.assert_array_equal(answers[[0, 2, 4]], clean[[0, 2, 4]])


def test_the_guard_of_a_batch_spoils_all_of_it() -> None:
    """Where rows share a scale, a neighbour's NaN has touched every row."""
    graph = _guarded(_product(np.eye(3), n_in=3), whole_batch=True)
    x = np.ones((4, 3), np.float32)
    session = open_session(graph, threads=1)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], x)
    x[2, 0] = np.nan
    assert np.isnan(session.run(None, {"x": x})[0]).all()


def test_only_what_the_model_before_refuses_counts_as_swallowed() -> None:
    """A model that answers NaN by design, as trees do, may go on doing so."""
    spec = TensorSpec(name="x", dtype="float32", shape=("batch", 2))
    rows = {"x": np.ones((1, 2), np.float32)}

    def strict(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"y": inputs["x"].sum(axis=1)}

    def lenient(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"y": np.nan_to_num(inputs["x"], posinf=9, neginf=-9).sum(axis=1)}

    assert swallowed(strict, strict, [spec], rows) is None
    assert swallowed(lenient, lenient, [spec], rows) is None
    lost = swallowed(strict, lenient, [spec], rows)
    assert lost == "nan in x (value 0 of a row) gives y = 1, where the model before gives nan"
    whole_numbers = TensorSpec(name="x", dtype="uint8", shape=("batch", 2))
    assert swallowed(strict, lenient, [whole_numbers], rows) is None
