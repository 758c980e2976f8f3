"""New transaction files to scores and alerts, as a batch job that cron can trust; no torch."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, field_validator

from quatrain.core.config import Config, Flag, UserPath, settings
from quatrain.core.errors import BadDataError
from quatrain.core.inference import Model, load_model
from quatrain.core.jobs.config import JobConfig
from quatrain.core.jobs.engine import run_job
from quatrain.core.jobs.report import JobReport
from quatrain.core.jobs.sink import Sink
from quatrain.fintech.data.arrays import Array, from_numpy, from_strings
from quatrain.fintech.data.columns import ColumnMap, read_columns
from quatrain.fintech.data.read import layout_for_model, read_batches
from quatrain.fintech.data.source import Source, open_source
from quatrain.fintech.features.build import build
from quatrain.fintech.features.names import extra_names
from quatrain.fintech.reasons import N_REASONS, explain

# The name of the job in the ledger.
JOB = "fintech.score"
_LOG = logging.getLogger(__name__)
# Part of every unit's key: raise it when the same input should give other output.
_OUTPUT_VERSION = 1
_DIGEST_SHOWN = 12
_ENTITIES = ("customer_id", "terminal_id")


class ScoreConfig(Config):
    """Which files, which model, and how much bad data to put up with: the `[fintech.score]` section."""

    # Files, or folders of CSV and Parquet files.
    inputs: Annotated[tuple[UserPath, ...], Flag("--data")] = Field(min_length=1)
    bundle: str = "fintech/fraud@prod"
    out: UserPath = Field(default_factory=lambda: settings().home / "scored" / "fintech")
    # columns.toml; None takes the mapping that the model was trained with.
    columns: UserPath | None = None
    since: datetime | None = None
    dry_run: bool = False
    max_bad_ratio: float = Field(default=0.05, ge=0, le=1)
    prom: UserPath | None = None

    @field_validator("inputs", mode="before")
    @classmethod
    def _one_is_enough(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Path) else value


def score(config: ScoreConfig) -> JobReport:
    """Score every new file once; scores, alerts and rejected rows lie in `config.out`.

    Raises LockedError while another process scores into the same folder, BundleError for a model
    that is not what was sealed; one bad file never ends the run.
    """
    model = load_model(config.bundle)
    mapping = _mapping(config, model)
    scorer = Scorer(model, mapping)
    job = JobConfig(**config.model_dump(exclude={"bundle", "columns"}))
    return run_job(
        job,
        name=JOB,
        app="fintech",
        model_digest=model.digest,
        config_digest=_digest(mapping),
        process=scorer.process,
    )


class Scorer:
    """A loaded model with its sealed decision, applied to one file after another."""

    def __init__(self, model: Model, mapping: ColumnMap) -> None:
        decision = model.manifest.decision
        self._model = model
        self._mapping = mapping
        self._names = model.manifest.inputs[0].columns
        self._threshold = np.float32(decision["threshold"])
        self._reference: dict[str, float] = decision["reference"]
        self._is_synthetic = bool(decision["is_synthetic"])
        self._model_name = f"{model.manifest.name} {model.digest[:_DIGEST_SHOWN]}"

    def process(self, path: Path, sink: Sink) -> None:
        """Score one file; raises BadDataError for a file that cannot be used at all."""
        source = open_source(path, self._mapping.csv)
        layout = layout_for_model(source, self._mapping, extras=extra_names(self._names))
        if layout.unknown:
            _LOG.info("columns that the model does not use", extra={"file": path.name, "columns": layout.unknown})
        rejected = _Counted(sink)
        n_good = 0
        for batch in read_batches(source, layout, self._mapping, reject=rejected):
            sink.count(batch.num_rows + rejected.take())
            n_good += batch.num_rows
            self._deliver(batch, source, sink)
        sink.count(rejected.take())
        if n_good == 0:
            raise BadDataError(f"{path.name} has no row that can be scored; the reasons are listed row by row")

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probability of fraud of each row."""
        return np.asarray(self._model.predict(x)["probability"])

    def _deliver(self, batch: pa.RecordBatch, source: Source, sink: Sink) -> None:
        x = build(batch, self._names)
        probability = self.predict(x) if len(x) else np.zeros(0, dtype=np.float32)
        is_alert = probability >= self._threshold
        scores = {
            "transaction_id": batch.column("transaction_id"),
            "timestamp": batch.column("timestamp"),
            "score": from_numpy(probability),
            "is_alert": from_numpy(is_alert),
        }
        sink.write("scores", pa.table(scores))
        rows = np.flatnonzero(is_alert)
        sink.write("alerts", self._alerts(batch.take(from_numpy(rows)), x[rows], probability[rows], source))

    def _alerts(
        self, batch: pa.RecordBatch, x: NDArray[np.float32], probability: NDArray[np.float32], source: Source
    ) -> pa.Table:
        n = batch.num_rows
        reasons = explain(self.predict, x, names=self._names, reference=self._reference)
        is_synthetic = self._is_synthetic or source.is_synthetic
        columns: dict[str, Array] = {
            "transaction_id": batch.column("transaction_id"),
            "timestamp": batch.column("timestamp"),
            **{name: _column_or_null(batch, name) for name in _ENTITIES},
            "amount": batch.column("amount"),
            "score": from_numpy(probability),
            "threshold": from_numpy(np.full(n, self._threshold)),
            **{f"reason_{i + 1}": _nth(reasons, i) for i in range(N_REASONS)},
            "source_file": from_strings([source.path.name] * n),
            "model": from_strings([self._model_name] * n),
            "is_synthetic": from_numpy(np.full(n, is_synthetic)),
            **{f"feature:{name}": from_numpy(x[:, i]) for i, name in enumerate(self._names)},
        }
        return pa.table(columns)


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


def _mapping(config: ScoreConfig, model: Model) -> ColumnMap:
    if config.columns is not None:
        return read_columns(config.columns)
    return ColumnMap.model_validate(model.manifest.decision["columns"])


def _digest(mapping: ColumnMap) -> str:
    text = json.dumps([_OUTPUT_VERSION, mapping.model_dump(mode="json")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _column_or_null(batch: pa.RecordBatch, name: str) -> Array:
    if name in batch.schema.names:
        return batch.column(name)
    return from_strings([None] * batch.num_rows)


def _nth(reasons: Sequence[tuple[str, ...]], place: int) -> Array:
    return from_strings([row[place] if place < len(row) else None for row in reasons])
