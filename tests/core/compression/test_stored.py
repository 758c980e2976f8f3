"""Weights stored in fewer bits: sixteen, eight and four, against torch, closed forms and the ONNX reference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.compression.artifact import Artifact
from quatrain.core.compression.gate import RefusedError
from quatrain.core.compression.graph_edits import gemm_as_matmul
from quatrain.core.compression.half import HalfPrecision, bfloat16_bits
from quatrain.core.compression.kernels import cost_of
from quatrain.core.compression.measures import Predict, sqnr_db
from quatrain.core.compression.nan_guard import swallowed
from quatrain.core.compression.quantize import DynamicInt8
from quatrain.core.compression.weight_only import WeightOnly
from quatrain.core.export import finished, model_of
from quatrain.core.inference import open_session

X = TensorSpec(name="x", dtype="float32", shape=("batch", 64))


def product(weights: NDArray[np.float32], *, with_gemm: bool = False) -> Artifact:
    """Return the graph y = x @ weights, or as a Gemm y = x @ (weights')' + 1."""
    n_in, n_out = weights.shape
    constants = [numpy_helper.from_array(weights.T.copy() if with_gemm else weights, "w")]
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    if with_gemm:
        constants.append(numpy_helper.from_array(np.ones(n_out, np.float32), "b"))
        node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="product", transB=1)
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", n_in])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", n_out])],
        constants,
    )
    return Artifact(finished(model_of(graph)), (X,), ())


def answers(onnx_bytes: bytes, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return y of these rows."""
    result: NDArray[np.float32] = open_session(onnx_bytes, threads=1).run(None, {"x": x})[0]
    return result


@pytest.fixture(scope="module")
def x() -> NDArray[np.float32]:
    """Return 32 rows of 64 normal numbers."""
    return np.random.default_rng(0).normal(size=(32, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def weights() -> NDArray[np.float32]:
    """Return normal weights (64, 96)."""
    return np.random.default_rng(1).normal(size=(64, 96)).astype(np.float32)


def test_bfloat16_is_rounded_as_torch_rounds_it() -> None:
    """Ties go to even; infinities, NaN and the smallest numbers included."""
    rng = np.random.default_rng(0)
    any_bits = rng.integers(0, 2**32, 200_000, dtype=np.uint32)
    ties = (rng.integers(0, 2**15, 1000, dtype=np.uint32) << 16) | 0x8000
    wide = np.concatenate([any_bits, ties, [0, 1, 0x7F800000, 0xFF800000]]).astype(np.uint32).view(np.float32)
    ours = torch.from_numpy(bfloat16_bits(wide).view(np.int16)).view(torch.bfloat16)
    theirs = torch.from_numpy(wide).to(torch.bfloat16)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_short_weights_give_the_product_with_weights_rounded_by_torch(
    kind: str, weights: NDArray[np.float32], x: NDArray[np.float32]
) -> None:
    """Only weights are rounded: the product itself is float32, in ONNX Runtime and by the standard's reference."""
    artifact = HalfPrecision(kind=kind).apply(product(weights))
    rounded = torch.from_numpy(weights).to(getattr(torch, kind)).float().numpy()
    np.testing.assert_allclose(answers(artifact.onnx, x), x @ rounded, atol=2e-5)
    np.testing.assert_allclose(ReferenceEvaluator(onnx.load_from_string(artifact.onnx)).run(None, {"x": x})[0],
                               x @ rounded, atol=2e-5)  # fmt: skip
    assert len(artifact.onnx) < 0.55 * len(product(weights).onnx)
    assert artifact.notes == (f"6144 weights in 1 tensors stored as {kind}",)


@pytest.mark.parametrize(("kind", "bits"), [("float16", 11), ("bfloat16", 8)])
def test_the_noise_of_short_weights_is_that_of_their_bits(
    kind: str, bits: int, weights: NDArray[np.float32], x: NDArray[np.float32]
) -> None:
    """Relative rounding errors, uniform within half a unit of a p-bit significand: 6.02 p + 8.5 dB, above 35."""
    artifact = HalfPrecision(kind=kind).apply(product(weights))
    # Of significands uniform in [1, 2): mean square 7 / 3, that of the rounding error 2^(-2 p) / 3.
    expected = 20 * math.log10(2) * bits + 10 * math.log10(7.0)
    assert sqnr_db(x @ weights, answers(artifact.onnx, x)) == pytest.approx(expected, abs=1.5)
    assert expected > 35


def test_weights_past_float16_are_refused_and_fit_bfloat16(weights: NDArray[np.float32]) -> None:
    """An overflow would be infinity; the reason names the tensor and the way out."""
    large = weights.copy()
    large[3, 4] = 1e5
    with pytest.raises(RefusedError, match=r"weights of w reach 1e\+05, float16 ends at 65504; take bfloat16"):
        HalfPrecision().apply(product(large))
    HalfPrecision(kind="bfloat16").apply(product(large))


def test_a_graph_without_long_weights_has_nothing_to_shorten(doubling_onnx: bytes) -> None:
    """A single constant is a scale."""
    spec = TensorSpec(name="features", dtype="float32", shape=("batch", 2))
    with pytest.raises(RefusedError, match="no float32 weights of 64 values or more"):
        HalfPrecision().apply(Artifact(doubling_onnx, (spec,), ()))


def by_hand(weights: NDArray[np.float32], *, bits: int, block: int) -> NDArray[np.float32]:
    """Return weights rounded to symmetric integers, each block of a column by its largest magnitude's scale.

    The largest magnitude becomes -2^(bits - 1), as in llama.cpp's Q4_0, which MatMulNBits follows.
    """
    half = 2 ** (bits - 1)
    rounded = np.empty_like(weights)
    for column in range(weights.shape[1]):
        for start in range(0, len(weights), block):
            part = weights[start : start + block, column]
            scale = part[np.abs(part).argmax()] / -half
            rounded[start : start + block, column] = np.clip(np.round(part / scale), -half, half - 1) * scale
    return rounded


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("with_gemm", [False, True])
def test_packed_weights_are_those_rounded_by_hand(
    bits: int, weights: NDArray[np.float32], x: NDArray[np.float32], *, with_gemm: bool
) -> None:
    """And a Gemm is a product and a sum."""
    artifact = WeightOnly(bits=bits, block_size=32).apply(product(weights, with_gemm=with_gemm))
    expected = x @ by_hand(weights, bits=bits, block=32) + (1 if with_gemm else 0)
    np.testing.assert_allclose(answers(artifact.onnx, x), expected, atol=1e-3)
    assert artifact.notes == (f"weights of 1 products stored in {bits} bits",)
    share = len(artifact.onnx) / len(product(weights).onnx)
    # A float32 scale for each block of 32 is one bit more a weight; the rest is names.
    assert share < (bits + 1) / 32 + 0.04


def test_a_gemm_rewritten_gives_its_own_answers(weights: NDArray[np.float32], x: NDArray[np.float32]) -> None:
    """Before any rounding."""
    before = product(weights, with_gemm=True)
    model = onnx.load_from_string(before.onnx)
    gemm_as_matmul(model.graph)
    assert [node.op_type for node in model.graph.node] == ["MatMul", "Add"]
    np.testing.assert_allclose(answers(finished(model), x), answers(before.onnx, x), atol=1e-5)


def test_packed_products_count_as_work_in_float(weights: NDArray[np.float32], x: NDArray[np.float32]) -> None:
    """64 x 96 multiply-accumulates a row, none of them by an integer kernel."""
    cost = cost_of(WeightOnly(bits=4).apply(product(weights)).onnx, {"x": x})
    assert (cost.macs, cost.integer_kernels) == (64 * 96, 0)


@pytest.mark.parametrize("changes", [{"least_values": 10_000}, {"block_size": 128}, {"keep_float": ("product",)}])
def test_nothing_to_pack_is_refused(changes: dict[str, Any], weights: NDArray[np.float32]) -> None:
    """Too few weights, columns shorter than a block, or kept by name."""
    step = WeightOnly(**changes)
    with pytest.raises(RefusedError, match="there is nothing to store in 8 bits: no matrix product"):
        step.apply(product(weights))


def test_packed_weights_are_not_quantised_again(weights: NDArray[np.float32]) -> None:
    """Nor are int8 weights packed."""
    packed = WeightOnly().apply(product(weights))
    for again in (WeightOnly(), DynamicInt8()):
        with pytest.raises(RefusedError, match="the graph is quantised already"):
            again.apply(packed)


def test_int8_activations_keep_nan_behind_the_guard_only(weights: NDArray[np.float32], x: NDArray[np.float32]) -> None:
    """Float activations keep NaN by themselves; int8 ones swallow it, which the guard's absence shows."""
    before = product(weights)

    def asked(artifact: Artifact) -> str | None:
        def predict(of: Artifact) -> Predict:
            session = open_session(of.onnx, threads=1)
            return lambda inputs: {"y": session.run(None, dict(inputs))[0]}

        return swallowed(predict(before), predict(artifact), (X,), {"x": x})

    assert asked(WeightOnly().apply(before)) is None
    assert asked(WeightOnly(activations="int8").apply(before)) is None
    assert asked(WeightOnly(activations="int8", guard=False).apply(before)) is not None


@pytest.mark.parametrize("changes", [{"bits": 3}, {"block_size": 24}, {"block_size": 8}, {"activations": "int4"}])
def test_what_no_kernel_holds_is_an_error(changes: dict[str, Any]) -> None:
    """Before any graph is read."""
    with pytest.raises(ValueError, match=r"expected 4 or 8 bits|activations must be"):
        WeightOnly(**changes)
    with pytest.raises(ValueError, match="kind must be float16 or bfloat16"):
        HalfPrecision(kind="float8")
