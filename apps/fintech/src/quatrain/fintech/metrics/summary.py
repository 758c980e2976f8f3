"""Every measure of a model that the data allows, by its flat name."""

from __future__ import annotations

import numpy as np

from quatrain.fintech.metrics.alerts import card_precision, value_recall
from quatrain.fintech.metrics.calibration import expected_calibration_error
from quatrain.fintech.metrics.ranking import average_precision, roc_auc
from quatrain.fintech.metrics.scored import Scored


def summarise(scored: Scored, *, budget: float, k: int = 100) -> dict[str, float]:
    """Return every measure that the data allows, by its flat name; what is not defined is left out."""
    measures = {
        "ap": average_precision(scored.label, scored.score),
        "auc": roc_auc(scored.label, scored.score),
        "value_recall": value_recall(scored.label, scored.score, scored.amount, budget=budget),
        "ece": expected_calibration_error(scored.label, scored.score),
    }
    if scored.customer is not None:
        measures[f"cp_{k}"] = float(card_precision(scored, k=k).mean())
    return {name: value for name, value in measures.items() if np.isfinite(value)}
