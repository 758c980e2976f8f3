"""Pass, review or fail: thresholds from the scores of good parts, and what they can promise of parts never seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat

from quatrain.core.bundle.manifest import BundleError, Manifest
from quatrain.core.config import Config

Floats = NDArray[np.floating]
Verdict = Literal["pass", "review", "fail"]

VERDICTS: tuple[Verdict, ...] = ("pass", "review", "fail")
# Of every statement about a threshold.
CONFIDENCE = 0.95


class Promise(Config):
    """What a number of good parts lets one say of the share of good parts that will fail."""

    # How many good parts' scores the threshold was read from.
    n: int = Field(ge=0)
    target: float
    # Expected share of good parts that fail; None where no threshold can keep the target.
    expected: float | None
    # With 95 % confidence the share is in here.
    low: float
    high: float
    # Good parts that a threshold needs to keep the target on average, and to keep it with 95 % confidence.
    n_needed: int
    n_needed_sure: int

    def text(self) -> str:
        """Return it as a quality engineer would say it."""
        if self.expected is None:
            return (
                f"{self.n} good parts cannot promise {self.target:.1%} overkill: at least {self.n_needed} are needed "
                f"({self.n_needed_sure} to be 95 % sure). Until then nothing fails by itself, and doubt goes to review."
            )
        return (
            f"From {self.n} good parts: {self.expected:.2%} of good parts fail on average, and with 95 % confidence "
            f"between {self.low:.2%} and {self.high:.2%} of them, as long as new parts come from where these came "
            f"from. {self.n_needed_sure} good parts are needed to be 95 % sure of at most {self.target:.1%}."
        )


class Rule(Config):
    """The verdict rule that is sealed with a model: the `decision` of its manifest."""

    # A score above it fails; None where the good parts were too few to promise anything.
    fail_above: FiniteFloat | None
    # A score above it, up to fail_above, goes to a person.
    review_above: FiniteFloat
    promise: Promise

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Return the rule that was sealed; raises BundleError for a model without one."""
        found: Mapping[str, Any] | None = manifest.decision.get("rule")
        if found is None:
            raise BundleError(f"{manifest.name} holds no verdict rule; train it again with `quatrain industrial train`")
        return cls.model_validate(found)

    def verdicts(self, scores: Floats) -> list[Verdict]:
        """Return one verdict for each score."""
        return [self.verdict(float(score)) for score in scores]

    def verdict(self, score: float) -> Verdict:
        """Return what becomes of a part with this score."""
        if self.fail_above is not None and score > self.fail_above:
            return "fail"
        return "review" if score > self.review_above else "pass"


def rule_for(scores: Sequence[float] | Floats, *, target: float) -> Rule:
    """Return the rule whose expected overkill is at most `target`, from scores of good parts unseen by their scorer.

    The fail threshold is the conformal one: the k-th smallest of n scores, k = ceil((n + 1)(1 - target)),
    so that a new exchangeable score lies above it with probability (n + 1 - k) / (n + 1) at most, of
    whatever distribution (Vovk et al. 2005; Lei et al. 2018). Its share over all new parts is
    Beta(n + 1 - k, k) distributed (Vovk 2012). With k > n there is none.

    The review band reaches down to the lowest place where the same quantile may really lie, with
    95 % confidence from order statistics: it closes as good parts come in.
    """
    # Scoring reads rules and never makes one: it does not pay for scipy.
    from scipy.stats import binom  # type: ignore[import-untyped]  # scipy brings no stubs

    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    n = len(ordered)
    if n == 0 or not np.isfinite(ordered).all():
        raise ValueError(f"expected one or more finite scores of good parts, got {n}")
    k = math.ceil((n + 1) * (1 - target) - 1e-9)
    fail_above = float(ordered[k - 1]) if k <= n else None
    lowest = int(binom.ppf((1 - CONFIDENCE) / 2, n, 1 - target))
    review = float(ordered[max(min(lowest, n) - 1, 0)])
    if fail_above is not None:
        review = min(review, fail_above)
    return Rule(fail_above=fail_above, review_above=review, promise=promise_of(n, target=target))


def promise_of(n: int, *, target: float) -> Promise:
    """Return what n good parts can promise for this target overkill."""
    from scipy.stats import beta

    k = math.ceil((n + 1) * (1 - target) - 1e-9)
    tail = (1 - CONFIDENCE) / 2
    is_kept = 0 < k <= n
    low, high = (float(beta.ppf(q, n + 1 - k, k)) for q in (tail, 1 - tail)) if is_kept else (0.0, 1.0)
    return Promise(
        n=n,
        target=target,
        expected=(n + 1 - k) / (n + 1) if is_kept else None,
        low=low,
        high=high,
        n_needed=parts_needed(target),
        n_needed_sure=parts_needed_to_be_sure(target),
    )


def parts_needed(target: float) -> int:
    """Return the good parts without which no threshold keeps the target: n + 1 >= 1 / target."""
    return math.ceil(1 / target - 1e-9) - 1


def parts_needed_to_be_sure(target: float, *, confidence: float = CONFIDENCE) -> int:
    """Return the good parts whose largest score keeps the target with this confidence.

    (1 - target)^n <= 1 - confidence (Wilks 1941, "Determination of sample sizes for setting tolerance limits").
    """
    return math.ceil(math.log(1 - confidence) / math.log(1 - target) - 1e-9)


def suspects(scores: Sequence[float] | Floats, *, limit: float = 5.0) -> list[int]:
    """Return which parts called good stand out among the good, the worst first.

    A part stands out where its score, taken by scorers that did not see it, lies more than `limit`
    robust deviations above the median of all (median and MAD: half the parts may be anything),
    and beyond a gap from the parts below it of a deviation or more: a long tail is no defect.
    """
    values = np.asarray(scores, dtype=np.float64)
    median = float(np.median(values))
    # 1.4826 makes the MAD a standard deviation where the scores are normal.
    deviation = 1.4826 * float(np.median(np.abs(values - median)))
    if deviation <= 0:
        return []
    order = np.argsort(values)[::-1]
    far = [int(place) for place in order if values[place] > median + limit * deviation]
    # All those above the lowest gap that is wide enough.
    heights = [values[place] for place in far] + [float(np.sort(values)[len(values) - len(far) - 1])]
    gaps = [place for place in range(len(far)) if heights[place] - heights[place + 1] >= deviation]
    return far[: gaps[-1] + 1] if gaps else []
