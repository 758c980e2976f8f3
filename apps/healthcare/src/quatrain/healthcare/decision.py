"""What a model's numbers mean: probabilities by class, the sets that are promised to hold the truth, and no answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from quatrain.core.calibration.conformal import ClassThresholds, fit_class_thresholds
from quatrain.healthcare.data.labelled import UNKNOWN, Kind, Labels

NOT_FOR_DIAGNOSIS = "Not for diagnosis"
Floats = NDArray[np.float64]
_EVEN_ODDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is sealed beside the graph; `floors` has a row (no, yes) for each finding of several, else one row."""

    kind: Kind
    classes: tuple[str, ...]
    # Of a binary set: called a finding at this probability or above.
    threshold: float
    level: float
    floors: tuple[tuple[float, ...], ...]
    # Distance above which an image is like nothing that was learned from, and the share of good images beyond it.
    distance_limit: float
    false_alarms: float

    def to_json(self) -> dict[str, Any]:
        """Return JSON values for the manifest."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return what `to_json` gave; other keys of the manifest's decision are left alone."""
        floors = tuple(tuple(float(value) for value in row) for row in values["floors"])
        plain = {name: values[name] for name in ("kind", "threshold", "level", "distance_limit", "false_alarms")}
        return cls(classes=tuple(values["classes"]), floors=floors, **plain)

    def named(self, probability: NDArray[Any]) -> Labels:
        """Return what each image is called: the class (n,), or of several findings 0 and 1 (n, K)."""
        p = np.asarray(probability)
        if self.kind == "binary":
            return np.asarray(p[:, 0] >= self.threshold).astype(np.int64)
        if self.kind == "multilabel":
            return np.asarray(p >= _EVEN_ODDS).astype(np.int64)
        return np.asarray(p.argmax(1), dtype=np.int64)

    def sets(self, probability: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which answers are in each set: (n, classes), of several findings (n, K, 2) for no and yes."""
        p = by_class(probability, self.kind)
        if self.kind != "multilabel":
            return ClassThresholds(floors=self.floors[0], level=self.level).sets(p)
        return np.asarray(p >= np.asarray(self.floors)[None])


def by_class(probability: NDArray[Any], kind: Kind) -> Floats:
    """Return the probability of every class (n, classes), of several findings (n, K, 2) for no and yes."""
    p = np.asarray(probability, np.float64)
    if kind == "binary":
        return np.concatenate([1 - p, p], axis=1)
    return np.stack([1 - p, p], axis=2) if kind == "multilabel" else p


def finding_probability(probability: NDArray[Any], decision: Decision) -> Floats:
    """Return how probable it is that an image is not of the first class, (n,): what a worklist is ordered by."""
    p = by_class(probability, decision.kind)
    if decision.kind == "multilabel":
        return np.asarray(1 - np.prod(p[:, :, 0], axis=1))
    return np.asarray(1 - p[:, 0])


def fit_floors(
    probability: NDArray[Any], labels: Labels, *, kind: Kind, level: float, interpolate: bool = False
) -> tuple[tuple[float, ...], ...]:
    """Return the floors of class-conditional sets, learned from labelled cases like those to come."""
    p = by_class(probability, kind)
    if kind != "multilabel":
        return (fit_class_thresholds(p, labels, level=level, interpolate=interpolate).floors,)
    rows = []
    for finding in range(p.shape[1]):
        known = labels[:, finding] != UNKNOWN
        fitted = fit_class_thresholds(p[known, finding], labels[known, finding], level=level, interpolate=interpolate)
        rows.append(fitted.floors)
    return tuple(rows)
