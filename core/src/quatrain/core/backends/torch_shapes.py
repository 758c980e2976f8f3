"""Shape arithmetic of a graph on plain integers, so that a compiler sees numbers and not tensors.

A value is an int (ONNX: no dimension) or a list of ints (one dimension). Under torch.export they
may be symbolic; nothing here looks at their size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

Ints = int | list[int]


def shape(x: Tensor, *, start: int = 0, end: int | None = None) -> list[int]:
    """Return the tensor's shape, or part of it."""
    return list(x.shape)[start:end]


def gather(values: list[int], places: Ints, *, axis: int = 0) -> Ints:
    """Return the values at the places."""
    _first_axis(axis)
    return [values[place] for place in places] if isinstance(places, list) else values[places]


def concat(*parts: list[int], axis: int = 0) -> list[int]:
    """Return the parts one after the other."""
    _first_axis(axis)
    return [value for part in parts for value in part]


def cut(
    values: list[int], starts: list[int], ends: list[int], axes: list[int] | None = None, steps: list[int] | None = None
) -> list[int]:
    """Return part of the values."""
    _first_axis((axes or [0])[0])
    return values[starts[0] : ends[0] : (steps or [1])[0]]


def squeeze(values: Ints, axes: list[int] | None = None) -> Ints:
    """Return the only value of a list as a plain int."""
    _first_axis((axes or [0])[0])
    return values[0] if isinstance(values, list) else values


def unsqueeze(value: Ints, axes: list[int]) -> list[int]:
    """Return a plain int as a list of one."""
    if isinstance(value, list) or axes not in ([0], [-1]):
        raise ValueError(f"a shape has one dimension, got {value} to be widened at {axes}")
    return [value]


def reshape(values: Ints, target: list[int]) -> Ints:
    """Return the values with one dimension, or none."""
    flat = values if isinstance(values, list) else [values]
    return flat if target else flat[0]


def same(values: Ints, **_: Any) -> Ints:
    """Return the values: a cast between integer types changes nothing here."""
    return values


def product(values: list[int], axes: list[int] | None = None, *, keepdims: int = 1) -> Ints:
    """Return the product of the values."""
    _first_axis((axes or [0])[0])
    return [math.prod(values)] if keepdims else math.prod(values)


def pairwise(function: Callable[[int, int], int]) -> Callable[[Ints, Ints], Ints]:
    """Return a function of two ints as one of two values, one of which may be a single number."""

    def apply(left: Ints, right: Ints) -> Ints:
        if not isinstance(left, list) and not isinstance(right, list):
            return function(left, right)
        n = max(len(value) for value in (left, right) if isinstance(value, list))
        return [function(a, b) for a, b in zip(_spread(left, n), _spread(right, n), strict=True)]

    return apply


def _spread(value: Ints, n: int) -> Sequence[int]:
    if not isinstance(value, list):
        return [value] * n
    return value * n if len(value) == 1 else value


def _first_axis(axis: int) -> None:
    if axis not in (0, -1):
        raise ValueError(f"a shape has one dimension, got axis {axis}")


# Operators that are computed on plain integers when all they read is shapes and constants.
SHAPE_OPERATORS: dict[str, Callable[..., Any]] = {
    "Gather": gather,
    "Concat": concat,
    "Slice": cut,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Reshape": reshape,
    "Cast": same,
    "Identity": same,
    "ReduceProd": product,
    "Add": pairwise(lambda a, b: a + b),
    "Sub": pairwise(lambda a, b: a - b),
    "Mul": pairwise(lambda a, b: a * b),
    "Div": pairwise(lambda a, b: a // b),
}
