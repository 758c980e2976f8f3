"""What scoring reads ahead of the new files: the user's own past transactions, and labels that came since."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from quatrain.core.jobs.feed import Feed
from quatrain.core.jobs.sink import Sink
from quatrain.fintech.data import kernels
from quatrain.fintech.data.arrays import Array, from_numpy
from quatrain.fintech.data.columns import LABEL, LABELLED_AT, TYPES, ColumnMap
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
        source = open_source(file, mapping.csv)
        arrived_us = file.stat().st_mtime_ns // 1_000
        for batch in read_batches(source, layout_for_labels(source, mapping), mapping, reject=sink.reject):
            sink.count(batch.num_rows)
            sink.write(LABELS, _known_since(batch, arrived_us))

    return Feed(inputs=(path,), process=process, digest=_digest("labels", mapping))


def _known_since(batch: pa.RecordBatch, arrived_us: int) -> pa.Table:
    """Return transaction_id, is_fraud and labelled_at, which is the file's arrival where it does not say."""
    known: Array = from_numpy(np.full(batch.num_rows, arrived_us)).cast(TYPES[LABELLED_AT])
    if LABELLED_AT in batch.schema.names:
        known = kernels.pc.coalesce(batch.column(LABELLED_AT), known)
    return pa.table({"transaction_id": batch.column("transaction_id"), LABEL: batch.column(LABEL), LABELLED_AT: known})


def _digest(kind: str, mapping: ColumnMap) -> str:
    text = json.dumps([kind, _VERSION, mapping.model_dump(mode="json")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
