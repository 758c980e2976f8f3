"""Rows that stand for what a model will see: static quantization takes the ranges of its numbers from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from onnxruntime.quantization import CalibrationDataReader  # type: ignore[import-untyped]  # ships no types

from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.compression.gate import RefusedError
from quatrain.core.compression.measures import Array, Arrays
from quatrain.core.inputs import check_inputs

# Fewer rows that differ say too little about ranges.
MIN_DISTINCT_ROWS = 8
_BATCH = 16


class Reader(CalibrationDataReader):  # type: ignore[misc]  # the base class has no types
    """Calibration rows as ONNX Runtime takes them, a few rows at a time."""

    def __init__(self, rows: Arrays) -> None:
        self._batches = _in_batches(rows)

    def get_next(self) -> dict[str, Array] | None:
        """Return the next rows, None after the last."""
        return next(self._batches, None)


def require_representative(rows: Arrays, specs: Sequence[TensorSpec]) -> None:
    """Raise RefusedError for calibration rows that are constant, or all but alike: their ranges would be fiction.

    Raises InvalidInputError for rows that the model itself would refuse.
    """
    rows = check_inputs(specs, rows)
    flat = np.concatenate([rows[spec.name].reshape(len(rows[spec.name]), -1).astype(np.float64) for spec in specs], 1)
    n_distinct = len(np.unique(flat, axis=0))
    if n_distinct < MIN_DISTINCT_ROWS:
        raise RefusedError(
            f"the calibration set has {n_distinct} different rows of {len(flat)}, at least {MIN_DISTINCT_ROWS} are "
            "needed; take some hundred rows of the training data"
        )
    if flat.shape[1] > 1 and (flat.min(axis=1) == flat.max(axis=1)).all():
        raise RefusedError(
            "every row of the calibration set is one constant throughout; take some hundred rows of the training data"
        )


def _in_batches(rows: Arrays) -> Iterator[dict[str, Array]]:
    n_rows = len(next(iter(rows.values())))
    for start in range(0, n_rows, _BATCH):
        yield {name: np.ascontiguousarray(array[start : start + _BATCH]) for name, array in rows.items()}
