"""Labelled transactions as one table in time order, and its split into past and future."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quatrain.core.errors import BadDataError
from quatrain.fintech.data import kernels
from quatrain.fintech.data.arrays import from_numpy, to_numpy
from quatrain.fintech.data.columns import LABEL, LABELLED_AT, ColumnMap
from quatrain.fintech.data.read import Layout, layout_for_model, layout_for_training, read_batches
from quatrain.fintech.data.source import Source, open_source

PATTERNS = ("*.csv", "*.parquet", "*.xml")
_LOG = logging.getLogger(__name__)
_DAY_US = 86_400_000_000


@dataclass
class Rejections:
    """Counts rejected rows by reason, keeping the first few as examples."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, object]] = field(default_factory=list)

    def __call__(self, *, row: int, reason: str, column: str | None = None, value: str | None = None) -> None:
        """Count one rejected row."""
        where = f"{column}: {reason}" if column else reason
        if self.counts[where] == 0:
            self.examples.append({"row": row, "reason": reason, "column": column, "value": value})
        self.counts[where] += 1

    @property
    def total(self) -> int:
        """How many rows were rejected."""
        return self.counts.total()


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Labelled transactions in the order (timestamp, transaction_id)."""

    table: pa.Table
    extras: tuple[str, ...]
    # sha256 over the files' sha256s.
    digest: str
    rejections: Rejections
    is_synthetic: bool

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.table)

    @property
    def label(self) -> NDArray[np.bool_]:
        """Whether each row is fraud; False where nobody said."""
        return to_numpy(kernels.pc.fill_null(self.table[LABEL], fill_value=False))

    @property
    def is_labelled(self) -> NDArray[np.bool_]:
        """Whether somebody said what each row is; the others are history only."""
        return to_numpy(kernels.pc.is_valid(self.table[LABEL]))

    def label_known(self, by_us: int, *, delay_us: int) -> NDArray[np.bool_]:
        """Whether each row was known to be fraud at that moment; a fraud reported later passes for legitimate.

        A label is known at `labelled_at`, or where the data does not say when, `delay_us` after the row.
        """
        known_us = self.timestamp_us + delay_us
        if LABELLED_AT in self.table.column_names:
            given = self.table[LABELLED_AT].cast(pa.int64())
            known_us = to_numpy(kernels.pc.coalesce(given, from_numpy(known_us)))
        return np.asarray(self.label & (known_us <= by_us))

    @property
    def amount(self) -> NDArray[np.float64]:
        """The amount of each row."""
        return to_numpy(self.table["amount"])

    @property
    def timestamp_us(self) -> NDArray[np.int64]:
        """Microseconds since 1970 of each row."""
        return to_numpy(self.table["timestamp"].cast(pa.int64()))


@dataclass(frozen=True, kw_only=True)
class Split:
    """Where each part lies in a table in time order; between two parts are rows whose label came too late."""

    train: slice
    valid: slice
    test: slice

    @property
    def known(self) -> slice:
        """Every row whose label was known when the test began: what the final model learns from."""
        return slice(0, self.valid.stop)

    @property
    def waiting(self) -> slice:
        """The rows before the test whose label was not known yet."""
        return slice(self.valid.stop, self.test.start)


def load_labelled(
    path: Path, mapping: ColumnMap, *, extras: Sequence[str] | None = None, max_bad_ratio: float = 0.05
) -> Labelled:
    """Return a file's or folder's labelled rows.

    `extras` None takes the extra columns of the mapping, as training does; a trained model knows
    which it needs, and then other columns are left out. Raises BadDataError when more than
    `max_bad_ratio` of the rows are bad, naming the reasons.
    """
    rejections = Rejections()
    tables, digests, layouts, synthetic = [], [], [], []
    for file in files_of(path):
        source = open_source(file, mapping.csv)
        layout = _layout(source, mapping, extras)
        tables.append(pa.Table.from_batches(list(read_batches(source, layout, mapping, reject=rejections))))
        digests.append(source.digest())
        layouts.append(layout)
        synthetic.append(source.is_synthetic)
    _check_alike(layouts, path)
    table = pa.concat_tables(tables).sort_by([("timestamp", "ascending"), ("transaction_id", "ascending")])
    table = _drop_repeated(table.combine_chunks(), rejections) if len(tables) > 1 else table.combine_chunks()
    _check_ratio(rejections, len(table), max_bad_ratio=max_bad_ratio, path=path)
    return Labelled(
        table=table,
        extras=layouts[0].extras,
        digest=hashlib.sha256("".join(digests).encode()).hexdigest(),
        rejections=rejections,
        is_synthetic=any(synthetic),
    )


def files_of(path: Path) -> list[Path]:
    """Return the file itself, or a folder's files of known kinds by name; raises BadDataError when there are none."""
    if not path.is_dir():
        return [path]
    found = sorted({file for pattern in PATTERNS for file in path.glob(pattern)})
    if not found:
        raise BadDataError(f"{path} holds no file like {' or '.join(PATTERNS)}")
    return found


