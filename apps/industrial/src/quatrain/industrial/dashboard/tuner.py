"""What a threshold would do: overkill and escapes with their intervals, from scores that are already there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from quatrain.industrial.data.samples import GOOD
from quatrain.industrial.evaluate.kept import Evaluated
from quatrain.industrial.metrics.intervals import clopper_pearson


@dataclass(frozen=True, kw_only=True)
class Share:
    """So many of so many, with the exact 95 % interval of the share."""

    n_hits: int
    n: int

    @property
    def value(self) -> float:
        """The share itself."""
        return self.n_hits / self.n if self.n else float("nan")

    def text(self) -> str:
        """Return "3 of 60: 5.0% [1.0%, 13.9%]"."""
        low, high = clopper_pearson(self.n_hits, self.n)
        return f"{self.n_hits} of {self.n}: {self.value:.1%} [{low:.1%}, {high:.1%}]"


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What would become of known parts at a threshold."""

    overkill: Share
    # None where no bad part was ever measured.
    escape: Share | None


def tuning(threshold: float, *, good: Sequence[float], evaluated: Evaluated | None) -> Tuning:
    """Return overkill on good parts' scores by models that had not seen them, and escapes of the last evaluation."""
    above = int(np.sum(np.asarray(good) > threshold))
    bad = bad_scores(evaluated)
    escape = Share(n_hits=int(np.sum(np.asarray(bad) <= threshold)), n=len(bad)) if bad else None
    return Tuning(overkill=Share(n_hits=above, n=len(good)), escape=escape)


def bad_scores(evaluated: Evaluated | None) -> list[float]:
    """Return the scores of the bad parts."""
    if evaluated is None:
        return []
    return [score for score, kind in zip(evaluated.scores, evaluated.kinds, strict=True) if kind != GOOD]


def curve(good: Sequence[float], evaluated: Evaluated | None, *, n: int = 120) -> pd.DataFrame:
    """Return overkill and escape over thresholds: columns threshold, measure, share."""
    bad = bad_scores(evaluated)
    top = max([*good, *(np.quantile(bad, [0.9]).tolist() if bad else [])])
    places = np.linspace(min([*good, *bad]), top * 1.02 if top > 0 else top, n)
    rows = [("overkill", place, float(np.mean(np.asarray(good) > place))) for place in places]
    rows += [("escape", place, float(np.mean(np.asarray(bad) <= place))) for place in places] if bad else []
    return pd.DataFrame(
        [{"measure": measure, "threshold": float(place), "share": share} for measure, place, share in rows]
    )
