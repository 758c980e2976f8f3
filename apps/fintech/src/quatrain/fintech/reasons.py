"""Why a transaction was flagged: what the score would be if one thing about it were usual.

A single-input counterfactual works for any model and needs nothing but its predictions. It does
not see what two inputs do together only; then no reason is given rather than a wrong one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from quatrain.fintech.features.row import AMOUNT, DAY_OF_WEEK, TIME_OF_DAY

Floats32 = NDArray[np.float32]
Predict = Callable[[Floats32], Floats32]

N_REASONS = 3
# A smaller fall of the log-odds is noise to a reader.
_LEAST_DROP = 0.05
# Alerts explained at a time, to bound memory.
_CHUNK = 512
# A probability of float32 below or above has no log-odds.
_EDGE = 1e-7
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
# Inputs that say one thing are set together.
_GROUPS: Mapping[str, tuple[str, ...]] = {
    "amount": AMOUNT,
    "time of day": TIME_OF_DAY,
    "day of week": DAY_OF_WEEK,
}


def explain(
    predict: Predict, x: Floats32, *, names: Sequence[str], reference: Mapping[str, float]
) -> list[tuple[str, ...]]:
    """Return up to three reasons for each row, the strongest first, such as "amount 950.00, usually 22.00".

    `x` has shape (n, F) with columns `names`; `reference` is a usual legitimate transaction.
    """
    groups = _groups(names)
    found: list[tuple[str, ...]] = []
    for start in range(0, len(x), _CHUNK):
        rows = x[start : start + _CHUNK]
        drops = _drops(predict, rows, groups, names, reference)
        found += [_reasons(row, drop, groups, names, reference) for row, drop in zip(rows, drops, strict=True)]
    return found


def _groups(names: Sequence[str]) -> dict[str, list[int]]:
    """Return the columns of each thing that can be usual or not."""
    grouped = {label: [names.index(name) for name in members if name in names] for label, members in _GROUPS.items()}
    taken = {place for places in grouped.values() for place in places}
    alone = {name: [place] for place, name in enumerate(names) if place not in taken}
    return {label: places for label, places in (grouped | alone).items() if places}


def _drops(
    predict: Predict,
    rows: Floats32,
    groups: Mapping[str, list[int]],
    names: Sequence[str],
    reference: Mapping[str, float],
) -> NDArray[np.float64]:
    """Return how far the log-odds fall when each group is usual, (n, groups)."""
    usual = np.array([reference[name] for name in names], dtype=np.float32)
    changed = np.repeat(rows[None], len(groups), axis=0)  # (groups, n, F)
    for place, columns in enumerate(groups.values()):
        changed[place][:, columns] = usual[columns]
    after = predict(changed.reshape(-1, rows.shape[1])).reshape(len(groups), len(rows))
    return np.asarray(_log_odds(predict(rows)) - _log_odds(after)).T


def _log_odds(probability: Floats32) -> NDArray[np.float64]:
    clipped = np.clip(probability.astype(np.float64), _EDGE, 1 - _EDGE)
    return np.asarray(np.log(clipped / (1 - clipped)))


def _reasons(
    row: Floats32,
    drop: NDArray[np.float64],
    groups: Mapping[str, list[int]],
    names: Sequence[str],
    reference: Mapping[str, float],
) -> tuple[str, ...]:
    labels = list(groups)
    strongest = np.argsort(-drop, kind="stable")[:N_REASONS]
    return tuple(
        f"{labels[i]} {_shown(labels[i], float(row[first]))}, usually {_shown(labels[i], reference[names[first]])}"
        for i in strongest
        if drop[i] >= _LEAST_DROP
        for first in groups[labels[i]][:1]
    )


def _shown(label: str, value: float) -> str:
    if label == "amount":
        return f"{value:,.2f}"
    if label == "time of day":
        minutes = int(value * 60) % (24 * 60)
        return f"{minutes // 60:02d}:{minutes % 60:02d}"
    if label == "day of week":
        return _WEEKDAYS[int(value) % 7]
    return f"{value:.4g}"
