"""A sealed model on the last transactions in time, beside baselines that are trained on those before."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.inference import Model, load_model
from quatrain.fintech.data.columns import ColumnMap
from quatrain.fintech.data.named import TASK, find_data
from quatrain.fintech.data.table import Labelled, load_labelled, split_by_time
from quatrain.fintech.evaluate.config import EvaluateConfig
from quatrain.fintech.evaluate.folds import customers
from quatrain.fintech.evaluate.leaks import find_leaks
from quatrain.fintech.evaluate.protocol import Protocol, Row
from quatrain.fintech.features.build import build
from quatrain.fintech.features.names import extra_names
from quatrain.fintech.features.row import DAY_US
from quatrain.fintech.metrics.scored import Floats, Scored

_LOG = logging.getLogger(__name__)
_PREDICT_ROWS = 65_536
_PROD = "fintech/fraud@prod"


def evaluate_sealed(config: EvaluateConfig) -> dict[str, Any]:
    """Return the table as JSON values: the sealed model's row first, baselines after it."""
    model = load_model(config.bundle or _PROD)
    decision = model.manifest.decision
    names = model.manifest.inputs[0].columns
    sealed = ColumnMap.model_validate(decision["columns"])
    data = find_data(config.data, columns=config.columns, default=sealed)
    labelled = load_labelled(data.path, data.mapping, extras=extra_names(names), max_bad_ratio=config.max_bad_ratio)
    delay_us = sealed_delay_us(model)
    x = build(labelled.table, names, label_delay_us=delay_us)
    protocol = Protocol(
        alert_budget=config.alert_budget or float(decision["alert_budget"]),
        cards_per_day=config.cards_per_day,
        n_resamples=config.n_resamples,
        seed=config.seed,
        alerts_per_day=config.alerts_per_day,
        block_days=config.block_days,
    )
    part = slice(0, len(labelled))
    if config.split == "test":
        part = split_by_time(labelled.timestamp_us, test_share=config.test_share, valid_share=0.5).test
    warn_of_known_rows(model, labelled.timestamp_us[part])
    score, probability = predict(model, x[part])
    shipped = scored_rows(labelled, part, score, probability=probability, threshold=float(decision["threshold"]))
    rows = [protocol.measure(model.reference, config.split, shipped)]
    rows += baseline_rows(labelled, x, part, protocol, split=config.split, delay_us=delay_us)
    return {
        "app": "fintech",
        "task": TASK,
        "data": data.name,
        "split": config.split,
        "n": rows[0].n,
        "rows": [row.to_dict() for row in rows],
        "leaks": [leak.to_dict() for leak in find_leaks(labelled, seed=config.seed)],
    }


def sealed_delay_us(model: Model) -> int:
    """Return how late labels came when the model was trained; 0 for one that took every label for known."""
    return round(float(model.manifest.decision.get("label_delay_days", 0)) * DAY_US)


def warn_of_known_rows(model: Model, timestamp_us: NDArray[np.int64]) -> None:
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


def predict(model: Model, x: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Return a sealed model's score of each row, which its threshold is set on, and its probability of fraud."""
    name = model.manifest.decision.get("threshold_on", "probability")
    parts = [model.predict(x[i : i + _PREDICT_ROWS]) for i in range(0, len(x), _PREDICT_ROWS)]
    found = (np.concatenate([part[output] for part in parts] or [np.zeros(0)]) for output in (name, "probability"))
    score, probability = (values.astype(np.float64) for values in found)
    return score, probability


def scored_rows(
    labelled: Labelled,
    part: slice,
    score: Floats,
    *,
    probability: Floats | None = None,
    threshold: float | None = None,
) -> Scored:
    """Return the labelled rows of a part of the table with a model's scores, one for each row of the part."""
    rows = np.arange(part.start, part.stop)
    is_labelled = labelled.is_labelled[part]
    rows = rows[is_labelled]
    customer = customers(labelled)
    return Scored(
        label=labelled.label[rows],
        score=score[is_labelled],
        amount=labelled.amount[rows],
        day=labelled.timestamp_us[rows] // DAY_US,
        customer=None if customer is None else customer[rows],
        threshold=threshold,
        meant=None if probability is None else probability[is_labelled],
    )


def baseline_rows(
    labelled: Labelled, x: NDArray[np.float32], part: slice, protocol: Protocol, *, split: str, delay_us: int = 0
) -> Iterator[Row]:
    """Yield the baselines' rows: trained on what was known before `part`, on the same inputs.

    A row's label is known `delay_us` after it, or where the data says when; rows of which it was
    not known yet are left out.
    """
    from quatrain.fintech.models.baselines import BASELINES

    start_us = int(labelled.timestamp_us[part.start])
    is_past = (labelled.timestamp_us[: part.start] < start_us - delay_us) & labelled.is_labelled[: part.start]
    past = np.flatnonzero(is_past)
    label = labelled.label_known(start_us, delay_us=delay_us)[past]
    if not label.any() or label.all():
        _LOG.warning("no baselines: the rows before these hold no frauds to learn from")
        return
    for name, fit_and_score in BASELINES.items():
        score = fit_and_score(x[past], label, x[part])
        yield protocol.measure(name, split, scored_rows(labelled, part, score))
