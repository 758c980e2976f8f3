"""Calibration inside the graph: a model's score becomes a probability with a lower and an upper bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quatrain.core.errors import require
from quatrain.core.steps import ML_DOMAIN, ML_OPSET, Steps, lookup

if TYPE_CHECKING:
    import onnx

# Scores are read as if they lay between these; the larger is between the last two float32 of [0, 1].
SMALLEST, LARGEST = 2.0**-30, 1 - 2.0**-25
# The graph's outputs, all float32 (batch,): low <= probability <= high, and the score as the model gave it.
OUTPUTS = ("probability", "low", "high", "score")
_EXTRA = "quatrain-core[train]"
# Before every name of the model's own graph, so that none meets a name of the calibration's.
_PREFIX = "model_"

# (a, b, c) of log odds = a ln(s) - b ln(1 - s) + c; a, b >= 0 makes it a map that never falls.
Curve = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class ScoreMap:
    """What a score in [0, 1] means: a probability, from `curve` or from a third column of `steps`, and bounds.

    The first two columns of `steps` are a lower and an upper bound. Where the curve leaves them, the
    bounds are moved to it, so that low <= probability <= high for every score.
    """

    steps: Steps
    curve: Curve | None

    def __post_init__(self) -> None:
        """Refuse columns that do not fit the curve, and a curve that falls."""
        expected = 3 if self.curve is None else 2
        if self.steps.values.shape[1] != expected:
            raise ValueError(f"expected {expected} columns of steps, got {self.steps.values.shape[1]}")
        if self.curve is not None and not (np.isfinite(self.curve).all() and min(self.curve[:2]) >= 0):
            raise ValueError(f"a and b of the curve must be at least 0, and all finite, got {self.curve}")

    def __call__(self, score: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return the graph's outputs by name for float32 scores of shape (n,)."""
        steps = self.steps(score)
        if self.curve is None:
            probability = steps[:, 2]
        else:
            probability = np.exp(-np.logaddexp(0, -log_odds(score, self.curve))).astype(np.float32)
        low, high = np.minimum(steps[:, 0], probability), np.maximum(steps[:, 1], probability)
        return dict(zip(OUTPUTS, (probability, low, high, score), strict=True))


def log_odds(score: NDArray[np.floating], curve: Curve) -> NDArray[np.float64]:
    """Return the curve's log odds of each score."""
    a, b, c = curve
    inside = np.clip(score.astype(np.float64), SMALLEST, LARGEST)
    return np.asarray(a * np.log(inside) - b * np.log(1 - inside) + c)


def calibrated_graph(onnx: bytes, score_map: ScoreMap) -> bytes:
    """Return the graph with outputs OUTPUTS instead of its only output, float32 (batch,) `probability`.

    Raises ValueError for a graph with other outputs, as one that is calibrated already has.
    """
    require("onnx", package=_EXTRA)
    import onnx as onnx_package
    from onnx import TensorProto, compose, helper

    loaded = onnx_package.load_from_string(onnx)
    outputs = [_described(value) for value in loaded.graph.output]
    if outputs != ["probability float (batch)"]:
        raise ValueError(f"expected one output, probability float (batch), got {', '.join(outputs)}")
    model = compose.add_prefix(loaded, _PREFIX, rename_inputs=False)
    nodes, constants = _nodes(score_map)
    made = {constant.name for constant in constants}.union(*(node.output for node in nodes))
    taken = made.intersection(value.name for value in model.graph.input)
    if taken:
        raise ValueError(f"the calibration has names of its own; rename the graph's input {taken.pop()}")
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(constants)
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"]) for name in OUTPUTS)
    if all(opset.domain != ML_DOMAIN for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(ML_DOMAIN, ML_OPSET))
    onnx_package.checker.check_model(model)
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def _nodes(score_map: ScoreMap) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    from onnx import helper, numpy_helper

    columns = ["low_step", "high_step"] + (["probability"] if score_map.curve is None else [])
    constants = {f"{name}_at": np.array(place) for place, name in enumerate(columns)} | {"column_axis": np.array([1])}
    nodes = [
        helper.make_node("Identity", [f"{_PREFIX}probability"], ["score"]),
        helper.make_node("Unsqueeze", ["score", "column_axis"], ["score_column"]),  # (batch, 1)
        lookup(score_map.steps, score="score_column", output="steps"),  # (batch, columns)
        *(helper.make_node("Gather", ["steps", f"{name}_at"], [name], axis=1) for name in columns),  # (batch,)
    ]
    if score_map.curve is not None:
        nodes += _curve_nodes()
        a, b, c = score_map.curve
        scalars = {"a": a, "b": b, "c": c, "one": 1.0, "smallest": SMALLEST, "largest": LARGEST}
        constants |= {name: np.array(value, dtype=np.float64) for name, value in scalars.items()}
    nodes += [
        helper.make_node("Min", ["low_step", "probability"], ["low"]),
        helper.make_node("Max", ["high_step", "probability"], ["high"]),
    ]
    return nodes, [numpy_helper.from_array(value, name) for name, value in constants.items()]


def _curve_nodes() -> list[onnx.NodeProto]:
    """Return sigmoid(a ln(s) - b ln(1 - s) + c), in float64: near 1 a float32 has lost the digits of 1 - s."""
    from onnx import TensorProto, helper

    return [
        helper.make_node("Cast", ["score"], ["score64"], to=TensorProto.DOUBLE),
        helper.make_node("Clip", ["score64", "smallest", "largest"], ["inside"]),
        helper.make_node("Log", ["inside"], ["log_score"]),
        helper.make_node("Sub", ["one", "inside"], ["rest"]),
        helper.make_node("Log", ["rest"], ["log_rest"]),
        helper.make_node("Mul", ["a", "log_score"], ["rising"]),
        helper.make_node("Mul", ["b", "log_rest"], ["falling"]),
        helper.make_node("Sub", ["rising", "falling"], ["slope"]),
        helper.make_node("Add", ["slope", "c"], ["odds"]),
        helper.make_node("Sigmoid", ["odds"], ["probability64"]),
        helper.make_node("Cast", ["probability64"], ["probability"], to=TensorProto.FLOAT),
    ]


def _described(value: onnx.ValueInfoProto) -> str:
    from onnx import TensorProto

    tensor = value.type.tensor_type
    shape = ", ".join(dim.dim_param or str(dim.dim_value) for dim in tensor.shape.dim)
    return f"{value.name} {TensorProto.DataType.Name(tensor.elem_type).lower()} ({shape})"
