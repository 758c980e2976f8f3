"""The tables that scoring writes: a score for each good row, and alerts with their reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quatrain.fintech.data.arrays import Array, Column, from_numpy, from_strings
from quatrain.fintech.reasons import N_REASONS
from quatrain.fintech.score.policy import Floats32, Measures, Policy

SCORES = "scores"
ALERTS = "alerts"
# Alerts have these whether the file does or not, and the others where it does.
_ALWAYS = ("customer_id", "terminal_id")
_OPTIONAL = ("device_id", "merchant_id")


def scores_table(rows: pa.Table | pa.RecordBatch, measures: Measures, is_alert: NDArray[np.bool_]) -> pa.Table:
    """Return one row per transaction: its id, time, score, what else the model says, and whether it is an alert."""
    columns: dict[str, Any] = {name: rows.column(name) for name in ("transaction_id", "timestamp")}
    columns |= {name: from_numpy(values) for name, values in measures.items()}
    columns["is_alert"] = from_numpy(is_alert)
    return pa.table(columns)


def alerts_table(
    rows: pa.Table | pa.RecordBatch,
    measures: Measures,
    *,
    policy: Policy,
    reasons: Sequence[tuple[str, ...]],
    inputs: Mapping[str, Floats32],
    facts: Mapping[str, str | bool],
) -> pa.Table:
    """Return one row per alert; `inputs` are the model's inputs by name, `facts` what holds for all of them."""
    n = rows.num_rows
    columns: dict[str, Any] = {name: rows.column(name) for name in ("transaction_id", "timestamp")}
    columns |= {name: _column_or_null(rows, name) for name in _ALWAYS}
    columns |= {name: rows.column(name) for name in _OPTIONAL if name in rows.schema.names}
    columns["amount"] = rows.column("amount")
    columns |= {name: from_numpy(values) for name, values in measures.items()}
    columns["threshold"] = from_numpy(np.full(n, policy.threshold))
    if len(measures) > 1:
        columns["threshold_on"] = from_strings([policy.threshold_on] * n)
    columns |= {f"reason_{place + 1}": _nth(reasons, place) for place in range(N_REASONS)}
    columns |= {name: _constant(value, n) for name, value in facts.items()}
    columns |= {f"feature:{name}": from_numpy(values) for name, values in inputs.items()}
    return pa.table(columns)


def _constant(value: str | bool, n: int) -> Array:
    return from_numpy(np.full(n, value)) if isinstance(value, bool) else from_strings([value] * n)


def _column_or_null(rows: pa.Table | pa.RecordBatch, name: str) -> Column:
    return rows.column(name) if name in rows.schema.names else from_strings([None] * rows.num_rows)


def _nth(reasons: Sequence[tuple[str, ...]], place: int) -> Array:
    return from_strings([row[place] if place < len(row) else None for row in reasons])
