"""Rows, and the history before them, to the matrix that a model reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quatrain.core.errors import BadDataError
from quatrain.fintech.data.arrays import to_numpy
from quatrain.fintech.features.names import LABEL_DELAY_US, entities, parse
from quatrain.fintech.features.row import fill_rows


def build(
    rows: pa.Table | pa.RecordBatch,
    names: Sequence[str],
    *,
    history: pa.Table | None = None,
    label_delay_us: int = LABEL_DELAY_US,
) -> NDArray[np.float32]:
    """Return model inputs, float32 of shape (len(rows), len(names)), in the order of `rows`.

    `rows` and `history` have the canonical columns and may come in any order; together they are
    the events that features look back on, each row seeing what is before it only. A row of
    `rows` that `history` holds too (same timestamp and transaction_id) is one event. Raises
    BadDataError for an id column that the names need and `rows` does not have.
    """
    matrix = np.empty((rows.num_rows, len(names)), dtype=np.float32)  # (n, F)
    of_history = {name: place for place, name in enumerate(names) if parse(name) is not None}
    of_row = {name: place for place, name in enumerate(names) if name not in of_history}
    if of_row:
        fill_rows(matrix, of_row, rows, to_numpy(rows.column("timestamp").cast(pa.int64())))
    if of_history:
        matrix[:, list(of_history.values())] = _history(rows, list(of_history), history, label_delay_us)
    return matrix


def reference_values(matrix: NDArray[np.float32], names: Sequence[str]) -> dict[str, float]:
    """Return the median of each input: what a usual transaction looks like."""
    medians = np.median(matrix, axis=0)
    return {name: float(value) for name, value in zip(names, medians, strict=True)}


def _history(
    rows: pa.Table | pa.RecordBatch, names: Sequence[str], history: pa.Table | None, label_delay_us: int
) -> NDArray[np.float32]:
    # Importing the kernels takes most of a second, which a model without history features should not pay.
    from quatrain.fintech.features.events import events_of
    from quatrain.fintech.features.offline import matrix

    table = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
    columns = entities(names)
    missing = [column for column in columns if column not in table.column_names]
    if missing:
        raise BadDataError(f"the model's history features need {', '.join(missing)}, which the rows do not have")
    # The first of two equal rows counts: history knows labels that a new row cannot.
    tables = [table] if history is None else [history, table]
    events, place = events_of(tables, columns, label_delay_us=label_delay_us)
    return matrix(events, names, label_delay_us)[place[len(place) - len(table) :]]
