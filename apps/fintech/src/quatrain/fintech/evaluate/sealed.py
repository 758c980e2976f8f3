"""A sealed model on the last transactions in time, beside baselines that are trained on those before."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.inference import Model, load_model
from quatrain.fintech.data.arrays import to_numpy
from quatrain.fintech.data.columns import ColumnMap
from quatrain.fintech.data.named import TASK, find_data
from quatrain.fintech.data.table import Labelled, load_labelled, split_by_time
from quatrain.fintech.evaluate.config import EvaluateConfig
from quatrain.fintech.evaluate.protocol import Protocol, Row
from quatrain.fintech.features.build import build
from quatrain.fintech.features.names import extra_names
from quatrain.fintech.features.row import DAY_US
from quatrain.fintech.metrics.scored import Floats, Scored

_LOG = logging.getLogger(__name__)
_PREDICT_ROWS = 65_536


def evaluate_sealed(config: EvaluateConfig) -> dict[str, Any]:
    """Return the table as JSON values: the sealed model's row first, baselines after it."""
    model = load_model(config.bundle)
    decision = model.manifest.decision
    names = model.manifest.inputs[0].columns
    sealed = ColumnMap.model_validate(decision["columns"])
    data = find_data(config.data, columns=config.columns, default=sealed)
    labelled = load_labelled(data.path, data.mapping, extras=extra_names(names), max_bad_ratio=config.max_bad_ratio)
    x = build(labelled.table, names)
    protocol = Protocol(
        alert_budget=float(decision["alert_budget"]),
        cards_per_day=config.cards_per_day,
        n_resamples=config.n_resamples,
        seed=config.seed,
    )
    part = slice(0, len(labelled))
    if config.split == "test":
        part = split_by_time(labelled.timestamp_us, test_share=config.test_share, valid_share=0.5).test
    _warn_of_known_rows(model, labelled.timestamp_us[part])
    rows = [protocol.measure(model.reference, config.split, scored_rows(labelled, part, predict(model, x[part])))]
    rows += baseline_rows(labelled, x, part, protocol, split=config.split)
    return {
        "app": "fintech",
        "task": TASK,
        "data": data.name,
        "split": config.split,
        "n": rows[0].n,
        "rows": [row.to_dict() for row in rows],
    }


def _warn_of_known_rows(model: Model, timestamp_us: NDArray[np.int64]) -> None:
    """Warn of rows of the time that the model learned from: on those a model looks better than it is."""
    test_from = model.manifest.data.get("test_from")
    if test_from is None:
        return
    n_known = int((timestamp_us < round(datetime.fromisoformat(test_from).timestamp() * 1e6)).sum())
    if n_known:
        _LOG.warning(
            "%d of %d rows are from before %s, up to which %s was trained: if they are rows that it learned from, "
            "it looks better here than it is",
            n_known,
            len(timestamp_us),
            test_from,
            model.reference,
        )


def predict(model: Model, x: NDArray[np.float32]) -> Floats:
    """Return a sealed model's probability of fraud of each row."""
    parts = [model.predict(x[i : i + _PREDICT_ROWS])["probability"] for i in range(0, len(x), _PREDICT_ROWS)]
    return np.concatenate(parts).astype(np.float64)


def scored_rows(labelled: Labelled, part: slice, score: Floats) -> Scored:
    """Return a part of the table with a model's scores; cards only if every row names one."""
    table = labelled.table.slice(part.start, part.stop - part.start)
    customer = None
    if "customer_id" in table.column_names and table["customer_id"].null_count == 0:
        codes = table["customer_id"].combine_chunks().dictionary_encode().indices
        customer = to_numpy(codes).astype(np.int64)
    return Scored(
        label=labelled.label[part],
        score=score,
        amount=labelled.amount[part],
        day=labelled.timestamp_us[part] // DAY_US,
        customer=customer,
    )


def baseline_rows(
    labelled: Labelled, x: NDArray[np.float32], part: slice, protocol: Protocol, *, split: str
) -> Iterator[Row]:
    """Yield the baselines' rows: trained on everything before `part`, on the same inputs."""
    from quatrain.fintech.models.baselines import BASELINES

    past = labelled.label[: part.start]
    if not past.any() or past.all():
        _LOG.warning("no baselines: the rows before these hold no frauds to learn from")
        return
    for name, fit_and_score in BASELINES.items():
        score = fit_and_score(x[: part.start], past, x[part])
        yield protocol.measure(name, split, scored_rows(labelled, part, score))
