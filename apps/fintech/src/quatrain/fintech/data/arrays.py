"""NumPy and Python values to Arrow arrays and back, from buffer to buffer.

`pa.array` and `to_numpy` import pandas wherever it is installed, to ask whether a value is one of
its objects; a scoring job that starts every five minutes should not pay for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Array: TypeAlias = "pa.Array[Any]"
Column: TypeAlias = "pa.Array[Any] | pa.ChunkedArray[Any]"
Mask: TypeAlias = NDArray[np.bool_]


def to_numpy(column: Column) -> NDArray[Any]:
    """Return an Arrow column of numbers or booleans without nulls as NumPy, read-only and mostly without a copy."""
    if isinstance(column, pa.ChunkedArray):
        parts = [to_numpy(chunk) for chunk in column.chunks]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=column.type.to_pandas_dtype())
    if pa.types.is_boolean(column.type):
        return np.asarray(np.from_dlpack(column.cast(pa.uint8())) != 0)
    return np.from_dlpack(column)


def from_numpy(values: NDArray[Any]) -> Array:
    """Return a NumPy array of numbers or booleans as Arrow."""
    if values.dtype == np.bool_:
        packed = np.packbits(values, bitorder="little")
        return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(packed.data)])
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values).data)])


def from_strings(values: Sequence[str | None]) -> Array:
    """Return Python strings as Arrow."""
    encoded = [b"" if value is None else value.encode() for value in values]
    is_there = np.array([value is not None for value in values], dtype=bool)
    offsets = np.zeros(len(values) + 1, dtype=np.int32)
    offsets[1:] = np.cumsum([len(value) for value in encoded])
    validity = pa.py_buffer(np.packbits(is_there, bitorder="little").data)
    buffers: list[pa.Buffer | None] = [validity, pa.py_buffer(offsets.data), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)