def split_by_time(
    timestamp_us: NDArray[np.int64], *, test_share: float, valid_share: float, delay_us: int = 0
) -> Split:
    """Return the last `test_share` of the rows as test, and of what is known before it the last `valid_share` as valid.

    A random split would let the model see the future. Where labels come late, the rows of the last
    `delay_us` before a part are left out of the one before it: nobody knew yet what they were. Rows
    of one instant stay together, in the later part. Raises BadDataError when a part would be empty.
    """
    n_rows = len(timestamp_us)
    test = _cut(timestamp_us, int((1 - test_share) * n_rows))
    known = _matured(timestamp_us, before=test, delay_us=delay_us)
    valid = _cut(timestamp_us[:known], int((1 - valid_share) * known))
    train = _matured(timestamp_us, before=valid, delay_us=delay_us)
    if not 0 < train <= valid < known <= test < n_rows:
        advice = f"; labels that come {delay_us / _DAY_US:g} days late take rows from each part" if delay_us else ""
        raise BadDataError(
            f"{n_rows} rows cannot be split by time into three parts; more rows or instants are needed{advice}"
        )
    return Split(train=slice(0, train), valid=slice(valid, known), test=slice(test, n_rows))


def time_folds(
    timestamp_us: NDArray[np.int64], *, n_folds: int, first_share: float, delay_us: int = 0
) -> Iterator[tuple[slice, slice]]:
    """Yield (train, valid) of an expanding window: each fold is validated on what came right after its past.

    The first fold's past is `first_share` of the rows; the validation parts cover the rest in equal
    steps. The rows of the last `delay_us` of a past are left out: their labels were not known.
    """
    n_rows = len(timestamp_us)
    edges = np.linspace(first_share, 1, n_folds + 1)
    cuts = [*(_cut(timestamp_us, int(edge * n_rows)) for edge in edges[:-1]), n_rows]
    for begin, end in itertools.pairwise(cuts):
        known = _matured(timestamp_us, before=begin, delay_us=delay_us)
        if 0 < known <= begin < end:
            yield slice(0, known), slice(begin, end)


def _layout(source: Source, mapping: ColumnMap, extras: Sequence[str] | None) -> Layout:
    if extras is None:
        return layout_for_training(source, mapping)
    return layout_for_model(source, mapping, extras=extras, has_label=True)


def _matured(timestamp_us: NDArray[np.int64], *, before: int, delay_us: int) -> int:
    """Return how many rows had their label when row `before` came."""
    if before >= len(timestamp_us):
        return before
    return min(int(np.searchsorted(timestamp_us, timestamp_us[before] - delay_us, side="left")), before)


def _cut(timestamp_us: NDArray[np.int64], row: int) -> int:
    if row >= len(timestamp_us):
        return len(timestamp_us)
    return int(np.searchsorted(timestamp_us, timestamp_us[row], side="left"))


def _check_alike(layouts: Sequence[Layout], path: Path) -> None:
    for layout in layouts[1:]:
        if (set(layout.columns), layout.extras) != (set(layouts[0].columns), layouts[0].extras):
            raise BadDataError(f"the files of {path} have different columns: {layouts[0].names} and {layout.names}")


def _drop_repeated(table: pa.Table, rejections: Rejections) -> pa.Table:
    """Return the sorted rows without those that several files hold: they would count twice in every measure."""
    if not len(table):
        return table
    n_pairs = len(table) - 1
    same_id, same_time = (
        kernels.mask(kernels.pc.equal(table[name].slice(0, n_pairs), table[name].slice(1)))
        for name in ("transaction_id", "timestamp")
    )
    is_repeated = np.concatenate([[False], same_id & same_time])
    n_repeated = int(is_repeated.sum())
    if n_repeated:
        rejections.counts["transaction_id: repeated in another file"] += n_repeated
    return table.filter(from_numpy(~is_repeated)).combine_chunks()


def _check_ratio(rejections: Rejections, n_good: int, *, max_bad_ratio: float, path: Path) -> None:
    if not rejections.total:
        return
    ratio = rejections.total / (rejections.total + n_good)
    reasons = ", ".join(f"{reason} ({count})" for reason, count in rejections.counts.most_common(5))
    text = f"{path.name}: {rejections.total} of {rejections.total + n_good} rows are bad: {reasons}"
    if ratio > max_bad_ratio:
        example = "".join(f"; first: row {e['row']}, {e['value']!r}" for e in rejections.examples[:1])
        raise BadDataError(f"{text}{example}; at most {max_bad_ratio:.0%} may be")
    _LOG.warning(text)
