"""A changed share of frauds: Bayes' rule counted out, and Saerens' EM written down as published."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from quatrain.fintech.metrics.scored import Floats
from quatrain.fintech.models.prior_shift import BaseRate, estimate_base_rate, shift_log_odds


def em(probability: Floats, base_rate: float, *, rounds: int) -> float:
    """Return the base rate after some rounds of Saerens et al. (2002), equation 2.9."""
    rate = base_rate
    for _ in range(rounds):
        fraud = rate / base_rate * probability
        legitimate = (1 - rate) / (1 - base_rate) * (1 - probability)
        rate = float((fraud / (fraud + legitimate)).mean())
    return rate


def posterior(rng: np.random.Generator, n: int, *, rate: float, base_rate: float) -> Floats:
    """Return, for rows with `rate` frauds, the exact probabilities that a model of `base_rate` data gives them.

    One normal input: frauds at 2, others at 0, so that the log odds are 2 x - 2 + the prior's.
    """
    x = rng.normal(2.0 * (rng.random(n) < rate), 1)
    return np.asarray(expit(2 * x - 2 + logit(base_rate)))


def test_a_shift_is_bayes_rule() -> None:
    """Counted out: of scores that 30 of 100 frauds and 10 of 100 others have, by the two shares of frauds."""
    before, after = (rate * 0.3 / (rate * 0.3 + (1 - rate) * 0.1) for rate in (0.01, 0.05))
    assert expit(logit(before) + shift_log_odds(0.01, 0.05)) == pytest.approx(after)
    assert shift_log_odds(0.02, 0.02) == 0


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_that_is_none_is_refused(rate: float) -> None:
    """Without frauds, or with nothing else, no probability is left to shift."""
    with pytest.raises(ValueError, match="above 0 and below 1"):
        shift_log_odds(0.01, rate)


@given(st.lists(st.floats(0.001, 0.999), min_size=3, max_size=30), st.floats(0.05, 0.95))
@settings(deadline=None, max_examples=40)
def test_the_estimate_is_where_em_ends(values: list[float], base_rate: float) -> None:
    """Every round of EM raises the likelihood; no rate, nor EM after many rounds, beats the estimate."""
    probability = np.array(values)
    estimate = estimate_base_rate(probability, base_rate=base_rate).rate

    def likelihood(rate: float) -> float:
        mixed = rate * probability / base_rate + (1 - rate) * (1 - probability) / (1 - base_rate)
        return float(np.log(mixed).sum())

    best = max(likelihood(rate) for rate in [*np.linspace(0, 1, 200), em(probability, base_rate, rounds=300)])
    assert likelihood(estimate) >= best - 1e-9


def test_em_itself_comes_to_the_same_number() -> None:
    """On an ordinary set, where EM converges in reasonable time."""
    probability = posterior(np.random.default_rng(0), 5000, rate=0.3, base_rate=0.1)
    found = estimate_base_rate(probability, base_rate=0.1)
    assert found.rate == pytest.approx(em(probability, 0.1, rounds=2000), abs=1e-9)
    assert found.low < found.rate < found.high


@pytest.mark.parametrize("rate", [0.002, 0.008, 0.03])
def test_the_interval_holds_the_true_share(rate: float) -> None:
    """Of 95 % intervals on samples of 4,000 rows, about 95 % hold it, whatever it was before."""
    rng = np.random.default_rng(1)
    found = [estimate_base_rate(posterior(rng, 4000, rate=rate, base_rate=0.008), base_rate=0.008) for _ in range(300)]
    assert 0.91 <= np.mean([not each.excludes(rate) for each in found]) <= 0.99
    assert np.mean([each.rate for each in found]) == pytest.approx(rate, abs=6e-4)


def test_an_uncertain_calibration_widens_the_interval() -> None:
    """With 100 frauds behind it the old share is known to a tenth, so the new one is to no better."""
    probability = posterior(np.random.default_rng(2), 200_000, rate=0.02, base_rate=0.008)
    sharp = estimate_base_rate(probability, base_rate=0.008)
    honest = estimate_base_rate(probability, base_rate=0.008, n_frauds=100)
    assert sharp.rate == honest.rate
    assert honest.high / honest.rate > np.exp(1.96 / 10)
    assert honest.low / honest.rate < np.exp(-1.96 / 10)
    assert sharp.high / sharp.rate < 1.1


def test_scores_that_tell_nothing_leave_every_share_possible() -> None:
    """Where all rows look alike, the interval is everything."""
    found = estimate_base_rate(np.full(100, 0.01), base_rate=0.01)
    assert (found.low, found.high) == pytest.approx((0, 1))


def test_rows_without_any_sign_of_fraud() -> None:
    """The estimate is 0, and the interval says how many there may yet be: as after 0 of 500, -ln(.1465) / 500."""
    found = estimate_base_rate(np.zeros(500), base_rate=0.01)
    assert found.low == found.rate == 0
    assert found.high == pytest.approx(1 - np.exp(-(1.959964**2) / 2 / 500), rel=1e-4)


def test_a_share_beyond_chance_is_one_outside_the_interval() -> None:
    """The ends belong to it."""
    found = BaseRate(rate=0.02, low=0.01, high=0.04)
    assert [found.excludes(rate) for rate in (0.005, 0.01, 0.03, 0.04, 0.05)] == [True, False, False, False, True]


@pytest.mark.parametrize("values", [[], [0.5, 1.2], [-0.1], [float("nan")]])
def test_what_are_no_probabilities_is_refused(values: list[float]) -> None:
    """A raw margin is no probability."""
    with pytest.raises(ValueError, match=r"expected at least one probability in \[0, 1\]"):
        estimate_base_rate(np.array(values), base_rate=0.1)
