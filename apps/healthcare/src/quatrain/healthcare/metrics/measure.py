"""The flat measures of `evaluate --json`: ranking, decision at the sealed threshold, calibration, promised sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.calibration.conformal import abstained, coverage
from quatrain.core.calibration.error import expected_calibration_error, top_label_error
from quatrain.core.intervals import Interval, bootstrap, delong, wilson
from quatrain.healthcare.data.labelled import UNKNOWN, Labels
from quatrain.healthcare.decision import Decision


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model on one part of the data."""

    name: str
    split: str
    n: int
    metrics: dict[str, float]
    intervals: dict[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return dict(vars(self))


def measure(
    name: str,
    split: str,
    probability: NDArray[Any],
    labels: Labels,
    decision: Decision,
    *,
    n_resamples: int,
    seed: int = 0,
) -> Row:
    """Return a model's row. Intervals are 95 %: DeLong's for one AUC, Wilson's for shares, else the bootstrap's.

    Binary sets also have sensitivity and specificity at the threshold. `ece` is that of the finding's probability,
    with more classes that of the most probable class, with several findings the mean over them.
    """
    found = _of_findings if decision.kind == "multilabel" else _of_classes
    metrics, intervals = found(
        np.asarray(probability, np.float64), labels, decision, n_resamples=n_resamples, seed=seed
    )
    return Row(name=name, split=split, n=len(labels), metrics=metrics, intervals=intervals)


def mean_auc(labels: Labels, probability: NDArray[Any]) -> float:
    """Return the mean over columns of each one's area against the rest; columns with one kind of label are left out."""
    truth = labels if labels.ndim > 1 else labels[:, None] == np.arange(probability.shape[1])
    areas = [_auc(truth[:, k], probability[:, k]) for k in range(probability.shape[1])]
    return float(np.nanmean(areas)) if np.isfinite(areas).any() else float("nan")


def quadratic_kappa(labels: Labels, named: Labels, *, n_classes: int) -> float:
    """Return Cohen's kappa with quadratic weights: 1 is agreement, 0 chance (Cohen 1968)."""
    table = np.zeros((n_classes, n_classes))
    np.add.at(table, (labels, named), 1)
    grade = np.arange(n_classes)
    weight = (grade[:, None] - grade) ** 2
    chance = np.outer(table.sum(1), table.sum(0)) / table.sum()
    expected = float((weight * chance).sum())
    return 1 - float((weight * table).sum()) / expected if expected else float("nan")


def _of_classes(
    p: NDArray[np.float64], labels: Labels, decision: Decision, *, n_resamples: int, seed: int
) -> tuple[dict[str, float], dict[str, Interval]]:
    is_binary = decision.kind == "binary"
    named, sets = decision.named(p), decision.sets(p)
    metrics: dict[str, float] = {}
    intervals: dict[str, Interval] = {}

    def share(key: str, hits: NDArray[np.bool_]) -> None:
        if len(hits):
            metrics[key], intervals[key] = float(hits.mean()), wilson(int(hits.sum()), len(hits))

    def resampled(key: str, value: float, of: Any) -> None:
        if np.isfinite(value):
            metrics[key] = value
            intervals[key] = bootstrap(of, labels, n_resamples=n_resamples, seed=seed)

    is_finding = labels == 1
    if is_binary and is_finding.any() and not is_finding.all():
        area = delong(labels, p[:, 0])
        metrics["auc"], intervals["auc"] = area.value, area.interval()
    elif not is_binary:
        resampled("auc", mean_auc(labels, p), lambda rows: mean_auc(labels[rows], p[rows]))
    share("acc", named == labels)
    if is_binary:
        share("sensitivity", named[is_finding] == 1)
        share("specificity", named[~is_finding] == 0)
        resampled(
            "ece",
            expected_calibration_error(is_finding, p[:, 0]),
            lambda rows: expected_calibration_error(is_finding[rows], p[rows, 0]),
        )
    else:
        resampled("ece", top_label_error(labels, p), lambda rows: top_label_error(labels[rows], p[rows]))
    if decision.kind == "ordinal":
        n = len(decision.classes)
        resampled(
            "kappa",
            quadratic_kappa(labels, named, n_classes=n),
            lambda rows: quadratic_kappa(labels[rows], named[rows], n_classes=n),
        )
    own = sets[np.arange(len(labels)), labels]
    for k, name in enumerate(decision.classes):
        share(f"coverage_{_flat(name)}", own[labels == k])
    metrics["abstained"] = abstained(sets)
    intervals["abstained"] = wilson(round(metrics["abstained"] * len(labels)), len(labels))
    return metrics, intervals


def _of_findings(
    p: NDArray[np.float64], labels: Labels, decision: Decision, *, n_resamples: int, seed: int
) -> tuple[dict[str, float], dict[str, Interval]]:
    """Return measures of several findings: means over them, and each one's own area and coverage where it is there."""
    named, sets = decision.named(p), decision.sets(p)
    known = labels != UNKNOWN
    metrics = {"auc": mean_auc(np.where(known, labels, 0), p), "acc": float((named == labels)[known].mean())}
    everyone = np.zeros(len(labels), dtype=np.int64)
    intervals = {
        "auc": bootstrap(
            lambda rows: mean_auc(np.where(known, labels, 0)[rows], p[rows]),
            everyone,
            n_resamples=n_resamples,
            seed=seed,
        ),
        "acc": wilson(int((named == labels)[known].sum()), int(known.sum())),
    }
    errors, undecided = [], []
    for k, name in enumerate(decision.classes):
        rows = known[:, k]
        y, own = labels[rows, k], p[rows, k]
        if not len(y):
            continue
        errors.append(expected_calibration_error(y, own))
        undecided.append(abstained(sets[rows, k]))
        if y.any() and not y.all():
            area = delong(y, own)
            metrics[f"auc_{_flat(name)}"], intervals[f"auc_{_flat(name)}"] = area.value, area.interval()
            found = coverage(sets[rows, k], y)[1]
            metrics[f"coverage_{_flat(name)}"] = found
            intervals[f"coverage_{_flat(name)}"] = wilson(round(found * int(y.sum())), int(y.sum()))
    metrics |= {"ece": float(np.mean(errors)), "abstained": float(np.mean(undecided))}
    return metrics, intervals


def _auc(truth: NDArray[Any], score: NDArray[Any]) -> float:
    return delong(truth, score).value if truth.any() and not truth.all() else float("nan")


def _flat(name: str) -> str:
    return name.lower().replace(" ", "_")
