"""What scoring reads ahead of the new files: the user's own past transactions, and labels that came since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from quatrain.core.errors import BadDataError
from quatrain.core.jobs.feed import Feed
from quatrain.core.jobs.sink import Sink
from quatrain.fintech.data import instants, kernels, parse
from quatrain.fintech.data.arrays import Array, Mask, from_numpy
from quatrain.fintech.data.columns import LABEL, LABELLED_AT, TYPES, ColumnMap
from quatrain.fintech.data.parse import Parsed
from quatrain.fintech.data.read import layout_for_model, read_batches
from quatrain.fintech.data.source import RawBatch, Source, open_source
from quatrain.fintech.journal import events_of
from quatrain.fintech.score.past import GIVEN, LABELS

# Part of the units' keys: raise it when the same file should give other output.
_VERSION = 1


def past_transactions(path: Path, mapping: ColumnMap) -> Feed:
    """Return the feed of a file or folder of transactions, labelled or not; each file is converted once.

    A file that cannot be used ends the run: scored without its past, the new files would keep
    what they got.
    """

    def process(file: Path, sink: Sink) -> None:
        source = open_source(file, mapping.csv)
        has_label = mapping.source(LABEL) in source.names
        unlabelled_too = mapping.model_copy(update={"label": mapping.label.model_copy(update={"missing": "unknown"})})
        layout = layout_for_model(source, unlabelled_too, extras=(), has_label=has_label)
        for batch in read_batches(source, layout, unlabelled_too, reject=sink.reject):
            sink.count(batch.num_rows)
            sink.write(GIVEN, events_of(batch))

    return Feed(inputs=(path,), process=process, digest=_digest("past", mapping), is_required=True)


def labels(path: Path, mapping: ColumnMap) -> Feed:
    """Return the feed of a file or folder of labels: transaction_id, is_fraud and, where known, labelled_at.

    A label that does not say since when it is known counts from when its file was last modified.
    """

    def process(file: Path, sink: Sink) -> None:
        reader = _LabelReader(open_source(file, mapping.csv), mapping)
        for table in reader.tables(sink):
            sink.write(LABELS, table)

    return Feed(inputs=(path,), process=process, digest=_digest("labels", mapping))


class _LabelReader:
    """Reads one file of labels."""

    def __init__(self, source: Source, mapping: ColumnMap) -> None:
        self._source = source
        self._mapping = mapping
        self._columns = {name: _name_in(source, mapping, name) for name in ("transaction_id", LABEL, LABELLED_AT)}
        missing = [name for name in ("transaction_id", LABEL) if self._columns[name] not in source.names]
        if missing:
            raise BadDataError(
                f"{source.path.name} lacks {', '.join(missing)}, which a file of labels must have; "
                f"it has: {', '.join(source.names[:12])}"
            )
        self._arrived_us = source.path.stat().st_mtime_ns // 1_000

    def tables(self, sink: Sink) -> Iterator[pa.Table]:
        """Yield the good rows; the others go to quarantine."""
        names = [name for name in self._columns.values() if name in self._source.names]
        for raw in self._source.batches(names, reject=sink.reject):
            parsed = {name: self._parse(name, raw) for name, column in self._columns.items() if column in names}
            is_good = self._checked(parsed, raw, sink)
            sink.count(int(is_good.sum()))
            yield self._table(parsed).filter(from_numpy(is_good))

    def _parse(self, name: str, raw: RawBatch) -> Parsed:
        column = self._columns[name]
        array = raw.columns.column(column)
        if name == LABEL:
            return parse.parse_label(array, name=column)
        if name == LABELLED_AT:
            form, decimal = self._mapping.timestamp, self._mapping.csv.decimal
            return instants.parse_optional_timestamp(array, form, has_zones=False, name=column, decimal=decimal)
        return parse.parse_id(array, is_required=True, name=column)

    def _checked(self, parsed: dict[str, Parsed], raw: RawBatch, sink: Sink) -> Mask:
        is_good = np.ones(len(raw.rows), dtype=bool)
        for name, column in parsed.items():
            for reason, is_bad in column.problems:
                for row in np.flatnonzero(is_bad & is_good):
                    value = parse.shown(raw.columns.column(self._columns[name]), int(row))
                    sink.reject(row=int(raw.rows[row]), reason=reason, column=self._columns[name], value=value)
                is_good &= ~is_bad
        return is_good

    def _table(self, parsed: dict[str, Parsed]) -> pa.Table:
        n_rows = len(parsed["transaction_id"].values)
        arrived: Array = from_numpy(np.full(n_rows, self._arrived_us)).cast(TYPES[LABELLED_AT])
        known = kernels.pc.coalesce(parsed[LABELLED_AT].values, arrived) if LABELLED_AT in parsed else arrived
        columns = {"transaction_id": parsed["transaction_id"].values, LABEL: parsed[LABEL].values, LABELLED_AT: known}
        return pa.table(columns)


def _name_in(source: Source, mapping: ColumnMap, name: str) -> str:
    """Return what the file calls a column: what transaction files call it, or its own name."""
    mapped = mapping.source(name)
    return mapped if mapped in source.names else name


def _digest(kind: str, mapping: ColumnMap) -> str:
    text = json.dumps([kind, _VERSION, mapping.model_dump(mode="json")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
