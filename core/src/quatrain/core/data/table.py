"""Tabular sets of the catalogue as Arrow tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from quatrain.core.data.catalogue import describe, pull
from quatrain.core.data.descriptor import Descriptor
from quatrain.core.errors import BadDataError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa


def read_table(name: str) -> pa.Table:
    """Return all rows of a CSV or Parquet set under the column names of its descriptor."""
    return read_file(pull(name), describe(name))


def read_file(path: Path, descriptor: Descriptor) -> pa.Table:
    """Return the table in a file that is laid out as the descriptor says.

    Raises BadDataError when the rows or the label are not those of the descriptor.
    """
    table = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path, descriptor)
    if descriptor.n_rows not in {None, table.num_rows}:
        raise BadDataError(f"{path} has {table.num_rows} rows, the catalogue says {descriptor.n_rows}")
    label = descriptor.label
    if label is not None and label.column not in table.column_names:
        raise BadDataError(f"{path} has no label column {label.column!r}, only {', '.join(table.column_names)}")
    return table


def _read_parquet(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(path)


def _read_csv(path: Path, descriptor: Descriptor) -> pa.Table:
    if path.is_dir() or path.suffix not in {".csv", ".data", ".tsv", ".txt"}:
        raise UsageError(f"{descriptor.name} is not a table: {path}")
    from pyarrow import csv

    layout = descriptor.layout
    return csv.read_csv(
        path,
        read_options=csv.ReadOptions(column_names=list(layout.names) or None),
        parse_options=csv.ParseOptions(delimiter=layout.delimiter),
    )
