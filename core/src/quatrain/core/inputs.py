"""The check before every prediction: arrays that are exactly what the model was sealed for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.errors import UserError, did_you_mean

Arrays = dict[str, NDArray[Any]]


class InvalidInputError(UserError):
    """An array that the model was not sealed for; it never reaches the model."""


def check_inputs(specs: Sequence[TensorSpec], x: NDArray[Any] | Mapping[str, NDArray[Any]]) -> Arrays:
    """Return the arrays by input name, contiguous; raises InvalidInputError that says what came.

    A bare array is the model's only input. Nothing is converted: a silent float64 -> float32 or a
    wrapped uint8 would be a different input than the caller believes. NaN and infinity are
    refused because an int8 model turns them into a plausible score.
    """
    arrays = _named(specs, x)
    sizes: dict[str, tuple[int, str]] = {}
    for spec in specs:
        array = _plain(spec, arrays[spec.name])
        _require_shape(spec, array, sizes)
        _require_values(spec, array)
        arrays[spec.name] = np.ascontiguousarray(array)
    return arrays


def place_of(spec: TensorSpec, array: NDArray[Any], bad: NDArray[np.bool_]) -> str:
    """Return where the first bad value is and what it is, such as "column amount of row 3 is nan"."""
    index = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))
    value = array[index]
    if not index:
        return f"the value is {value}"
    row, *inner = index
    if spec.columns and len(inner) == 1:
        return f"column {spec.columns[inner[0]]} of row {row} is {value}"
    return f"row {row}, index {inner}, is {value}" if inner else f"row {row} is {value}"


def _named(specs: Sequence[TensorSpec], x: object) -> Arrays:
    names = [spec.name for spec in specs]
    if isinstance(x, np.ndarray):
        if len(names) > 1:
            raise InvalidInputError(f"the model takes {', '.join(names)}; pass a mapping with all, got one array")
        return {names[0]: x}
    if not isinstance(x, Mapping):
        raise InvalidInputError(
            f"expected a NumPy array or a mapping of arrays by input name, got {type(x).__name__}; use np.asarray"
        )
    for name in x:
        if name not in names:
            raise InvalidInputError(f"the model has no input {name!r}{did_you_mean(str(name), names)}")
    for name in names:
        if name not in x:
            raise InvalidInputError(f"input {name} is missing; the model takes {', '.join(names)}")
    return dict(x)


def _plain(spec: TensorSpec, array: object) -> NDArray[Any]:
    if not isinstance(array, np.ndarray):
        raise InvalidInputError(f"{spec.name} must be a NumPy array, got {type(array).__name__}; use np.asarray")
    if isinstance(array, np.ma.MaskedArray):
        raise InvalidInputError(f"{spec.name} is a masked array, whose hidden values would be used; fill them first")
    # Compared as dtypes, not by name: a big-endian float32 has the same name and other bytes.
    if array.dtype != np.dtype(spec.dtype):
        raise InvalidInputError(
            f"{spec.name} must be {spec.dtype}, got {array.dtype}; convert it with .astype('{spec.dtype}')"
        )
    return np.asarray(array)


def _require_shape(spec: TensorSpec, array: NDArray[Any], sizes: dict[str, tuple[int, str]]) -> None:
    expected = f"({', '.join(map(str, spec.shape))})"
    if array.ndim != len(spec.shape):
        fix = "; add the batch dimension with x[None]" if array.ndim == len(spec.shape) - 1 else ""
        raise InvalidInputError(f"{spec.name} must have shape {expected}, got {array.shape}{fix}")
    for dimension, size in zip(spec.shape, array.shape, strict=True):
        if isinstance(dimension, int) and size != dimension:
            raise InvalidInputError(f"{spec.name} must have shape {expected}, got {array.shape}")
        if size == 0:
            raise InvalidInputError(f"{spec.name} is empty, got shape {array.shape}; pass at least one row")
        if isinstance(dimension, str):
            known, other = sizes.setdefault(dimension, (size, spec.name))
            if size != known:
                raise InvalidInputError(
                    f"{spec.name} has {dimension} {size}, but {other} has {known}; both must have the same"
                )


def _require_values(spec: TensorSpec, array: NDArray[Any]) -> None:
    # Two passes without a temporary decide the ordinary case: NaN and infinity show in minimum or maximum.
    lowest, highest = array.min(), array.max()
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        where = place_of(spec, array, ~np.isfinite(array))
        raise InvalidInputError(f"{spec.name} must be finite: {where}; drop or fill such rows")
    low, high = _bound(spec.low, array.dtype), _bound(spec.high, array.dtype)
    if low is not None and lowest < low:
        where = place_of(spec, array, array < low)
        raise InvalidInputError(f"{spec.name} must not be below {spec.low:g}{_units(spec)}: {where}")
    if high is not None and highest > high:
        where = place_of(spec, array, array > high)
        raise InvalidInputError(f"{spec.name} must not be above {spec.high:g}{_units(spec)}: {where}")


def _bound(value: float | None, dtype: np.dtype[Any]) -> Any:
    """Return the bound as the array's own type would hold it, so that float32 0.1 is not above 0.1."""
    if value is None or dtype.kind != "f":
        return value
    with np.errstate(over="ignore"):
        return dtype.type(value)


def _units(spec: TensorSpec) -> str:
    return f" {spec.units}" if spec.units else ""
