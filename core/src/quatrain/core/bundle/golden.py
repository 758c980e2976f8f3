"""Golden inputs and outputs: arrays that every backend must reproduce, as an .npz without pickle."""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.bundle.manifest import FILE_LIMITS, GOLDEN, RESTORE, BundleError, TensorSpec

Arrays = dict[str, NDArray[Any]]

_INPUT = "input/"
_OUTPUT = "output/"
_SUFFIX = ".npy"
# numpy.lib.format, version 1.0, for a boolean, integer or float in this machine's byte order.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '([<|][biuf][1248])', 'fortran_order': (True|False), "
    rb"'shape': \(((?:[0-9]{1,18}, ?)*(?:[0-9]{1,18})?)\), \} *\n",
    re.DOTALL,
)


def to_bytes(inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the .npz of both, the same bytes for the same arrays."""
    arrays = {_INPUT + name: array for name, array in inputs.items()}
    arrays |= {_OUTPUT + name: array for name, array in outputs.items()}
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def from_bytes(content: bytes, *, where: str) -> tuple[Arrays, Arrays]:
    """Return (inputs, outputs); raises BundleError for anything but plain arrays of bounded size."""
    try:
        arrays = _read(content)
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, RuntimeError) as error:
        raise BundleError(f"{GOLDEN} in {where} is not an .npz of plain arrays: {error}; {RESTORE}") from error
    inputs = {name.removeprefix(_INPUT): array for name, array in arrays.items() if name.startswith(_INPUT)}
    outputs = {name.removeprefix(_OUTPUT): array for name, array in arrays.items() if name.startswith(_OUTPUT)}
    return inputs, outputs


def require_matching(specs: Sequence[TensorSpec], arrays: Mapping[str, NDArray[Any]], sizes: dict[str, int]) -> None:
    """Raise ValueError unless `arrays` are what `specs` say: names, dtype, shape, range, finite.

    `sizes` gathers the size of each dynamic dimension, so that inputs and outputs agree.
    """
    expected, given = {spec.name for spec in specs}, set(arrays)
    if expected != given:
        raise ValueError(f"golden arrays must be {sorted(expected)}, got {sorted(given)}")
    for spec in specs:
        array = arrays[spec.name]
        if array.dtype.name != spec.dtype:
            raise ValueError(f"golden {spec.name} must be {spec.dtype}, got {array.dtype.name}")
        if len(array.shape) != len(spec.shape) or not all(map(_fits, spec.shape, array.shape, [sizes] * array.ndim)):
            raise ValueError(f"golden {spec.name} must have shape {spec.shape}, got {array.shape} with sizes {sizes}")
        if array.size == 0:
            raise ValueError(f"golden {spec.name} must not be empty, got shape {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"golden {spec.name} must be finite, got NaN or infinity")
        for bound, is_outside in ((spec.low, np.less), (spec.high, np.greater)):
            if bound is not None and is_outside(array, bound).any():
                raise ValueError(
                    f"golden {spec.name} must lie in [{spec.low}, {spec.high}], got {array.min()} to {array.max()}"
                )


def _fits(expected: int | str, size: int, sizes: dict[str, int]) -> bool:
    return size == (sizes.setdefault(expected, size) if isinstance(expected, str) else expected)


def _read(content: bytes) -> Arrays:
    arrays: Arrays = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        total = sum(member.file_size for member in members)
        if total > FILE_LIMITS[GOLDEN]:
            raise ValueError(f"it unpacks to {total} bytes, more than {FILE_LIMITS[GOLDEN]}")
        for member in members:
            if not member.filename.endswith(_SUFFIX) or not member.filename.startswith((_INPUT, _OUTPUT)):
                raise ValueError(f"unexpected member {member.filename!r}")
            arrays[member.filename.removesuffix(_SUFFIX)] = _read_array(archive.read(member))
    return arrays


def _read_array(content: bytes) -> NDArray[Any]:
    """Return the array in .npy bytes; the header is matched, not evaluated, and allocates nothing."""
    header = _HEADER.match(content)
    if header is None:
        raise ValueError("a member has no .npy header of version 1.0 with a plain number type")
    descr, is_fortran, sizes = (part.decode() for part in header.groups())
    shape = tuple(int(size) for size in sizes.split(",") if size.strip())
    flat = np.frombuffer(content, dtype=np.dtype(descr), offset=header.end())
    return flat.reshape(shape, order="F" if is_fortran == "True" else "C")
