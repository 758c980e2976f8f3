"""Why a transaction was flagged: what the score would be if one thing about it were usual.

A single-input counterfactual works for any model and needs nothing but its predictions. It does
not see what two inputs do together only; then no reason is given rather than a wrong one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from quatrain.fintech.wording import wording

Floats32 = NDArray[np.float32]
Predict = Callable[[Floats32], Floats32]

N_REASONS = 3
# A smaller fall of the log-odds is noise to a reader.
_LEAST_DROP = 0.05
# Alerts explained at a time, to bound memory.
_CHUNK = 512
# A probability of float32 below or above has no log-odds.
_EDGE = 1e-7


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
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        groups.setdefault(wording(name).thing, []).append(place)
    return groups


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
    things = list(groups)
    strongest = np.argsort(-drop, kind="stable")[:N_REASONS]
    return tuple(_told(row, groups[things[i]], names, reference) for i in strongest if drop[i] >= _LEAST_DROP)


def _told(row: Floats32, places: Sequence[int], names: Sequence[str], reference: Mapping[str, float]) -> str:
    """Return the reason by the input of the thing that is furthest from usual, in orders of magnitude."""
    usual = [reference[names[place]] for place in places]
    distance = [abs(math.log1p(abs(row[place])) - math.log1p(abs(at))) for place, at in zip(places, usual, strict=True)]
    # The first of a stateless thing is the one that people read: the amount, not its logarithm.
    chosen = 0 if wording(names[places[0]]).label == wording(names[places[0]]).thing else distance.index(max(distance))
    return wording(names[places[chosen]]).told(float(row[places[chosen]]), usual=usual[chosen])
