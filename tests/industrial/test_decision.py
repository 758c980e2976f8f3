"""The verdict rule keeps what it says, and says when it cannot."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, kstest

from quatrain.industrial.decision import (
    parts_needed,
    parts_needed_to_be_sure,
    promise_of,
    rule_for,
    suspects,
)


@pytest.mark.parametrize(("n", "target"), [(49, 0.02), (100, 0.05), (335, 0.02)])
def test_the_share_of_new_good_parts_that_fail_is_the_promised_beta(n: int, target: float) -> None:
    """Over many calibrations of one heavy-tailed line, the realised overkill follows Vovk's distribution."""
    rng = np.random.default_rng(0)
    realised = []
    for _ in range(800):
        rule = rule_for(rng.standard_exponential(n) ** 2, target=target)
        assert rule.fail_above is not None
        # Exponential squared: P(X > t) = exp(-sqrt(t)).
        realised.append(np.exp(-np.sqrt(rule.fail_above)))
    k = int(np.ceil((n + 1) * (1 - target)))
    assert kstest(realised, beta(n + 1 - k, k).cdf).pvalue > 0.01
    promise = promise_of(n, target=target)
    assert promise.expected is not None
    assert np.mean(realised) == pytest.approx(promise.expected, rel=0.1)
    assert promise.expected <= target
    inside = np.mean([promise.low <= share <= promise.high for share in realised])
    assert inside == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("n", [4, 8])
def test_few_parts_review_instead_of_failing(n: int) -> None:
    """No threshold of 8 parts keeps 2 %: nothing fails, and what is above most of them is looked at."""
    rule = rule_for(np.arange(n, dtype=float), target=0.02)
    assert rule.fail_above is None
    assert rule.verdict(1e9) == "review"
    assert rule.verdict(0) == "pass"
    assert rule.promise.expected is None
    assert "cannot promise 2.0% overkill: at least 49 are needed (149 to be 95 % sure)" in rule.promise.text()


def test_the_review_band_closes_as_parts_come_in() -> None:
    """Its width in ranks is that of the quantile's confidence interval."""
    shares = []
    for n in (60, 300, 3000):
        rule = rule_for(np.arange(n) / n, target=0.05)
        assert rule.fail_above is not None
        shares.append(rule.fail_above - rule.review_above)
    assert shares[0] > shares[1] > shares[2] > 0


def test_parts_needed_are_those_of_the_order_statistics() -> None:
    """One part fewer, and the largest score no longer keeps the target."""
    for target in (0.01, 0.02, 0.05, 0.1):
        n = parts_needed(target)
        assert rule_for(np.arange(n, dtype=float), target=target).fail_above is not None
        assert rule_for(np.arange(n - 1, dtype=float), target=target).fail_above is None
        sure = parts_needed_to_be_sure(target)
        assert (1 - target) ** sure <= 0.05 < (1 - target) ** (sure - 1)
    assert parts_needed_to_be_sure(0.02) == 149


def test_verdicts_are_strict_above_the_threshold() -> None:
    """A part that scores exactly as the threshold passes the test it stands for."""
    rule = rule_for(np.arange(100, dtype=float), target=0.05)
    assert rule.fail_above == 95
    assert rule.verdicts(np.array([95.0, 95.5, 0.0])) == ["review", "fail", "pass"]


def test_a_defective_part_stands_out_and_a_long_tail_does_not() -> None:
    """Two defects among forty are named, the worst first; a lognormal tail of good parts is not."""
    rng = np.random.default_rng(1)
    good = rng.normal(1.0, 0.1, 40)
    good[[7, 20]] = 3.0, 4.0
    assert suspects(good) == [20, 7]
    found = [len(suspects(rng.lognormal(0, 0.35, 100))) for _ in range(200)]
    assert np.mean(np.array(found) > 0) < 0.25
    assert suspects(np.ones(5)) == []


def test_scores_that_are_no_numbers_are_refused() -> None:
    """A threshold of NaN would pass everything."""
    with pytest.raises(ValueError, match="expected one or more finite scores"):
        rule_for([1.0, float("nan")], target=0.05)
