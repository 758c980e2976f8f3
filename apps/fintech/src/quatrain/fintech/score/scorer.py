"""A loaded model applied to one file after another."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from quatrain.core.errors import BadDataError
from quatrain.core.inference import Model
from quatrain.core.jobs.sink import Sink
from quatrain.fintech.data.arrays import from_numpy
from quatrain.fintech.data.columns import ColumnMap
from quatrain.fintech.data.read import layout_for_model, read_batches
from quatrain.fintech.data.source import Source, open_source
from quatrain.fintech.features.build import build
from quatrain.fintech.features.names import LABEL_DELAY_US, extra_names, needs_history
from quatrain.fintech.features.row import DAY_US
from quatrain.fintech.journal import events_of
from quatrain.fintech.reasons import explain
from quatrain.fintech.score.inputs import Inputs
from quatrain.fintech.score.outputs import ALERTS, SCORES, alerts_table, scores_table
from quatrain.fintech.score.past import HISTORY, Past
from quatrain.fintech.score.policy import SCORE, Floats32, Policy

_LOG = logging.getLogger(__name__)
_DIGEST_SHOWN = 12
# Rows that the model answers at a time.
_CHUNK = 65_536


class Scorer:
    """A model with its sealed decision; a model without history features reads a file batch by batch."""

    def __init__(self, model: Model, mapping: ColumnMap, *, out: Path) -> None:
        decision = model.manifest.decision
        self._model = model
        self._mapping = mapping
        self._policy = Policy.of(model.manifest)
        self._names = model.manifest.inputs[0].columns
        self._reference: dict[str, float] = decision["reference"]
        self._is_synthetic = bool(decision["is_synthetic"])
        self._model_name = f"{model.manifest.name} {model.digest[:_DIGEST_SHOWN]}"
        self._label_delay_us = label_delay_us(model)
        self._past: Past | None = None
        if needs_history(self._names):
            self._past = Past(self._names, label_delay_us=self._label_delay_us, model_digest=model.digest, out=out)

    def process(self, path: Path, sink: Sink) -> None:
        """Score one file; raises BadDataError for a file that cannot be used at all."""
        source = open_source(path, self._mapping.csv)
        batches = self._good_rows(source, sink)
        if self._past is None:
            for batch in batches:
                self._deliver(batch, build(batch, self._names), source, sink)
        else:
            self._score_whole(pa.Table.from_batches(list(batches)), self._past, source, sink)

    def _good_rows(self, source: Source, sink: Sink) -> Iterator[pa.RecordBatch]:
        layout = layout_for_model(source, self._mapping, extras=extra_names(self._names))
        if layout.unknown:
            extra = {"file": source.path.name, "columns": layout.unknown}
            _LOG.info("columns that the model does not use", extra=extra)
        rejected = _Counted(sink)
        n_good = 0
        for batch in read_batches(source, layout, self._mapping, reject=rejected):
            sink.count(batch.num_rows + rejected.take())
            n_good += batch.num_rows
            yield batch
        sink.count(rejected.take())
        if n_good == 0:
            raise BadDataError(f"{source.path.name} has no row that can be scored; the reasons are listed row by row")

    def _score_whole(self, rows: pa.Table, past: Past, source: Source, sink: Sink) -> None:
        sink.write(HISTORY, events_of(rows))
        events, labelled = past.before(rows, sink)
        inputs = Inputs(labelled, self._names, history=events, label_delay_us=self._label_delay_us)
        for start in range(0, len(rows), _CHUNK):
            self._deliver(rows.slice(start, _CHUNK), inputs.part(start, start + _CHUNK), source, sink)

    def _deliver(self, rows: pa.Table | pa.RecordBatch, x: Floats32, source: Source, sink: Sink) -> None:
        measures = self._policy.measures(self._model.predict(x).outputs) if len(x) else self._policy.nothing()
        is_alert = self._policy.is_alert(measures)
        sink.write(SCORES, scores_table(rows, measures, is_alert))
        places = np.flatnonzero(is_alert)
        alerts = alerts_table(
            rows.take(from_numpy(places)),
            {name: values[places] for name, values in measures.items()},
            policy=self._policy,
            reasons=explain(self._score, x[places], names=self._names, reference=self._reference),
            inputs=dict(zip(self._names, x[places].T, strict=True)),
            facts={
                "source_file": source.path.name,
                "model": self._model_name,
                "is_synthetic": self._is_synthetic or source.is_synthetic,
            },
        )
        sink.write(ALERTS, alerts)

    def _score(self, x: Floats32) -> Floats32:
        """Return what reasons are read from: a calibrated probability has steps, on which nothing falls."""
        return self._policy.measures(self._model.predict(x).outputs)[SCORE]


def label_delay_us(model: Model) -> int:
    """Return how long after a transaction a label is due, as the model was trained with it."""
    days = model.manifest.decision.get("label_delay_days")
    return LABEL_DELAY_US if days is None else round(days * DAY_US)


class _Counted:
    """Passes rejections on and counts them."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._n = 0

    def __call__(self, *, row: int, reason: str, column: str | None = None, value: str | None = None) -> None:
        self._n += 1
        self._sink.reject(row=row, reason=reason, column=column, value=value)

    def take(self) -> int:
        """Return how many came since the last call."""
        n, self._n = self._n, 0
        return n
