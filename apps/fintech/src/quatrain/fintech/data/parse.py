"""One column of any type in, values and per-row problems out; a bad value never raises here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from quatrain.core.errors import BadDataError
from quatrain.fintech.data import kernels
from quatrain.fintech.data.arrays import Array, Mask, from_numpy
from quatrain.fintech.data.pan import masked

MISSING = "missing"
# Reasons, and the rows that have them.
Problems: TypeAlias = "Sequence[tuple[str, Mask]]"
# The model's inputs are float32; a larger number would arrive as infinity.
_LARGEST = float(np.finfo(np.float32).max)
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?(?i:nan|inf|infinity)$"
# Characters of an id; longer ones come from a quote that swallowed other fields, and no ledger would take them.
_LONGEST_ID = 256
# Kept of a rejected value: enough to find it, not a whole swallowed file.
_SHOWN = 100


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """Values (arbitrary where a problem is marked) and, per reason, the rows that have it."""

    values: Array
    problems: tuple[tuple[str, Mask], ...] = ()

    @property
    def is_bad(self) -> Mask:
        """Which rows have a problem."""
        is_bad = np.zeros(len(self.values), dtype=bool)
        for _, mask in self.problems:
            is_bad |= mask
        return is_bad


def shown(array: Array, index: int) -> str | None:
    """Return the beginning of the raw value, long numbers masked, as it stands in a quarantine file."""
    cell = array.slice(index, 1)
    # Nanoseconds are no Python datetime.
    value = (cell.cast(pa.string()) if pa.types.is_timestamp(array.type) else cell)[0].as_py()
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    return None if value is None else masked(str(value))[:_SHOWN]


def parse_id(array: Array, *, is_required: bool, name: str) -> Parsed:
    """Return identifiers as strings; missing ones are a problem only where required."""
    if not (kernels.is_number(array.type) or kernels.is_text(array.type)):
        raise BadDataError(f"column {name} holds {array.type}, expected identifiers: text or whole numbers")
    values = kernels.text(array)
    n_characters = kernels.numbers(kernels.pc.utf8_length(values))
    problems = [
        ("not text in the file's encoding", kernels.undecodable(array)),
        (f"longer than {_LONGEST_ID} characters", n_characters > _LONGEST_ID),
    ]
    if is_required:
        problems.append((MISSING, kernels.nulls(values)))
    return Parsed(values=values, problems=tuple(problems))


def parse_number(array: Array, *, name: str, decimal: str = ".") -> Parsed:
    """Return float64; missing, unreadable, non-finite and too large values are problems.

    Where the decimal mark is a comma, a point is a problem: "1.250" may be a thousand or one and a quarter.
    """
    problems: list[tuple[str, Mask]] = []
    if kernels.is_number(array.type):
        is_missing = kernels.nulls(array)
        numbers = array.cast(pa.float64(), safe=False)
    elif kernels.is_text(array.type):
        strings = kernels.text(array)
        is_missing = kernels.nulls(strings) & ~kernels.undecodable(array)
        numbers = _numbers(strings, decimal=decimal)
        problems.append(("not a number", kernels.nulls(numbers) & ~is_missing))
    else:
        raise BadDataError(f"column {name} holds {array.type}, expected numbers")
    values = kernels.numbers(numbers)
    is_finite = np.isfinite(values)
    problems.append((MISSING, is_missing))
    problems.append(("not a finite number", ~is_finite))
    problems.append(("too large for a 32-bit float", is_finite & (np.abs(values) > _LARGEST)))
    return Parsed(values=from_numpy(values), problems=tuple(problems))


def parse_amount(array: Array, *, name: str, decimal: str = ".") -> Parsed:
    """Return float64 amounts; what parse_number refuses and negative values are problems."""
    parsed = parse_number(array, name=name, decimal=decimal)
    return Parsed(values=parsed.values, problems=(*parsed.problems, ("negative", kernels.numbers(parsed.values) < 0)))


def parse_label(array: Array, *, name: str, is_required: bool = True) -> Parsed:
    """Return booleans from 0/1, true/false and their texts; a missing one is a problem, or null where not required."""
    if kernels.is_number(array.type):
        array = array.cast(pa.float64(), safe=False)
    elif not (kernels.is_text(array.type) or pa.types.is_boolean(array.type)):
        raise BadDataError(f"column {name} holds {array.type}, expected a label: 0 or 1")
    strings: Array = kernels.pc.utf8_lower(kernels.text(array))
    is_one = kernels.is_in(strings, ("1", "1.0", "true"))
    is_known = is_one | kernels.is_in(strings, ("0", "0.0", "-0", "-0.0", "false"))
    is_missing = kernels.nulls(strings) & ~kernels.undecodable(array)
    unknown = ("not 0 or 1", ~is_known & ~is_missing)
    if is_required:
        return Parsed(values=from_numpy(is_one), problems=((MISSING, is_missing), unknown))
    labels: Array = kernels.pc.if_else(from_numpy(is_missing), pa.nulls(len(array), pa.bool_()), from_numpy(is_one))
    return Parsed(values=labels, problems=(unknown,))


def _numbers(strings: Array, *, decimal: str) -> Array:
    if decimal == ",":
        has_point = kernels.matches(strings, r"\.")
        strings = kernels.pc.replace_substring(kernels.only(strings, ~has_point), ",", ".")
    try:
        return _to_float(strings)
    except pa.ArrowInvalid:
        return kernels.cast_each(kernels.only(strings, kernels.matches(strings, _NUMBER)), _to_float)


def _to_float(strings: Array) -> Array:
    return strings.cast(pa.float64())
