"""What a model reads of the rows of a file, some rows at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quatrain.core.errors import BadDataError
from quatrain.fintech.data.arrays import to_numpy
from quatrain.fintech.features.names import entities, parse
from quatrain.fintech.features.row import fill_rows


class Inputs:
    """The inputs of all rows; their matrix, which can be larger than all else, is made in parts.

    The same numbers as those of `features.build.build`, which says what `rows` and `history` are.
    Raises BadDataError for an id column that the names need and `rows` does not have.
    """

    def __init__(
        self, rows: pa.Table, names: Sequence[str], *, history: pa.Table | None = None, label_delay_us: int
    ) -> None:
        from quatrain.fintech.features.events import events_of
        from quatrain.fintech.features.offline import fill

        features = {place: feature for place, name in enumerate(names) if (feature := parse(name)) is not None}
        self._rows = rows
        self._n_inputs = len(names)
        self._of_row = {name: place for place, name in enumerate(names) if place not in features}
        self._of_history = list(features)
        columns = entities(names)
        missing = [column for column in columns if column not in rows.column_names]
        if missing:
            raise BadDataError(f"the model's history features need {', '.join(missing)}, which the rows do not have")
        # The first of two equal rows counts: history knows labels that a new row cannot.
        tables = [rows] if history is None else [history, rows]
        events, place = events_of(tables, columns, label_delay_us=label_delay_us)
        self._place = place[len(place) - len(rows) :]
        self._values = np.empty((len(events), len(features)), dtype=np.float32)
        fill(self._values, dict(enumerate(features.values())), events, label_delay_us)

    def part(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the inputs of the rows from `start` to before `stop`, float32 (rows, inputs)."""
        rows = self._rows.slice(start, stop - start)
        x = np.empty((len(rows), self._n_inputs), dtype=np.float32)
        fill_rows(x, self._of_row, rows, to_numpy(rows["timestamp"].cast(pa.int64())))
        values = self._values.take(self._place[start:stop], axis=0)
        for first, last in _runs(self._of_history):
            among = self._of_history.index(first)
            x[:, first : last + 1] = values[:, among : among + last - first + 1]
        return x


def _runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first and the last of each run of neighbouring places."""
    ends = np.flatnonzero(np.diff(places, append=-1) != 1)
    starts = np.concatenate([[0], ends[:-1] + 1])
    return [(places[start], places[end]) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
