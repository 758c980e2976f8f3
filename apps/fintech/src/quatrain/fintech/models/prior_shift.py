"""What a changed share of frauds does to probabilities, and how to read that share off rows without labels.

Sources: Elkan, "The foundations of cost-sensitive learning" (IJCAI 2001), theorem 2; Saerens,
Latinne and Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities"
(Neural Computation 14, 2002). Both hold where frauds and legitimate rows each look as before and
only their shares changed. A new kind of fraud breaks that, and no score can tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from quatrain.fintech.metrics.scored import Floats

# Halvings of an interval inside [0, 1]; more change no float64.
_HALVINGS = 60


@dataclass(frozen=True, kw_only=True)
class BaseRate:
    """An estimated share of frauds with its interval."""

    rate: float
    low: float
    high: float

    def excludes(self, rate: float) -> bool:
        """Return whether `rate` lies outside the interval: the share of frauds has changed beyond chance."""
        return not self.low <= rate <= self.high


def shift_log_odds(from_rate: float, to_rate: float) -> float:
    """Return what is added to the log odds of a probability that was right at `from_rate` (Elkan 2001, theorem 2)."""
    for rate in (from_rate, to_rate):
        if not 0 < rate < 1:
            raise ValueError(f"a share of frauds must be above 0 and below 1, got {rate}")
    return float(np.log(to_rate / (1 - to_rate)) - np.log(from_rate / (1 - from_rate)))


def estimate_base_rate(
    probability: Floats, *, base_rate: float, n_frauds: int | None = None, level: float = 0.95
) -> BaseRate:
    """Return the share of frauds among unlabelled rows, from probabilities that are right at `base_rate`.

    It is where the EM iteration of Saerens et al. (2002) ends, the maximum of a concave likelihood,
    found by bisection: for rare frauds EM itself takes thousands of rounds. The interval is that of
    the likelihood ratio; `n_frauds`, the frauds that the calibration rests on, widens it by how
    uncertain `base_rate` itself is. Rows are taken as independent.
    """
    if len(probability) == 0 or not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError(f"expected at least one probability in [0, 1], got {len(probability)} values")
    shift_log_odds(base_rate, base_rate)
    fraud, legitimate = probability / base_rate, (1 - probability) / (1 - base_rate)
    difference = fraud - legitimate

    def mixture(rate: float) -> Floats:
        return np.asarray(legitimate + rate * difference)

    def log_likelihood(rate: float) -> float:
        return float(np.log(mixture(rate)).sum())

    def slope(rate: float) -> float:
        return float((difference / mixture(rate)).sum())

    best = _crossing(slope, 0.0, 1.0)
    z = NormalDist().inv_cdf((1 + level) / 2)
    floor = log_likelihood(best) - z**2 / 2
    low = _crossing(lambda rate: floor - log_likelihood(rate), 0.0, best)
    high = _crossing(lambda rate: log_likelihood(rate) - floor, best, 1.0)
    if n_frauds is not None and best > 0:
        low, high = _widened(best, low, high, z / n_frauds**0.5)
    return BaseRate(rate=best, low=low, high=high)


def _crossing(function: Callable[[float], float], first: float, last: float) -> float:
    """Return where a function that is positive first and negative last changes sign; an end if it does not."""
    low, high = first, last
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if function(middle) > 0:
            low = middle
        else:
            high = middle
    return high if high == last else low


def _widened(rate: float, low: float, high: float, error: float) -> tuple[float, float]:
    """Return the interval with an independent relative error added on the log scale."""
    down = np.hypot(np.log(rate / low), error) if low > 0 else np.inf
    up = np.hypot(np.log(high / rate), error)
    return float(rate * np.exp(-down)), min(float(rate * np.exp(up)), 1.0)
