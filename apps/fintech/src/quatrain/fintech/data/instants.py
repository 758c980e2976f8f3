"""Timestamps of any form in, instants in UTC out."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from quatrain.core.errors import BadDataError
from quatrain.fintech.data import kernels
from quatrain.fintech.data.arrays import Array, Mask, from_numpy
from quatrain.fintech.data.columns import TYPES, TimestampFormat
from quatrain.fintech.data.parse import MISSING, Parsed, parse_number

_DATE_TIME = r"^\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d{1,9})?)?)?$"
_ZONE = r"[T ]\d\d:\d\d.*(Z|[+-]\d\d(:?\d\d)?)$"
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_US = 1_000_000
# Outside these years a timestamp is a default value or a wrong unit, not a card transaction.
_EARLIEST_US = 0
_LATEST_US = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp()) * _US
_OUTSIDE = "outside the years 1970 to 2199"

Problems = list[tuple[str, Mask]]


def parse_timestamp(array: Array, form: TimestampFormat, *, has_zones: bool, name: str, decimal: str = ".") -> Parsed:
    """Return instants in UTC.

    `has_zones` says that some text of the file names its zone: then a text without one is a
    problem, as nobody can tell which zone it means.
    """
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        return _from_datetimes(array, form)
    if not (kernels.is_number(array.type) or kernels.is_text(array.type)):
        raise BadDataError(f"column {name} holds {array.type}, expected dates and times")
    if form.unit is not None:
        return _from_numbers(array, form, name=name, decimal=decimal)
    if kernels.is_number(array.type):
        fix = 'say what they count in columns.toml: [timestamp] unit = "s"'
        raise BadDataError(f"column {name} holds numbers ({array.type}), expected dates and times; {fix}")
    return _from_text(array, form, has_zones=has_zones)


def parse_optional_timestamp(
    array: Array, form: TimestampFormat, *, has_zones: bool, name: str, decimal: str = "."
) -> Parsed:
    """Return instants in UTC as parse_timestamp does, null where the value is missing, which is no problem here."""
    parsed = parse_timestamp(array, form, has_zones=has_zones, name=name, decimal=decimal)
    is_missing = np.zeros(len(array), dtype=bool)
    for reason, mask in parsed.problems:
        is_missing |= mask & (reason == MISSING)
    nothing = pa.nulls(len(array), pa.timestamp("us", tz="UTC"))
    values: Array = kernels.pc.if_else(from_numpy(is_missing), nothing, parsed.values)
    return Parsed(values=values, problems=tuple(each for each in parsed.problems if each[0] != MISSING))


def names_zone(array: Array) -> bool:
    """Return whether any text names its zone, as in 2026-01-31T08:00:00+01:00."""
    return kernels.is_text(array.type) and bool(kernels.matches(kernels.text(array), _ZONE).any())


def _from_datetimes(array: Array, form: TimestampFormat) -> Parsed:
    problems = [(MISSING, kernels.nulls(array))]
    if isinstance(array.type, pa.TimestampType) and array.type.tz is not None:
        return _checked(array.cast(TYPES["timestamp"], safe=False), problems)
    return _from_local(array.cast(pa.timestamp("us"), safe=False), form, problems)


def _from_numbers(array: Array, form: TimestampFormat, *, name: str, decimal: str) -> Parsed:
    per_second = _PER_SECOND[form.unit or "s"]
    parsed = parse_number(array, name=name, decimal=decimal)
    since_us = kernels.numbers(parsed.values) * (_US / per_second)
    # Integers keep their last microsecond, which a float64 of nanoseconds would lose.
    if pa.types.is_integer(array.type) and per_second > _US:
        since_us = kernels.numbers(array) // (per_second // _US)
    is_far = ~(np.abs(since_us) <= _LATEST_US)
    whole_us = np.round(np.where(is_far, 0, since_us)).astype(np.int64)
    instants = from_numpy(whole_us + round(form.origin.timestamp() * _US)).cast(TYPES["timestamp"])
    return _checked(instants, [*parsed.problems, (_OUTSIDE, is_far)])


def _from_text(array: Array, form: TimestampFormat, *, has_zones: bool) -> Parsed:
    # Finer than a microsecond is cut: Arrow refuses more digits than the unit has.
    strings: Array = kernels.pc.replace_substring_regex(kernels.text(array), r"(\.\d{6})\d+", r"\1")
    is_missing = kernels.nulls(strings) & ~kernels.undecodable(array)
    problems: Problems = [(MISSING, is_missing)]
    if form.format is not None:
        naive = kernels.pc.strptime(strings, format=form.format, unit="us", error_is_null=True)
        problems.append((f"not a date and time of the form {form.format}", kernels.nulls(naive) & ~is_missing))
        return _from_local(naive, form, problems)
    is_zoned = kernels.matches(strings, _ZONE)
    is_naive = kernels.matches(strings, _DATE_TIME) & ~is_zoned
    zoned = kernels.cast_each(kernels.only(strings, is_zoned), _to_instants)
    local = _from_local(kernels.cast_each(kernels.only(strings, is_naive), _to_datetimes), form, [])
    instants: Array = kernels.pc.coalesce(zoned, local.values)
    if has_zones:
        problems.append(("no time zone, while other rows of the file have one", is_naive))
    unread = "not an ISO 8601 date and time (numbers need [timestamp] unit)"
    problems.append((unread, kernels.nulls(instants) & ~is_missing))
    return _checked(instants, [*problems, *local.problems])


def _to_instants(strings: Array) -> Array:
    return strings.cast(TYPES["timestamp"])


def _to_datetimes(strings: Array) -> Array:
    return strings.cast(pa.timestamp("us"))


def _from_local(naive: Array, form: TimestampFormat, problems: Problems) -> Parsed:
    """Return instants of local times: the earlier one when clocks went back, a problem when they jumped over it."""
    if form.zone == "UTC":
        return _checked(naive.cast(TYPES["timestamp"]), problems)
    localise = kernels.pc.assume_timezone
    earliest: Array = localise(naive, form.zone, ambiguous="earliest", nonexistent="earliest")
    latest: Array = localise(naive, form.zone, ambiguous="earliest", nonexistent="latest")
    is_skipped = kernels.mask(kernels.pc.not_equal(earliest, latest))
    skipped = (f"a local time that the clocks of {form.zone} skipped", is_skipped)
    return _checked(earliest.cast(TYPES["timestamp"]), [*problems, skipped])


def _checked(instants: Array, problems: Problems) -> Parsed:
    since_us = kernels.numbers(instants.cast(pa.int64()))
    is_outside = (since_us < _EARLIEST_US) | (since_us >= _LATEST_US)
    return Parsed(values=instants, problems=(*problems, (_OUTSIDE, is_outside)))
