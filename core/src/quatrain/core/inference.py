"""A sealed model that answers: load_model(name).predict(x), without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core import hardware

if TYPE_CHECKING:
    from onnxruntime import InferenceSession  # type: ignore[import-untyped]  # ships no types

# ONNX Runtime's own severities; its messages also come as exceptions, so stderr need not repeat them.
_FATAL_ONLY = 4


def open_session(onnx: bytes, *, threads: int | None = None) -> InferenceSession:
    """Return an ONNX Runtime session on the CPU; `threads` None follows affinity and the cgroup's quota."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or hardware.cpu_limit()
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


def largest_difference(actual: NDArray[Any], expected: NDArray[Any]) -> tuple[float, int]:
    """Return the largest absolute difference and its row; NaN or infinity on one side only differs by infinity."""
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(actual.astype(np.float64) - expected.astype(np.float64)))
    difference = np.where(np.isnan(difference), np.inf, difference)
    if difference.size == 0:
        return 0.0, 0
    place = int(difference.argmax())
    row = int(np.unravel_index(place, difference.shape)[0]) if difference.ndim else 0
    return float(difference.flat[place]), row
