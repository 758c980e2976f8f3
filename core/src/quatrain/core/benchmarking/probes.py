"""What this machine can do at most, measured here and now: products per second, and bytes per second."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from quatrain.core.backends.onnx_runtime import open_session
from quatrain.core.errors import require

# Side of the square float32 matrices; larger ones are no faster, smaller ones slower.
GEMM_SIDE = 1024
# Bytes that are copied; more than the caches of a desktop or server processor hold per core.
COPY_BYTES = 64 << 20


@dataclass(frozen=True)
class Peaks:
    """The machine's limits at so many threads: float32 operations, and bytes read plus written, per second."""

    flops: float
    bandwidth: float


def peaks(*, threads: int, rounds: int = 7, side: int = GEMM_SIDE, n_bytes: int = COPY_BYTES) -> Peaks:
    """Return the best of several rounds: a large float32 product by ONNX Runtime, and a copy by NumPy."""
    return Peaks(
        flops=2 * side**3 / _best_product_seconds(side, threads, rounds),
        bandwidth=2 * n_bytes / _best_copy_seconds(n_bytes, threads, rounds),
    )


def _best_product_seconds(side: int, threads: int, rounds: int) -> float:
    session = open_session(_product(side), threads=threads)
    x = {"x": np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)}
    session.run(None, x)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        session.run(None, x)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _product(side: int) -> bytes:
    require("onnx", package="quatrain-core[train]")
    from onnx import TensorProto, helper, numpy_helper

    from quatrain.core.export import finished, model_of

    weights = np.random.default_rng(1).normal(size=(side, side)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", side])],
        [numpy_helper.from_array(weights, "w")],
    )
    return finished(model_of(graph))


def _best_copy_seconds(n_bytes: int, threads: int, rounds: int) -> float:
    source = np.ones(n_bytes // 8)
    target = np.zeros_like(source)
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    seconds = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(rounds):
            start = time.perf_counter()
            # NumPy lets other threads run while it copies.
            list(pool.map(lambda part: np.copyto(*part), parts))
            seconds.append(time.perf_counter() - start)
    return min(seconds)
