"""Past transactions that a model's inputs look back on, as compact Parquet files.

Training leaves the last of its events beside the model it publishes, never inside the bundle: ids
of customers and terminals stay on this machine. Scoring adds the events of each file it scores.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from quatrain.core.config import settings
from quatrain.core.errors import UserError
from quatrain.core.files import sync
from quatrain.fintech.data.arrays import Array, Column, Mask, from_numpy, to_numpy
from quatrain.fintech.data.columns import LABEL, LABELLED_AT, OUTCOME, TYPES
from quatrain.fintech.data.kernels import mask, pc

# Rows of a row group: the unit in which a file is read or left out by its times.
ROW_GROUP_ROWS = 131_072
# What the device graph is made of: who shares what with whom cannot be told from the new file's ids alone.
_GRAPH = ("customer_id", "device_id")
# New rows among which most ids occur: looking for theirs costs more than it saves.
_MANY = 100_000
# Only the user that trains and scores may read who paid whom.
_PRIVATE = 0o600


class JournalError(UserError):
    """Past transactions that are there and cannot be used."""


@dataclass(frozen=True, kw_only=True)
class View:
    """What of the past some new transactions can see: which times, and whose events."""

    since_us: int
    until_us: int
    # The id columns that features read.
    columns: tuple[str, ...]
    # By column, the ids that occur among the new transactions; None looks at everyone's events.
    ids: Mapping[str, Array] | None
    # Whether events of other customers and devices count too, as they do for the device graph.
    is_graph: bool = False

    @classmethod
    def of(cls, rows: pa.Table, columns: Sequence[str], *, horizon_us: int, is_graph: bool = False) -> View:
        """Return what `rows` can see when features read these id columns and look back this far."""
        at = pc.min_max(rows["timestamp"].cast(pa.int64())).as_py()
        present = tuple(name for name in columns if name in rows.column_names)
        ids = {name: _one_array(rows[name].unique().drop_null()) for name in present} if len(rows) < _MANY else None
        return cls(since_us=at["min"] - horizon_us, until_us=at["max"], columns=present, ids=ids, is_graph=is_graph)


def events_of(rows: pa.Table | pa.RecordBatch) -> pa.Table:
    """Return what is kept of transactions: the canonical columns that are there, and no other."""
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
    return table.select([name for name in TYPES if name in table.column_names])


def path_for(model_digest: str) -> Path:
    """Return where the events that a model was trained on last are kept on this machine."""
    return settings().home / "history" / "fintech" / f"{model_digest}.parquet"


def save_for(model_digest: str, rows: pa.Table, *, horizon_us: int | None = None) -> Path:
    """Keep a model's training events for its scoring, and return where; an existing file is replaced whole.

    `rows` have the canonical columns. `horizon_us` is how far the model's inputs look back from
    the newest event; None keeps all.
    """
    table = events_of(rows)
    if horizon_us is not None and len(table):
        at_us = to_numpy(table["timestamp"].cast(pa.int64()))
        table = table.filter(from_numpy(at_us > at_us.max() - horizon_us))
    path = path_for(model_digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        pq.write_table(table.combine_chunks(), part, compression="zstd", row_group_size=ROW_GROUP_ROWS)
    return path


def load_for(model_digest: str, view: View | None = None) -> pa.Table | None:
    """Return the events that `save_for` kept of a model, those in the view if one is given; None where there are none.

    Raises JournalError for a file that cannot be read.
    """
    path = path_for(model_digest)
    if not path.is_file():
        return None
    if view is not None:
        return read_events(path, view)
    with _explained(path):
        return pq.read_table(path, partitioning=None)


def read_events(path: Path, view: View) -> pa.Table:
    """Return a file's events in the view, with the columns that it needs; raises JournalError."""
    wanted = {"transaction_id", "timestamp", "amount", *OUTCOME, *view.columns}
    with _explained(path):
        metadata = pq.read_metadata(path)
        texts = [name for name in view.ids or () if name in metadata.schema.names]
        with pq.ParquetFile(path, metadata=metadata, read_dictionary=texts) as file:
            names = [name for name in file.schema_arrow.names if name in wanted]
            groups = [place for place in range(file.num_row_groups) if _overlaps(metadata.row_group(place), view)]
            # Group by group, so that memory holds what is seen of the past and not the past; none gives no row.
            read = partial(file.read_row_groups, columns=names, use_threads=False)
            parts = [_seen(read([place]), view) for place in groups] or [read([])]
    return pa.concat_tables([part.cast(_plain(part.schema)) for part in parts])


def with_labels(rows: pa.Table, labels: pa.Table | None) -> pa.Table:
    """Return the rows with what `labels` say of their transaction_id: is_fraud and labelled_at.

    Each id may stand in `labels` once. A row that no label speaks of keeps what it had.
    """
    if labels is None or not len(labels) or not len(rows):
        return rows
    place = pc.index_in(rows["transaction_id"], value_set=_one_array(labels["transaction_id"]))
    for name in (LABEL, LABELLED_AT):
        said = _one_array(labels[name]).take(_one_array(place))
        if name in rows.column_names:
            had = rows[name].cast(TYPES[name])
            said = pc.if_else(pc.is_valid(place), said, had)
            rows = rows.set_column(rows.column_names.index(name), name, said)
        else:
            rows = rows.append_column(name, said)
    return rows


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the path of an unfinished file, for the owner only, that takes the place of `path` when whole."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _PRIVATE))
        yield part
        sync(part)
        part.replace(path)
        sync(path.parent)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def _overlaps(group: pq.RowGroupMetaData, view: View) -> bool:
    """Return whether a row group may hold events in the view; without statistics it may."""
    places = {group.column(place).path_in_schema: place for place in range(group.num_columns)}
    found = group.column(places["timestamp"]).statistics
    if found is None or not found.has_min_max:
        return True
    # Microseconds, as this package writes them; a datetime would be made with the help of pandas.
    low, high = (int(str(value)) for value in (found.min_raw, found.max_raw))
    return low <= view.until_us and high > view.since_us


def _seen(rows: pa.Table, view: View) -> pa.Table:
    at_us = to_numpy(rows["timestamp"].cast(pa.int64()))
    is_seen = (at_us > view.since_us) & (at_us <= view.until_us)
    if view.ids is not None:
        is_seen &= _has_key(rows, view, view.ids)
    return rows if is_seen.all() else rows.filter(from_numpy(is_seen))


def _has_key(rows: pa.Table, view: View, ids: Mapping[str, Array]) -> Mask:
    has_key = np.zeros(len(rows), dtype=bool)
    for name, known in ids.items():
        if name in rows.column_names:
            has_key |= _mask(pc.is_in(rows[name], value_set=known))
    if view.is_graph and set(_GRAPH) <= set(rows.column_names):
        has_key |= np.logical_and.reduce([_mask(pc.is_valid(rows[name])) for name in _GRAPH])
    return has_key


def _mask(booleans: Column) -> Mask:
    return mask(_one_array(booleans))


def _plain(schema: pa.Schema) -> pa.Schema:
    """Return the schema with texts in place of dictionaries, whose codes differ from file to file."""
    return pa.schema([(name, TYPES[name]) for name in schema.names])


def _one_array(column: Column) -> Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, KeyError) as error:
        text = str(error).partition("\n")[0][:200]
        raise JournalError(
            f"{path} holds past transactions and cannot be read: {text}; restore it from a backup, or remove it: "
            "then features look back on what else there is"
        ) from error
