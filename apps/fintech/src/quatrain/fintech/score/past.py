"""The events that a file's features look back on: the model's journal, the user's own past, files scored before."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from quatrain.core.jobs.sink import Sink
from quatrain.fintech import journal
from quatrain.fintech.data.arrays import from_numpy
from quatrain.fintech.features.names import entities, horizon_us
from quatrain.fintech.score.pieces import Pieces

# The outputs that scoring reads again: events of scored files, events that were given, labels.
HISTORY = "history"
GIVEN = "past"
LABELS = "labels"
# The one feature whose value depends on events that share no id with the row.
_GRAPH_FEATURE = "device_component"
# Of an out folder: what Pieces keeps there.
_PIECES = ".pieces"
_DAY_US = 86_400_000_000
# By how much the clocks of those who date transactions and of this machine may differ.
_MARGIN_US = 2 * _DAY_US
_LOG = logging.getLogger(__name__)


class Past:
    """What a model with history features can know when it meets a file.

    It is the same whenever the file is done again: the journal of the model, and what was settled
    before the file in the ledger.
    """

    def __init__(self, names: Sequence[str], *, label_delay_us: int, model_digest: str, out: Path) -> None:
        self._columns = entities(names)
        self._horizon_us = horizon_us(names, label_delay_us)
        self._is_graph = _GRAPH_FEATURE in names
        self._digest = model_digest
        self._pieces = {output: Pieces(out / _PIECES / output) for output in (HISTORY, GIVEN, LABELS)}
        self._has_warned = False

    def before(self, rows: pa.Table, sink: Sink) -> tuple[pa.Table | None, pa.Table]:
        """Return the events that the rows' features look back on, if any, and the rows, with labels that came since.

        Where two tell of one event, the journal counts, then what was given, then the file that came
        last: `build` takes the first.
        """
        view = journal.View.of(rows, self._columns, horizon_us=self._horizon_us, is_graph=self._is_graph)
        since = self._since(view)
        files = [path for output in (GIVEN, HISTORY) for path in self._files(output, sink, since)]
        tables = [journal.read_events(path, view) for path in files]
        trained = journal.load_for(self._digest, view)
        if trained is not None:
            tables.insert(0, trained)
        if trained is None and not files:
            self._warn_cold()
        labels = self._labels(sink, since)
        events = pa.concat_tables(tables, promote_options="default") if tables else None
        return events if events is None else journal.with_labels(events, labels), journal.with_labels(rows, labels)

    def _since(self, view: journal.View) -> datetime:
        """Return from when on units of the ledger matter: nothing is recorded before it happened.

        Clocks may differ by the margin. Of transactions that are dated ahead, those that came within
        the horizon from today count.
        """
        now_us = round(datetime.now(UTC).timestamp() * 1e6)
        since_us = min(view.since_us, now_us - self._horizon_us) - _MARGIN_US
        return datetime.fromtimestamp(since_us / 1e6, UTC)

    def _files(self, output: str, sink: Sink, since: datetime) -> list[Path]:
        return self._pieces[output].of(sink.earlier(output, since=since), since=since)

    def _labels(self, sink: Sink, since: datetime) -> pa.Table | None:
        """Return what the label files say, the newest word on each transaction."""
        files = self._files(LABELS, sink, since)
        if not files:
            return None
        table = pa.concat_tables([pq.read_table(path, partitioning=None) for path in files]).combine_chunks()
        placed = table.append_column("place", from_numpy(np.arange(len(table))))
        newest = placed.group_by("transaction_id").aggregate([("place", "min")])["place_min"]
        return table.take(newest)

    def _warn_cold(self) -> None:
        if self._has_warned:
            return
        self._has_warned = True
        _LOG.warning(
            "the model's inputs look back up to %d days, but there are no past transactions: features start cold, "
            "and the first scores see less than in training; give earlier transactions with --history FILE",
            -(-self._horizon_us // _DAY_US),
        )
