"""How well a classifier does on labelled rows: accuracy, area under the ROC curve, log loss, calibration error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quatrain.core.calibration.error import expected_calibration_error, top_label_error
from quatrain.core.calibration.temperature import Link, log_loss, sigmoid, softmax
from quatrain.core.intervals import Interval, bootstrap, delong, wilson

_TWO = 2
_EVEN_ODDS = 0.5


@dataclass(frozen=True)
class Scores:
    """Measures of n rows by name, and intervals of 95 % of some."""

    n: int
    values: dict[str, float]
    intervals: dict[str, Interval]


def scores_of(logits: NDArray[np.floating], labels: NDArray[np.integer], *, link: Link) -> Scores:
    """Return `acc`, `auc`, `log_loss` and `ece` of logits (n, classes), with sigmoid (n,).

    With more than two classes, `auc` is the mean over classes of one against the rest. It is left out
    where a class has no row, or every row.
    """
    wide = np.asarray(logits, np.float64)
    probability = softmax(wide) if link == "softmax" else sigmoid(wide)
    named = probability.argmax(1) if link == "softmax" else (probability >= _EVEN_ODDS).astype(np.int64)
    n_hits = int((named == labels).sum())
    is_binary = link == "sigmoid" or probability.shape[1] == _TWO
    values = {"acc": n_hits / len(labels)}
    intervals = {"acc": wilson(n_hits, len(labels))}
    positive = probability if link == "sigmoid" else probability[:, 1]
    n_classes = _TWO if is_binary else probability.shape[1]
    if set(range(n_classes)) <= set(labels.tolist()):
        if is_binary:
            area = delong(labels, positive)
            values["auc"], intervals["auc"] = area.value, area.interval()
        else:
            values["auc"] = _mean_area(labels, probability)
            intervals["auc"] = bootstrap(lambda rows: _mean_area(labels[rows], probability[rows]), labels)
    values["log_loss"] = log_loss(wide, labels, link=link)
    of_top = expected_calibration_error(labels, positive) if is_binary else top_label_error(labels, probability)
    values["ece"] = of_top
    return Scores(len(labels), values, intervals)


def _mean_area(labels: NDArray[np.integer], probability: NDArray[np.floating]) -> float:
    areas = [delong(labels == k, column).value for k, column in enumerate(probability.T)]
    return float(np.mean(areas))
