"""Values survive the way to Arrow and back."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quatrain.fintech.data.arrays import from_numpy, from_strings, to_numpy


@settings(deadline=None)
@given(values=st.lists(st.one_of(st.none(), st.text(max_size=8)), max_size=40))
def test_strings_are_kept(values: list[str | None]) -> None:
    """Nulls, empty strings and every character."""
    encodable = [None if value is None else value.encode("utf-8", "ignore").decode() for value in values]
    array = from_strings(encodable)
    array.validate(full=True)
    assert array.to_pylist() == encodable


@settings(deadline=None)
@given(values=st.lists(st.booleans(), max_size=40), start=st.integers(0, 10))
def test_booleans_are_kept_also_in_a_slice(values: list[bool], start: int) -> None:
    """Bit-packed on the way, whatever the length and offset."""
    array = from_numpy(np.array(values, dtype=bool))
    array.validate(full=True)
    assert array.to_pylist() == values
    assert to_numpy(array.slice(start)).tolist() == values[start:]


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint8", "float32", "float64"])
def test_numbers_are_kept(dtype: str) -> None:
    """Also from columns of a matrix, which are not contiguous, and from chunks."""
    matrix = np.arange(12).reshape(4, 3).astype(dtype)
    array = from_numpy(matrix[:, 1])
    assert array.type == pa.from_numpy_dtype(np.dtype(dtype))
    np.testing.assert_array_equal(to_numpy(array), matrix[:, 1])
    chunks = pa.chunked_array([array.slice(0, 3), array.slice(3)])
    np.testing.assert_array_equal(to_numpy(chunks), matrix[:, 1])
    assert to_numpy(pa.chunked_array([], type=array.type)).dtype == np.dtype(dtype)


def test_pandas_is_not_imported() -> None:
    """That is what this module is for."""
    program = (
        "import sys, numpy as np; from quatrain.fintech.data.arrays import *; "
        "to_numpy(from_numpy(np.arange(3))); to_numpy(from_numpy(np.ones(3, bool))); from_strings(['a', None]); "
        "print('pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
