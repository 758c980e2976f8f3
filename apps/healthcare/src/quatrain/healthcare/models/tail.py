"""The end of the graph: calibrated probabilities and how far an image is from all that was learned from; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.calibration.temperature import Link
from quatrain.core.errors import BadDataError, require
from quatrain.core.export import finished
from quatrain.healthcare.models.outputs import DISTANCE, EMBEDDING, FEATURES, LOGITS, OUTPUTS, PROBABILITY

_SLOPE, _OFFSET = "calibration_slope", "calibration_offset"
_EXTRA = "quatrain-core[train]"


@dataclass(frozen=True, kw_only=True)
class Tail:
    """Probability = link(slope x logits + offset); embedding = whitened features; distance = from the nearest mean."""

    link: Link
    slope: float
    # (n_outputs,)
    offset: NDArray[np.float32]
    # Whitening (d, r) and whitened means (m, r).
    whitening: NDArray[np.float32]
    means: NDArray[np.float32]


def with_tail(network: bytes, tail: Tail) -> bytes:
    """Return a graph of outputs logits and features with the OUTPUTS in their place."""
    require("onnx", package=_EXTRA)
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load_from_string(network)
    graph = model.graph
    constants: dict[str, NDArray[Any]] = {
        _SLOPE: np.array([tail.slope], np.float32),
        _OFFSET: tail.offset.astype(np.float32),
        "distance_whitening": tail.whitening.astype(np.float32),
        "distance_means": tail.means.astype(np.float32)[None],  # (1, m, r)
        "distance_axis": np.array([1]),
        "distance_last": np.array([2]),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    link = (
        helper.make_node("Sigmoid", ["calibrated"], [PROBABILITY])
        if tail.link == "sigmoid"
        else helper.make_node("Softmax", ["calibrated"], [PROBABILITY], axis=1)
    )
    graph.node.extend(
        [
            helper.make_node("Mul", [LOGITS, _SLOPE], ["sloped"]),
            helper.make_node("Add", ["sloped", _OFFSET], ["calibrated"]),
            link,
            helper.make_node("MatMul", [FEATURES, "distance_whitening"], [EMBEDDING]),
            helper.make_node("Unsqueeze", [EMBEDDING, "distance_axis"], ["white_row"]),
            helper.make_node("Sub", ["white_row", "distance_means"], ["gaps"]),  # (batch, m, r)
            helper.make_node("ReduceSumSquare", ["gaps", "distance_last"], ["squares"], keepdims=0),
            helper.make_node("ReduceMin", ["squares", "distance_axis"], ["nearest"], keepdims=0),
            helper.make_node("Sqrt", ["nearest"], [DISTANCE]),
        ]
    )
    n_outputs = len(tail.offset)
    kept = {output.name: output for output in graph.output}
    ends = {
        PROBABILITY: helper.make_tensor_value_info(PROBABILITY, TensorProto.FLOAT, ["batch", n_outputs]),
        EMBEDDING: helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["batch", tail.whitening.shape[1]]),
        DISTANCE: helper.make_tensor_value_info(DISTANCE, TensorProto.FLOAT, ["batch"]),
    }
    del graph.output[:]
    graph.output.extend(ends.get(name) or kept[name] for name in OUTPUTS)
    return finished(model)


def recalibrated(onnx_bytes: bytes, *, slope: float, offset: NDArray[Any]) -> bytes:
    """Return the same graph with another slope and offset; BadDataError for a graph without them."""
    require("onnx", package=_EXTRA)
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(onnx_bytes)
    new = {_SLOPE: np.array([slope], np.float32), _OFFSET: np.asarray(offset, np.float32)}
    found = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name in new}
    if set(found) != set(new):
        raise BadDataError(
            "the bundle's graph has no calibration to replace; it was not sealed by `quatrain healthcare train`"
        )
    for name, value in new.items():
        found[name].CopyFrom(numpy_helper.from_array(value, name))
    return finished(model)


def fit_distance(
    embedding: NDArray[Any], groups: NDArray[Any], *, n_directions: int = 64, shrinkage: float = 0.1
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (whitening, means) of Mahalanobis distances to the nearest group's mean.

    One covariance within groups, shrunk towards its diagonal, in its main directions plus none beyond them: what is
    left out varies too little in training to say what is odd. Lee et al., "A simple unified framework", NeurIPS 2018.
    """
    x = np.asarray(embedding, np.float64)
    values = [value for value in np.unique(groups) if np.count_nonzero(groups == value)]
    means = np.stack([x[groups == value].mean(0) for value in values])
    within = x - means[np.searchsorted(values, groups)]
    covariance = within.T @ within / max(1, len(x) - len(values))
    covariance = (1 - shrinkage) * covariance + shrinkage * np.eye(len(covariance)) * np.trace(covariance) / len(
        covariance
    )
    eigenvalues, directions = np.linalg.eigh(covariance)
    chosen = np.argsort(-eigenvalues)[:n_directions]
    whitening = directions[:, chosen] / np.sqrt(np.maximum(eigenvalues[chosen], 1e-12))
    return whitening.astype(np.float32), (means @ whitening).astype(np.float32)
