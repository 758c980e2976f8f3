"""OpenVINO gives ONNX Runtime's numbers, in float32, for every batch and from several threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx import helper
from tests.core.backends.conftest import WEIGHTS, onnx_bytes

from quatrain.core.backends.buckets import BUCKETS, bucket_of
from quatrain.core.backends.open_vino import open_session
from quatrain.core.backends.protocol import BackendError
from quatrain.core.bundle.open import Bundle
from quatrain.core.inference import load_model

pytest.importorskip("openvino")


def rows(n: int) -> np.ndarray:
    """Return n rows that differ."""
    return np.random.default_rng(n).normal(size=(n, 3)).astype(np.float32)


@pytest.mark.parametrize("n", [1, 2, 8, 9, 64, 256, 257])
def test_every_batch_gives_the_same_numbers(linear_onnx: bytes, n: int) -> None:
    """Sizes with kernels of their own and sizes without."""
    session = open_session(linear_onnx, threads=1)
    x = rows(n)
    np.testing.assert_allclose(session.run(["score"], {"features": x})[0], (x @ WEIGHTS)[:, 0], rtol=1e-5, atol=1e-6)


def test_an_answer_stays_as_it_is_when_the_next_comes(linear_onnx: bytes) -> None:
    """The request's own memory is written again; what was given away is not."""
    session = open_session(linear_onnx, threads=1)
    first = session.run(None, {"features": rows(8)})[0]
    kept = first.copy()
    session.run(None, {"features": -rows(8)})
    np.testing.assert_array_equal(first, kept)


def test_products_are_not_rounded_to_bfloat16(linear_onnx: bytes) -> None:
    """1 + 2^-12 is no bfloat16; with eight bits of fraction it would be 1."""
    x = np.array([[2 * (1 + 2.0**-12), 0, 0]], dtype=np.float32)
    assert open_session(linear_onnx, threads=1).run(None, {"features": x})[0][0] == np.float32(1 + 2.0**-12)


def test_threads_do_not_mix_their_batches(linear_onnx: bytes) -> None:
    """Each call has a request of its own."""
    session = open_session(linear_onnx, threads=1)
    batches = [rows(n) for n in [1, 8, 3, 64] * 8]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda x: session.run(None, {"features": x})[0], batches))
    for x, given in zip(batches, answers, strict=True):
        np.testing.assert_allclose(given, (x @ WEIGHTS)[:, 0], rtol=1e-5, atol=1e-6)


def test_a_sealed_model_answers_with_openvino(seal_linear: Callable[..., Bundle]) -> None:
    """By name, through the public call."""
    model = load_model(seal_linear().path, backend="openvino", threads=1)
    assert model.backend == "openvino"
    np.testing.assert_allclose(model.predict(rows(5))["score"], (rows(5) @ WEIGHTS)[:, 0], rtol=1e-5, atol=1e-6)


def test_an_operator_that_openvino_lacks_is_named() -> None:
    """The refusal says which backend and which operator."""
    nodes = [helper.make_node("Unheard", ["features"], ["score"])]
    with pytest.raises(BackendError, match=r"openvino does not take this graph: .*Unheard"):
        open_session(onnx_bytes(nodes))


def test_a_batch_belongs_to_the_bucket_that_holds_it() -> None:
    """The largest bucket holds all that are larger."""
    assert BUCKETS == (1, 8, 64, 256)
    assert [bucket_of(n) for n in (1, 2, 8, 9, 64, 65, 256, 1000)] == [1, 8, 8, 64, 64, 256, 256, 256]
