"""Clean transactions from one file, batch by batch; each bad row is rejected with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quatrain.core.errors import BadDataError, nearest
from quatrain.fintech.data import instants, kernels, pan, parse
from quatrain.fintech.data.arrays import Array, Mask, from_numpy
from quatrain.fintech.data.columns import (
    ENTITIES,
    LABEL,
    LABELLED_AT,
    OUTCOME,
    REQUIRED,
    TYPES,
    ColumnMap,
    PanColumns,
    TimestampFormat,
)
from quatrain.fintech.data.pan_guard import REASON, PanGuard, as_written
from quatrain.fintech.data.pan_token import Tokeniser
from quatrain.fintech.data.parse import Parsed
from quatrain.fintech.data.source import RawBatch, Reject, Source
from quatrain.fintech.data.verdict import Verdict

# Characters of the file's digest that made ids start with.
_ID_DIGEST = 12
# How many column names an error shows, and how much of each.
_NAMES_SHOWN = 12
_NAME_SHOWN = 24


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Which column of a file feeds which canonical column, and the extra columns to read."""

    columns: dict[str, str]
    extras: tuple[str, ...]
    unknown: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Every column of the file that is read."""
        return [*self.columns.values(), *self.extras]


def layout_for_training(source: Source, mapping: ColumnMap) -> Layout:
    """Return the layout of a labelled file; a column that the mapping does not cover is refused."""
    mapping = _fitting(mapping, source)
    columns = _columns(source, mapping, wanted=(*REQUIRED, LABEL))
    left_out = {*columns.values(), *mapping.extra.ignore, *mapping.pan.columns}
    rest = [name for name in source.names if name not in left_out]
    if mapping.extra.numeric == "all":
        extras, unknown = _numeric_columns(source, rest)
    else:
        extras = tuple(mapping.extra.numeric)
        unknown = tuple(name for name in rest if name not in extras)
    _require(source, extras)
    if unknown:
        raise BadDataError(
            f"{source.path.name} has columns that the mapping does not cover: {_with_nearest(unknown, TYPES)}; "
            'list them in columns.toml under [extra] as numeric or ignore (numeric = "all" takes every number)'
        )
    return Layout(columns=columns, extras=extras)


def layout_for_model(source: Source, mapping: ColumnMap, *, extras: Sequence[str], has_label: bool = False) -> Layout:
    """Return the layout of a file that has what a trained model needs; other columns are unknown, not fatal.

    The label, and when it became known, are read only where `has_label` says that it must be there.
    """
    mapping = _fitting(mapping, source)
    columns = _columns(source, mapping, wanted=(*REQUIRED, LABEL) if has_label else REQUIRED, extras=extras)
    if not has_label:
        columns = {name: column for name, column in columns.items() if name not in OUTCOME}
    _require(source, extras)
    known = {*columns.values(), *extras, *mapping.extra.ignore, *mapping.pan.columns, *map(mapping.source, OUTCOME)}
    unknown = tuple(name for name in source.names if name not in known)
    return Layout(columns=columns, extras=tuple(extras), unknown=unknown)


def layout_for_labels(source: Source, mapping: ColumnMap) -> Layout:
    """Return the layout of a file that says of earlier transactions whether they were fraud, and if known since when.

    Its columns are called as the mapping calls those of transactions, or by the canonical names. An
    id may come again, corrected.
    """
    mapping = _fitting(mapping, source)
    mapped = {name: mapping.source(name) for name in ("transaction_id", *OUTCOME)}
    columns = {name: column if column in source.names else name for name, column in mapped.items()}
    missing = [name for name in ("transaction_id", LABEL) if columns[name] not in source.names]
    if missing:
        raise BadDataError(
            f"{source.path.name} lacks {_with_nearest(missing, source.names)}, which a file of labels must have; "
            f"it has: {_listed(source.names)}"
        )
    return Layout(columns={name: column for name, column in columns.items() if column in source.names}, extras=())


def read_batches(source: Source, layout: Layout, mapping: ColumnMap, *, reject: Reject) -> Iterator[pa.RecordBatch]:
    """Yield clean rows with the canonical columns that the layout has, then the extras as float64.

    A row is rejected once, for its first problem. A `transaction_id` that the file does not have
    is made of the file's digest and the row number, so a rerun makes the same one. Columns that
    the mapping lists under [pan] come out as tokens. Raises BadDataError when the file is damaged,
    has no rows, a column has a type that cannot hold its values, or one is full of card numbers.
    """
    mapping = _fitting(mapping, source)
    source = source.in_currency(mapping.iso20022.currency)
    reader = _Reader(source, layout, mapping)
    n_rows = 0
    for raw in source.batches(layout.names, reject=reject):
        n_rows += len(raw.rows)
        yield reader.clean(raw, reject)
    if n_rows == 0:
        raise BadDataError(f"{source.path.name} has a header but no readable rows; was the export cut short?")


class SeenIds:
    """The ids met so far in a file, at eight bytes each."""

    def __init__(self) -> None:
        self._runs: list[NDArray[np.int64]] = []

    def repeated(self, ids: Array) -> Mask:
        """Return which of these ids were met before, here or in an earlier call, and remember them all."""
        keys = np.fromiter(map(hash, ids.to_pylist()), dtype=np.int64, count=len(ids))
        order = np.argsort(keys, kind="stable")
        ranked = keys[order]
        is_repeated = np.zeros(len(keys), dtype=bool)
        is_repeated[order[1:]] = ranked[1:] == ranked[:-1]
        for run in self._runs:
            place = np.searchsorted(run, ranked).clip(max=len(run) - 1)
            is_repeated[order] |= run[place] == ranked
        self._remember(ranked[~is_repeated[order]])
        return is_repeated

    def _remember(self, run: NDArray[np.int64]) -> None:
        # Runs double in length, as in a merge sort: few runs to search, each id moved log n times.
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        if len(run):
            self._runs.append(run)


class _Reader:
    def __init__(self, source: Source, layout: Layout, mapping: ColumnMap) -> None:
        self._source = source
        self._layout = layout
        self._mapping = mapping
        self._seen = SeenIds()
        times = [name for name in ("timestamp", LABELLED_AT) if name in layout.columns]
        self._has_zones = {name: _has_zones(source, layout.columns[name]) for name in times}
        self._guard = PanGuard(source.path.name)
        _check_unread(source, layout, mapping, self._guard)
        self._tokenisers = {
            canonical: Tokeniser(name, key_id=mapping.pan.key_id)
            for canonical, name in layout.columns.items()
            if name in mapping.pan.columns
        }
        self._prefix = source.digest()[:_ID_DIGEST] if "transaction_id" not in layout.columns else ""

    def clean(self, raw: RawBatch, reject: Reject) -> pa.RecordBatch:
        """Return the good rows; the others go to `reject`."""
        parsed = {name: self._parse(name, raw) for name in self._layout.columns}
        parsed |= {name: self._parse_extra(name, raw) for name in self._layout.extras}
        verdict = Verdict(raw, reject)
        for name, column in parsed.items():
            column_name = self._layout.columns.get(name, name)
            stored = self._as_stored(raw.columns.column(column_name), column)
            if stored is not None and name not in self._tokenisers:
                verdict.add(column_name, ((REASON, self._guard.pans(column_name, stored)),))
            verdict.add(column_name, column.problems)
        if {LABELLED_AT, "timestamp"} <= parsed.keys():
            is_earlier = kernels.mask(kernels.pc.less(parsed[LABELLED_AT].values, parsed["timestamp"].values))
            verdict.add(self._layout.columns[LABELLED_AT], (("earlier than the transaction", is_earlier),))
        if {"transaction_id", "timestamp"} <= parsed.keys():
            good = np.flatnonzero(verdict.is_good)
            is_repeated = np.zeros(len(raw.rows), dtype=bool)
            is_repeated[good] = self._seen.repeated(parsed["transaction_id"].values.take(from_numpy(good)))
            verdict.add(self._layout.columns["transaction_id"], (("repeated in this file", is_repeated),))
        verdict.deliver()
        values = {name: column.values for name, column in parsed.items()}
        if "transaction_id" not in values:
            values["transaction_id"] = self._made_ids(raw.rows)
        ordered = [name for name in (*TYPES, *self._layout.extras) if name in values]
        batch = pa.RecordBatch.from_arrays([values[name] for name in ordered], names=ordered)
        return batch if verdict.is_good.all() else batch.filter(from_numpy(verdict.is_good))

    def _parse(self, canonical: str, raw: RawBatch) -> Parsed:
        name = self._layout.columns[canonical]
        array = raw.columns.column(name)
        decimal = self._mapping.csv.decimal
        if canonical in self._has_zones:
            read = instants.parse_timestamp if canonical == "timestamp" else instants.parse_optional_timestamp
            has_zones = self._has_zones[canonical]
            return read(array, self._mapping.timestamp, has_zones=has_zones, name=name, decimal=decimal)
        if canonical == "amount":
            return parse.parse_amount(array, decimal=decimal, name=name)
        if canonical == LABEL:
            return parse.parse_label(array, name=name, is_required=self._mapping.label.missing == "bad")
        parsed = parse.parse_id(array, is_required=canonical == "transaction_id", name=name)
        if canonical in self._tokenisers:
            return Parsed(values=self._tokenisers[canonical].tokens(parsed.values), problems=parsed.problems)
        return parsed

    def _parse_extra(self, name: str, raw: RawBatch) -> Parsed:
        return parse.parse_number(raw.columns.column(name), decimal=self._mapping.csv.decimal, name=name)

    def _as_stored(self, raw: Array, parsed: Parsed) -> Array | None:
        """Return the values of a column that would be stored and may be card numbers, None where none can."""
        if pa.types.is_integer(raw.type):
            return raw
        if pa.types.is_string(parsed.values.type):
            return kernels.only(parsed.values, ~parsed.is_bad) if parsed.is_bad.any() else parsed.values
        if pa.types.is_timestamp(parsed.values.type):
            return raw if self._mapping.timestamp.unit is not None and kernels.is_text(raw.type) else None
        if not pa.types.is_floating(parsed.values.type):
            return None
        is_exact = float(np.abs(kernels.numbers(parsed.values)).max(initial=0)) < pan.EXACT
        return parsed.values if is_exact else raw

    def _made_ids(self, rows: NDArray[np.int64]) -> Array:
        return kernels.numbered(f"{self._prefix}-", from_numpy(rows), width=9)


def _fitting(mapping: ColumnMap, source: Source) -> ColumnMap:
    """Return the mapping as it applies to the source: a payment message has canonical names and its own forms."""
    if source.kind != "iso20022":
        return mapping
    ids = ("transaction_id", *ENTITIES)
    listed = tuple(name for name in ids if {name, mapping.source(name)} & set(mapping.pan.columns))
    return ColumnMap(
        timestamp=TimestampFormat(zone=mapping.timestamp.zone),
        label=mapping.label,
        pan=PanColumns(columns=listed, key_id=mapping.pan.key_id),
        iso20022=mapping.iso20022,
    )


def _check_unread(source: Source, layout: Layout, mapping: ColumnMap, guard: PanGuard) -> None:
    """Refuse a file whose first rows show card numbers in a column that is not read."""
    names = [name for name in source.names if name not in layout.names and name not in mapping.pan.columns]
    first = next(source.batches(names), None) if names else None
    if first is None:
        return
    for name in names:
        guard.pans(name, as_written(first.columns.column(name)))


def _columns(
    source: Source, mapping: ColumnMap, *, wanted: Sequence[str], extras: Sequence[str] = ()
) -> dict[str, str]:
    # The outcome may be named in a mapping and absent from a file that is only scored.
    named = [name for name in mapping.columns if name not in OUTCOME or LABEL in wanted]
    needed = {name: mapping.source(name) for name in TYPES if name in wanted or name in named}
    missing = [name for name in needed.values() if name not in source.names]
    if missing:
        raise BadDataError(
            f"{source.path.name} lacks {_with_nearest(missing, source.names)}; "
            f"it has: {_listed(source.names)}. Map its names to ours in a columns.toml and pass it with --columns"
        )
    taken = {*needed.values(), *extras, *mapping.extra.ignore}
    optional = {name: name for name in TYPES if name not in needed and name in source.names and name not in taken}
    return needed | optional


def _require(source: Source, extras: Sequence[str]) -> None:
    missing = [name for name in extras if name not in source.names]
    if missing:
        raise BadDataError(
            f"{source.path.name} lacks the extra columns {_with_nearest(missing, source.names)}; "
            f"it has: {_listed(source.names)}"
        )


def _listed(names: Sequence[str]) -> str:
    """Return the first names, each cut: a file without a header has its first row here."""
    shown = [name if len(name) <= _NAME_SHOWN else f"{name[:_NAME_SHOWN]}…" for name in names[:_NAMES_SHOWN]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _with_nearest(names: Sequence[str], known: Iterable[str]) -> str:
    matches = {name: nearest(name, known) for name in names}
    return ", ".join(f"{name} (near: {match})" if match else name for name, match in matches.items())


def _numeric_columns(source: Source, names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return (columns whose first values are mostly numbers, the others)."""
    if not names:
        return (), ()
    first = next(source.batches(names), None)
    if first is None:
        return tuple(names), ()
    numeric = [name for name in names if _is_mostly_numbers(first.columns.column(name), source)]
    return tuple(numeric), tuple(name for name in names if name not in numeric)


def _is_mostly_numbers(array: Array, source: Source) -> bool:
    if not kernels.is_text(array.type):
        return kernels.is_number(array.type)
    parsed = parse.parse_number(array, decimal=source.csv_format.decimal, name="")
    masks = dict(parsed.problems)
    n_present = len(array) - int(masks["missing"].sum())
    return n_present > 0 and int(masks["not a number"].sum()) * 2 < n_present


def _has_zones(source: Source, name: str) -> bool:
    """Return whether any row's timestamp names its zone: one more pass, over one text column only."""
    for raw in source.batches([name]):
        array = raw.columns.column(name)
        if not kernels.is_text(array.type):
            return False
        if instants.names_zone(array):
            return True
    return False
