"""What a training run leaves for the model report page: `report.json` in the run's folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.fintech.evaluate.protocol import Row
from quatrain.fintech.metrics.calibration import calibration_bins
from quatrain.fintech.metrics.ranking import average_precision, precision_recall_curve
from quatrain.fintech.metrics.scored import Floats, Labels, Scored

REPORT = "report.json"
_HISTOGRAM_BINS = 40
# Legitimate rows in which an input is shuffled; all frauds take part.
_IMPORTANCE_ROWS = 10_000


def write_report(path: Path, *, rows: Sequence[Row], test: Scored, importance: dict[str, float], **facts: Any) -> None:
    """Write the report.

    Keys: `rows` as in `train --json`; `calibration` [{n, score, rate}], `precision_recall`
    [{threshold, precision, recall}] and `score_histogram` [{low, high, legitimate, fraud}] of the
    test rows; `importance` [{feature, ap_drop}], largest first, on validation rows; and `facts`.
    """
    document = {
        **facts,
        "rows": [row.to_dict() for row in rows],
        "calibration": calibration_bins(test.label, test.score),
        "precision_recall": precision_recall_curve(test.label, test.score),
        "score_histogram": score_histogram(test.label, test.score),
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


def permutation_importance(
    predict: Callable[[NDArray[np.float32]], Floats],
    x: NDArray[np.float32],
    label: Labels,
    *,
    names: Sequence[str],
    seed: int,
) -> dict[str, float]:
    """Return how far the average precision falls when one input is shuffled over the rows."""
    rng = np.random.default_rng(seed)
    legitimate = np.flatnonzero(~label)
    kept = np.sort(rng.permutation(legitimate)[:_IMPORTANCE_ROWS])
    rows = np.sort(np.concatenate([kept, np.flatnonzero(label)]))
    x, label = x[rows].copy(), label[rows]
    whole = average_precision(label, predict(x))
    drops = {}
    for place, name in enumerate(names):
        column = x[:, place].copy()
        x[:, place] = rng.permutation(column)
        drops[name] = whole - average_precision(label, predict(x))
        x[:, place] = column
    return drops
