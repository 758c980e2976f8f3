"""Sealed models with history features, small enough to reckon by hand, and a world of cards that share devices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.bundle.open import Bundle
from quatrain.core.bundle.seal import seal
from quatrain.core.inference import open_session
from quatrain.fintech.data.columns import TYPES, ColumnMap

START_US = 1_767_225_600_000_000  # 2026-01-01 UTC
DAY_US = 86_400_000_000
NAMES = (
    "amount",
    "is_night",
    "customer_count_7d",
    "customer_mean_30d",
    "terminal_risk_7d",
    "terminal_frauds_7d",
    "customer_terminal_since",
    "device_distinct_customer_7d",
    "device_component",
)
LABEL_DELAY_DAYS = 2.0


def make_world(n: int = 900, *, days: int = 45, seed: int = 0, has_labels: bool = False) -> pa.Table:
    """Return `n` transactions in time order of 12 customers at 9 terminals with 7 devices, some ids missing."""
    rng = np.random.default_rng(seed)
    # Whole minutes, so that some transactions share an instant.
    at_us = START_US + np.sort(rng.integers(0, days * 24 * 60, n)) * 60_000_000
    columns: dict[str, Any] = {
        "transaction_id": [f"t{i:05d}" for i in rng.permutation(n)],
        "timestamp": pa.array(at_us, TYPES["timestamp"]),
        "customer_id": _ids("C", 12, n, rng),
        "terminal_id": _ids("M", 9, n, rng),
        "device_id": _ids("D", 7, n, rng),
        "amount": np.round(rng.lognormal(3, 1, n), 2),
    }
    if has_labels:
        columns["is_fraud"] = pa.array(rng.random(n) < 0.1)
    return pa.table({name: pa.array(values, TYPES[name]) for name, values in columns.items()})


def day_of(world: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the day of each transaction, counted from the first of the world."""
    return (world["timestamp"].cast(pa.int64()).to_numpy() - START_US) // DAY_US


def seal_model(
    path: Path,
    names: Sequence[str] = NAMES,
    *,
    is_calibrated: bool = False,
    threshold: float = 0.6,
    weights: Sequence[float] | None = None,
    **decision: Any,
) -> Bundle:
    """Return a sealed logistic model of the inputs; a calibrated one also gives score, low and high."""
    chosen = np.where(np.arange(len(names)) % 2, -1, 1) / (2.0 + np.arange(len(names))) if weights is None else weights
    graph = _graph(np.asarray(chosen, dtype=np.float32), is_calibrated=is_calibrated)
    outputs = [value.name for value in graph.graph.output]
    onnx_ = graph.SerializeToString()
    golden = np.random.default_rng(0).lognormal(size=(16, len(names))).astype(np.float32)
    answers = open_session(onnx_).run(outputs, {"features": golden})
    mapping = ColumnMap().model_dump(mode="json")
    return seal(
        path,
        name="fintech/fraud",
        task="fraud",
        onnx=onnx_,
        inputs=[TensorSpec(name="features", dtype="float32", shape=("batch", len(names)), columns=tuple(names))],
        outputs=[TensorSpec(name=name, dtype="float32", shape=("batch",), low=0.0, high=1.0) for name in outputs],
        golden_inputs={"features": golden},
        golden_outputs=dict(zip(outputs, answers, strict=True)),
        card="A model for tests.",
        decision={
            "threshold": threshold,
            "alert_budget": 0.1,
            "reference": dict.fromkeys(names, 0.0),
            "columns": mapping,
            "model": "logistic",
            "is_synthetic": True,
            "label_delay_days": LABEL_DELAY_DAYS,
            **decision,
        },
    )


def _ids(letter: str, n_ids: int, n: int, rng: np.random.Generator) -> list[str | None]:
    codes = rng.integers(0, n_ids, n)
    return [
        None if is_missing else f"{letter}{code}" for code, is_missing in zip(codes, rng.random(n) < 0.05, strict=True)
    ]


def _graph(weights: NDArray[np.float32], *, is_calibrated: bool) -> onnx.ModelProto:
    tensors = {"weights": weights[:, None], "bias": np.float32(0.1), "axis": np.array([1]), "half": np.float32(0.5)}
    nodes = [
        helper.make_node("Sign", ["features"], ["sign"]),
        helper.make_node("Abs", ["features"], ["size"]),
        helper.make_node("Sqrt", ["size"], ["root"]),
        helper.make_node("Mul", ["sign", "root"], ["shrunk"]),
        helper.make_node("MatMul", ["shrunk", "weights"], ["sum"]),
        helper.make_node("Squeeze", ["sum", "axis"], ["flat"]),
        helper.make_node("Add", ["flat", "bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score" if is_calibrated else "probability"]),
    ]
    if is_calibrated:
        nodes += [
            helper.make_node("Mul", ["score", "half"], ["probability"]),
            helper.make_node("Mul", ["probability", "half"], ["low"]),
            helper.make_node("Identity", ["score"], ["high"]),
        ]
    names = ("probability", "low", "high", "score") if is_calibrated else ("probability",)
    graph = helper.make_graph(
        nodes,
        "logistic",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", len(weights)])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"]) for name in names],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)
