"""A file's columns of any type as numbers, codes or instants, so that what they give away can be measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quatrain.fintech.data import instants, kernels, parse
from quatrain.fintech.data.arrays import Array, to_numpy
from quatrain.fintech.data.columns import TimestampFormat
from quatrain.fintech.metrics.scored import Floats, Ints

# A text column is numbers or instants where this share of what it holds reads so.
_MOSTLY = 0.9
# Texts with a code of their own, the most frequent first; the others share one.
_MAX_CODES = 500
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
# Whole numbers are instants since 1970 where they are this close to the data's own time: six years.
_NEAR_S = 6 * 365 * 86_400
# Characters of an id that may tell where it was made.
_PREFIX = 2


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """One column of the rows in time order."""

    name: str
    is_missing: NDArray[np.bool_]
    # Numbers, NaN where missing; None for texts.
    values: Floats | None = None
    # Numbers that stand for texts; None for numbers.
    codes: Ints | None = None
    # Seconds since 1970, NaN where missing; None where the column holds no instants.
    at_s: Floats | None = None

    def is_filled(self) -> NDArray[np.bool_]:
        """Return where the column holds something else than its most frequent value."""
        of_rows = self.codes if self.codes is not None else self.values
        if of_rows is None:
            return ~self.is_missing
        distinct, place, count = np.unique(of_rows[~self.is_missing], return_inverse=True, return_counts=True)
        filled = np.zeros(len(self.is_missing), dtype=bool)
        if len(distinct):
            filled[~self.is_missing] = place != count.argmax()
        return filled


def suspect(name: str, array: Array, *, around_s: tuple[float, float], decimal: str = ".") -> Suspect:
    """Return a column; `around_s` is when the data begins and ends, in seconds since 1970."""
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int8())
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        return _instants(name, array, is_missing=kernels.nulls(array))
    if kernels.is_number(array.type):
        values = to_numpy(array.cast(pa.float64(), safe=False).fill_null(np.nan))
        is_missing = np.isnan(values)
        return Suspect(name=name, is_missing=is_missing, values=values, at_s=_counted(values, around_s))
    if not kernels.is_text(array.type):
        return Suspect(name=name, is_missing=kernels.nulls(array))
    return _text(name, array, around_s, decimal)


def id_suspect(name: str, array: Array) -> Suspect:
    """Return what an id gives away besides whose it is: its length and its first characters."""
    kind = kernels.pc.utf8_length(array).cast(pa.string())
    prefix = kernels.pc.utf8_slice_codeunits(array, 0, _PREFIX)
    joined: Array = kernels.pc.binary_join_element_wise(kind, prefix, "-")
    return Suspect(name=name, is_missing=kernels.nulls(array), codes=_codes(joined))


def _text(name: str, array: Array, around_s: tuple[float, float], decimal: str) -> Suspect:
    strings = kernels.text(array)
    is_missing = kernels.nulls(strings)
    n_present = int((~is_missing).sum())
    parsed = parse.parse_number(strings, name=name, decimal=decimal)
    is_bad = np.any([mask for _, mask in parsed.problems], axis=0)
    if n_present and (~is_bad).sum() >= _MOSTLY * n_present:
        values = np.where(is_bad, np.nan, kernels.numbers(parsed.values))
        return Suspect(name=name, is_missing=is_missing, values=values, at_s=_counted(values, around_s))
    has_zones = instants.names_zone(strings)
    times = instants.parse_optional_timestamp(strings, TimestampFormat(), has_zones=has_zones, name=name)
    is_unread = np.any([mask for _, mask in times.problems], axis=0)
    if n_present and (~is_unread & ~is_missing).sum() >= _MOSTLY * n_present:
        return _instants(name, times.values, is_missing=is_unread | is_missing)
    return Suspect(name=name, is_missing=is_missing, codes=_codes(strings))


def _instants(name: str, array: Array, *, is_missing: NDArray[np.bool_]) -> Suspect:
    since_us = kernels.numbers(array.cast(pa.timestamp("us"), safe=False).cast(pa.int64()))
    at_s = np.where(is_missing, np.nan, since_us / 1e6)
    return Suspect(name=name, is_missing=is_missing, values=at_s, at_s=at_s)


def _counted(values: Floats, around_s: tuple[float, float]) -> Floats | None:
    """Return instants that are written as numbers since 1970, None where the numbers are no such thing."""
    present = values[~np.isnan(values) & (values > 0)]
    if not len(present):
        return None
    for per_second in _PER_SECOND.values():
        at_s = present / per_second
        if ((at_s > around_s[0] - _NEAR_S) & (at_s < around_s[1] + _NEAR_S)).mean() >= _MOSTLY:
            return np.where(values > 0, values / per_second, np.nan)
    return None


def _codes(strings: Array) -> Ints:
    """Return a number for each text, the most frequent first, 0 for the missing and one for all rare ones."""
    encoded = strings.dictionary_encode()
    place = to_numpy(encoded.indices.fill_null(-1)).astype(np.int64)
    count = np.bincount(place[place >= 0], minlength=len(encoded.dictionary))
    rank = np.empty(len(count), dtype=np.int64)
    rank[np.argsort(-count, kind="stable")] = np.arange(len(count))
    codes = np.zeros(len(place), dtype=np.int64)
    codes[place >= 0] = 1 + np.minimum(rank[place[place >= 0]], _MAX_CODES)
    return codes


def subsecond(timestamp_us: Ints) -> Floats:
    """Return how finely a row's instant is given: 0 for whole minutes, 1 for whole seconds, 2 for parts of one."""
    is_minute, is_second = timestamp_us % 60_000_000 == 0, timestamp_us % 1_000_000 == 0
    return np.where(is_minute, 0.0, np.where(is_second, 1.0, 2.0))
