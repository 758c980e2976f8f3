"""Rows, and the history before them, to the matrix that a model reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quatrain.core.errors import BadDataError
from quatrain.fintech.data.arrays import to_numpy
from quatrain.fintech.features.names import LABEL_DELAY_US, Feature, entities, parse
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
    `rows` that `history` holds too (same timestamp and transaction_id) is one event, and history's
    label of it counts. Raises BadDataError for an id column that the names need and `rows` does not
    have; where `history` lacks one it is missing.
    """
    matrix = np.empty((rows.num_rows, len(names)), dtype=np.float32)  # (n, F)
    of_history = {place: feature for place, name in enumerate(names) if (feature := parse(name)) is not None}
    of_row = {name: place for place, name in enumerate(names) if place not in of_history}
    if of_row:
        fill_rows(matrix, of_row, rows, to_numpy(rows.column("timestamp").cast(pa.int64())))
    if of_history:
        _fill_history(matrix, of_history, rows, history, label_delay_us)
    return matrix


def reference_values(matrix: NDArray[np.float32], names: Sequence[str]) -> dict[str, float]:
    """Return the median of each input: what a usual transaction looks like."""
    medians = np.median(matrix, axis=0)
    return {name: float(value) for name, value in zip(names, medians, strict=True)}


def _fill_history(
    matrix: NDArray[np.float32],
    placed: Mapping[int, Feature],
    rows: pa.Table | pa.RecordBatch,
    history: pa.Table | None,
    label_delay_us: int,
) -> None:
    # Importing the kernels takes most of a second, which a model without history features should not pay.
    from quatrain.fintech.features.events import events_of
    from quatrain.fintech.features.offline import fill

    table = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
    columns = entities(feature.name for feature in placed.values())
    missing = [column for column in columns if column not in table.column_names]
    if missing:
        raise BadDataError(f"the model's history features need {', '.join(missing)}, which the rows do not have")
    # The first of two equal rows counts: history knows labels that a new row cannot.
    tables = [table] if history is None else [history, table]
    events, place = events_of(tables, columns, label_delay_us=label_delay_us)
    place = place[len(place) - len(table) :]
    if np.array_equal(place, np.arange(len(events))):
        fill(matrix, placed, events, label_delay_us)
        return
    values = np.empty((len(events), len(placed)), dtype=np.float32)
    fill(values, dict(enumerate(placed.values())), events, label_delay_us)
    matrix[:, list(placed)] = values[place]
