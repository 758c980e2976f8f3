"""Batches that do not fit into memory, halved until they do."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LOG = logging.getLogger(__name__)
# What ONNX Runtime, CUDA and torch write when an allocation fails.
_SIGNS = ("out of memory", "failed to allocate", "bad_alloc", "bad allocation", "cannot allocate memory")

Outputs = dict[str, NDArray[Any]]


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the error says that memory ran out, on the GPU or on the machine."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(sign in text for sign in _SIGNS)


class Halving:
    """Runs batches; one that does not fit is run in halves, and later ones are no larger than what did fit."""

    def __init__(self, run: Callable[[Outputs], Outputs]) -> None:
        self._run = run
        # Rows that are known to be too many; None until memory runs out.
        self._too_many: int | None = None

    def __call__(self, arrays: Outputs) -> Outputs:
        """Return the outputs for all rows; raises the backend's own error where even one row does not fit."""
        n_rows = len(next(iter(arrays.values())))
        if self._too_many is not None and n_rows >= self._too_many:
            return self._in_halves(arrays, n_rows)
        try:
            return self._run(arrays)
        except Exception as error:
            if n_rows == 1 or not is_out_of_memory(error):
                raise
            _LOG.warning("a batch of %d rows does not fit into memory; going on with %d", n_rows, n_rows // 2)
            self._too_many = n_rows
        return self._in_halves(arrays, n_rows)

    def _in_halves(self, arrays: Outputs, n_rows: int) -> Outputs:
        middle = (n_rows + 1) // 2
        first = self({name: array[:middle] for name, array in arrays.items()})
        second = self({name: array[middle:] for name, array in arrays.items()})
        return {name: np.concatenate([first[name], second[name]]) for name in first}
