"""Golden arrays: plain numbers of bounded size, or nothing."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quatrain.core.bundle import golden
from quatrain.core.bundle.manifest import BundleError


def _npz(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def _npy(header: str) -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@given(
    array=hnp.arrays(
        dtype=st.one_of(hnp.floating_dtypes(endianness="="), hnp.integer_dtypes(endianness="="), hnp.boolean_dtypes()),
        shape=hnp.array_shapes(min_dims=0, max_dims=4),
    )
)
def test_arrays_come_back_as_numpy_reads_them(array: np.ndarray) -> None:
    """Our reader agrees with numpy's, and the same arrays give the same bytes."""
    for given_array in (array, np.asfortranarray(array)):
        content = golden.to_bytes({"x": given_array}, {"y": given_array})
        inputs, outputs = golden.from_bytes(content, where="b")
        oracle = np.load(io.BytesIO(content), allow_pickle=False)
        np.testing.assert_array_equal(inputs["x"], oracle["input/x"], strict=True)
        np.testing.assert_array_equal(outputs["y"], given_array, strict=True)
        assert content == golden.to_bytes({"x": given_array}, {"y": given_array})


def test_objects_are_refused() -> None:
    """An array of Python objects would need pickle."""
    stream = io.BytesIO()
    np.save(stream, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(BundleError, match=r"golden\.npz in b is not an \.npz of plain arrays: a member has no"):
        golden.from_bytes(_npz("input/x.npy", stream.getvalue()), where="b")


def test_a_header_that_claims_too_much_allocates_nothing() -> None:
    """A shape of a petabyte over four bytes of data is only a wrong shape."""
    content = _npy(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (10**0, 281474976710656), }".replace("10**0", "1")
    )
    with pytest.raises(BundleError, match="cannot reshape array of size 1"):
        golden.from_bytes(_npz("input/x.npy", content + b"\0\0\0\0"), where="b")


def test_a_bomb_inside_the_npz_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The unpacked size is capped before anything is unpacked."""
    monkeypatch.setitem(golden.FILE_LIMITS, "golden.npz", 1000)
    with pytest.raises(BundleError, match="unpacks to 5000 bytes, more than 1000"):
        golden.from_bytes(_npz("input/x.npy", bytes(5000)), where="b")


def test_an_unexpected_member_is_refused() -> None:
    """Only inputs and outputs lie in the file."""
    with pytest.raises(BundleError, match=r"unexpected member '\.\./x\.npy'"):
        golden.from_bytes(_npz("../x.npy", b""), where="b")


@given(
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=5),
    cut=st.floats(0, 1),
)
def test_damaged_files_are_refused_or_read(edits: list[tuple[float, int]], cut: float) -> None:
    """Whatever bytes come, the outcome is arrays or a BundleError."""
    content = bytearray(golden.to_bytes({"x": np.zeros((2, 2))}, {"y": np.ones(3, np.float32)}))
    for where, value in edits:
        content[int(where * len(content))] = value
    content = content[: int(cut * len(content))] if cut < 0.5 else content
    try:
        golden.from_bytes(bytes(content), where="b")
    except BundleError:
        return


@given(content=st.binary(max_size=100))
def test_random_headers_are_refused_or_read(content: bytes) -> None:
    """A member of random bytes behind the magic is an array or a BundleError."""
    for body in (content, b"\x93NUMPY\x01\x00" + len(content).to_bytes(2, "little") + content):
        try:
            golden.from_bytes(_npz("input/x.npy", body), where="b")
        except BundleError:
            continue
