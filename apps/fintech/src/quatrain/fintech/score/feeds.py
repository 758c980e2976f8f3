"""What scoring reads ahead of the new files: the user's own past transactions, and labels that came since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from quatrain.core.jobs.feed import Feed
from quatrain.core.jobs.sink import Sink
from quatrain.fintech.data.arrays import from_numpy
from quatrain.fintech.data.columns import LABEL, LABELLED_AT, TYPES, ColumnMap, LabelFormat
from quatrain.fintech.data.kernels import pc
from quatrain.fintech.data.read import layout_for_labels, layout_for_model, read_batches
from quatrain.fintech.data.source import open_source
from quatrain.fintech.journal import events_of
from quatrain.fintech.score.past import GIVEN, LABELS

# Part of the units' keys: raise it when the same file should give other output.
_VERSION = 1


def past_transactions(path: Path, mapping: ColumnMap) -> Feed:
    """Return the feed of a file or folder of transactions, labelled or not; each file is converted once.

    A file that cannot be used ends the run: scored without its past, the new files would keep
    what they got.
    """
    some_labelled = mapping.model_copy(update={"label": LabelFormat(missing="unknown")})

    def process(file: Path, sink: Sink) -> None:
        source = open_source(file, mapping.csv)
        has_label = mapping.source(LABEL) in source.names
        layout = layout_for_model(source, some_labelled, extras=(), has_label=has_label)
        for batch in read_batches(source, layout, some_labelled, reject=sink.reject):
            sink.count(batch.num_rows)
            sink.write(GIVEN, events_of(batch))

    return Feed(inputs=(path,), process=process, digest=_digest("past", mapping), is_required=True)


def labels(path: Path, mapping: ColumnMap) -> Feed:
    """Return the feed of a file or folder of labels: transaction_id, is_fraud and, where known, labelled_at.

    A label that does not say since when it is known counts from when its file was last modified.
    Of an id that comes again in a file the last row counts.
    """
    all_labelled = mapping.model_copy(update={"label": LabelFormat(missing="bad")})

    def process(file: Path, sink: Sink) -> None:
        source = open_source(file, mapping.csv)
        layout = layout_for_labels(source, all_labelled)
        batches = list(_counted(read_batches(source, layout, all_labelled, reject=sink.reject), sink))
        sink.write(LABELS, _last_of_each(_dated(pa.Table.from_batches(batches), file)))

    return Feed(inputs=(path,), process=process, digest=_digest("labels", mapping))


def _counted(batches: Iterator[pa.RecordBatch], sink: Sink) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        sink.count(batch.num_rows)
        yield batch


def _dated(rows: pa.Table, file: Path) -> pa.Table:
    arrived = from_numpy(np.full(len(rows), file.stat().st_mtime_ns // 1_000)).cast(TYPES[LABELLED_AT])
    if LABELLED_AT in rows.column_names:
        arrived = pc.coalesce(rows[LABELLED_AT].combine_chunks(), arrived)
    return rows.select(["transaction_id", LABEL]).append_column(LABELLED_AT, arrived)


def _last_of_each(rows: pa.Table) -> pa.Table:
    placed = rows.append_column("place", from_numpy(np.arange(len(rows))))
    last = placed.group_by("transaction_id").aggregate([("place", "max")])["place_max"]
    # In the order of the file, so that the same file gives the same bytes.
    return rows.take(last.take(pc.sort_indices(last)))


def _digest(kind: str, mapping: ColumnMap) -> str:
    text = json.dumps([kind, _VERSION, mapping.model_dump(mode="json")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
