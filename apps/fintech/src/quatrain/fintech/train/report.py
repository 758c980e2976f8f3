"""What a training run leaves for the model report page: `report.json` in the run's folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.fintech.evaluate.protocol import Row
from quatrain.fintech.metrics.calibration import calibration_bins
from quatrain.fintech.metrics.ranking import average_precision, precision_recall_curve
from quatrain.fintech.metrics.scored import Floats, Labels
from quatrain.fintech.wording import wording

REPORT = "report.json"
_HISTOGRAM_BINS = 40
# Legitimate rows in which an input is shuffled; all frauds take part.
_IMPORTANCE_ROWS = 10_000


def write_report(
    path: Path,
    *,
    rows: Sequence[Row],
    label: Labels,
    outputs: Mapping[str, NDArray[np.float32]],
    importance: Mapping[str, float],
    **facts: Any,
) -> None:
    """Write the report; `outputs` are those of the sealed graph for the test rows.

    Keys: `rows` as in `train --json`; `calibration` and, before it, `calibration_of_score`
    [{n, score, rate}], `precision_recall` [{threshold, precision, recall}] and
    `score_histogram` [{low, high, legitimate, fraud}] of the score; `importance` [{feature,
    ap_drop}], largest first, on validation rows; and `facts`.
    """
    score, probability = (outputs[name].astype(np.float64) for name in ("score", "probability"))
    document = {
        **facts,
        "rows": [row.to_dict() for row in rows],
        "calibration": calibration_bins(label, probability),
        "calibration_of_score": calibration_bins(label, score),
        "precision_recall": precision_recall_curve(label, score),
        "score_histogram": score_histogram(label, score),
        "importance": [
            {"feature": name, "ap_drop": drop} for name, drop in sorted(importance.items(), key=lambda item: -item[1])
        ],
    }
    path.write_text(json.dumps(document, indent=1, allow_nan=False), encoding="utf-8")


def score_histogram(label: Labels, score: Floats, *, n_bins: int = _HISTOGRAM_BINS) -> list[dict[str, float]]:
    """Return how many legitimate and fraudulent rows fall into equal bins of the score."""
    edges = np.linspace(0, 1, n_bins + 1)
    legitimate, _ = np.histogram(score[~label], edges)
    fraud, _ = np.histogram(score[label], edges)
    return [
        {"low": float(edges[i]), "high": float(edges[i + 1]), "legitimate": int(legitimate[i]), "fraud": int(fraud[i])}
        for i in range(n_bins)
    ]


def importance_of_things(
    predict: Callable[[NDArray[np.float32]], Floats],
    x: NDArray[np.float32],
    label: Labels,
    *,
    names: Sequence[str],
    seed: int,
) -> dict[str, float]:
    """Return how far the average precision falls when the inputs that say one thing are shuffled together.

    One window of a card's activity alone hardly matters while the others still tell it.
    """
    rng = np.random.default_rng(seed)
    legitimate = np.flatnonzero(~label)
    kept = np.sort(rng.permutation(legitimate)[:_IMPORTANCE_ROWS])
    rows = np.sort(np.concatenate([kept, np.flatnonzero(label)]))
    x, label = x[rows].copy(), label[rows]
    whole = average_precision(label, predict(x))
    things: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        things.setdefault(wording(name).thing, []).append(place)
    drops = {}
    for thing, places in things.items():
        columns = x[:, places].copy()
        x[:, places] = columns[rng.permutation(len(x))]
        drops[thing] = whole - average_precision(label, predict(x))
        x[:, places] = columns
    return drops
