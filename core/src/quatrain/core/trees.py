"""LightGBM's text model as arrays whose comparisons are exact in float32, or a reason why that cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from quatrain.core.errors import UserError

# LightGBM's kZeroThreshold (include/LightGBM/meta.h): smaller magnitudes are read as zero.
_ZERO = float(np.float32(1e-35))
# Bits of LightGBM's decision_type (include/LightGBM/tree.h).
_CATEGORICAL, _DEFAULT_LEFT, _MISSING_SHIFT, _MISSING_MASK = 1, 2, 2, 3
_MISSING_IS_ZERO, _MISSING_IS_NAN = 1, 2
_SIGMOID_OBJECTIVES = ("binary", "cross_entropy")
_RAW_OBJECTIVES = ("regression", "regression_l1", "huber", "fair", "quantile", "mape")


ScalarT = TypeVar("ScalarT", bound=np.generic)


class ExportError(UserError):
    """A model that cannot be written as an ONNX graph giving the same numbers."""


class Booster(Protocol):
    """What is needed of a lightgbm.Booster."""

    def model_to_string(self) -> str:
        """Return the model as text, cut at its best iteration."""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """One tree: n splits and n + 1 leaves; a child c >= 0 is a split, c < 0 the leaf ~c.

    A row goes left where its feature is <= threshold, and where it is NaN and `nan_goes_left`.
    Thresholds are float64 that float32 holds exactly.
    """

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    nan_goes_left: NDArray[np.bool_]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    leaf_value: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Forest:
    """Trees whose leaf values add up to the raw score; `sigmoid` is its slope, None for a raw output."""

    trees: tuple[Tree, ...]
    n_features: int
    sigmoid: float | None


def read_forest(booster: Booster) -> Forest:
    """Return the booster's trees; raises ExportError for what one comparison per split cannot express."""
    head, *blocks = booster.model_to_string().split("\nTree=")
    header = _fields(head)
    if header.get("num_tree_per_iteration") != "1":
        raise ExportError(f"expected one output, got {header.get('num_class')} classes; train one model per class")
    if "average_output" in header:
        raise ExportError("random forests (boosting = rf) cannot be exported; train with boosting = gbdt")
    if not blocks:
        raise ExportError("the model has no trees; train it for at least one iteration")
    columns = np.array(header["feature_names"].split(" "))
    sigmoid = _sigmoid(header.get("objective", "a custom function"))
    trees = tuple(_tree(_fields(block.partition("\n\n")[0]), columns) for block in blocks)
    return Forest(trees=trees, n_features=int(header["max_feature_idx"]) + 1, sigmoid=sigmoid)


def float32_not_above(thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest float32 not above each threshold, so that x <= t keeps its answer for every float32 x."""
    with np.errstate(over="ignore"):
        rounded = thresholds.astype(np.float32)
        down = np.nextafter(rounded, np.float32(-np.inf))
    return np.where(rounded > thresholds, down, rounded).astype(np.float64)


def _fields(block: str) -> dict[str, str]:
    return {key: value for key, _, value in (line.partition("=") for line in block.splitlines())}


def _sigmoid(objective: str) -> float | None:
    name, *parameters = objective.split(" ")
    if name in _SIGMOID_OBJECTIVES:
        slopes = [parameter.removeprefix("sigmoid:") for parameter in parameters if parameter.startswith("sigmoid:")]
        return float(slopes[0]) if slopes else 1.0
    if name in _RAW_OBJECTIVES and "sqrt" not in parameters:
        return None
    known = ", ".join([*_SIGMOID_OBJECTIVES, *_RAW_OBJECTIVES])
    raise ExportError(f"the objective must be one of {known}, got {objective!r}, whose output is a different function")


def _tree(fields: Mapping[str, str], columns: NDArray[np.str_]) -> Tree:
    feature = _array(fields, "split_feature", np.int64)
    decision = _array(fields, "decision_type", np.int64)
    threshold = _array(fields, "threshold", np.float64)
    missing = (decision >> _MISSING_SHIFT) & _MISSING_MASK
    if fields.get("is_linear", "0") != "0":
        raise ExportError("linear trees cannot be exported; train with linear_tree = false")
    for refused, reason in (
        (decision & _CATEGORICAL != 0, "splits on categories; give the column as a number"),
        (missing == _MISSING_IS_ZERO, "reads zero as missing; train with zero_as_missing = false"),
    ):
        if refused.any():
            column = columns[feature[refused.argmax()]]
            raise ExportError(f"column {column!s} cannot be exported: the model {reason}")
    default_left = decision & _DEFAULT_LEFT != 0
    return Tree(
        feature=feature,
        threshold=float32_not_above(_around_zero(threshold)),
        nan_goes_left=np.where(missing == _MISSING_IS_NAN, default_left, threshold >= 0),  # else NaN is read as zero
        left=_array(fields, "left_child", np.int64),
        right=_array(fields, "right_child", np.int64),
        leaf_value=_array(fields, "leaf_value", np.float64),
    )


def _around_zero(threshold: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return thresholds that send every |x| <= 1e-35 where LightGBM, which reads it as zero, sends it."""
    below = np.float64(np.nextafter(np.float32(-_ZERO), np.float32(-np.inf)))
    lifted = np.where((threshold >= 0) & (threshold < _ZERO), _ZERO, threshold)
    return np.where((lifted < 0) & (lifted >= -_ZERO), below, lifted)


def _array(fields: Mapping[str, str], key: str, dtype: type[ScalarT]) -> NDArray[ScalarT]:
    return np.array(fields.get(key, "").split(), dtype=dtype)
