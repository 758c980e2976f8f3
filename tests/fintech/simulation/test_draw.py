"""Weighted draws, ragged sums and moments agree with plain loops and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from quatrain.fintech.simulation.draw import Numbers, Pools, clipped_lognormal, moments, running_sum, spread


def test_dense_pools_draw_each_member_by_its_weight() -> None:
    """A chi-square test of 60,000 draws from three pools does not reject the weights."""
    weights = np.array([[1.0, 0.0, 3.0, 2.0], [0.0, 5.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    pool = np.repeat([0, 1, 2], 20_000)
    drawn = Pools.dense(weights).draw(np.random.default_rng(0), pool)
    for row in range(3):
        counts = np.bincount(drawn[pool == row], minlength=4)
        expected = weights[row] / weights[row].sum() * 20_000
        assert (counts[expected == 0] == 0).all()
        if (expected > 0).sum() > 1:
            assert stats.chisquare(counts[expected > 0], expected[expected > 0]).pvalue > 1e-3


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(0, 1_000))
def test_grouped_pools_never_leave_their_pool(pool_of: list[int], seed: int) -> None:
    """Whatever the weights, a draw from a pool is a member of it."""
    rng = np.random.default_rng(seed)
    lies_in = np.array(pool_of)
    pools = Pools.grouped(lies_in, rng.random(len(lies_in)) + 1e-9, n_pools=5)
    asked = np.array(pool_of * 20)
    np.testing.assert_array_equal(lies_in[pools.draw(rng, asked)], asked)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=20), st.integers(0, 1_000))
def test_running_sums_start_again_with_each_owner(counts: list[int], seed: int) -> None:
    """They equal the cumulative sum of each owner alone, owners without entries included."""
    owner, place = spread(np.array(counts, dtype=np.int64))
    values = np.random.default_rng(seed).random(len(owner))
    expected = [value for one in range(len(counts)) for value in np.cumsum(values[owner == one])]
    np.testing.assert_allclose(running_sum(values, place), expected, rtol=1e-9)
    assert place.tolist() == [step for count in counts for step in range(count)]


def test_moments_follow_the_course() -> None:
    """For a density 2x the distribution function is x squared."""
    drawn = moments(np.random.default_rng(1), (0.0, 2.0), 20_000)
    assert stats.kstest(drawn, lambda x: x**2).pvalue > 1e-3
    assert (drawn < 1).all()


def test_clipped_values_stay_within_the_bounds_and_keep_the_median() -> None:
    """Clipping both tails moves no quantile between the bounds."""
    drawn = clipped_lognormal(np.random.default_rng(2), 30.0, 1.0, 40_000, low=10, high=100)
    assert drawn.min() == 10
    assert drawn.max() == 100
    assert np.median(drawn) == pytest.approx(30, rel=0.03)


def test_numbers_are_given_out_once() -> None:
    """Two issues share no number, and nothing is skipped."""
    numbers = Numbers(1)
    assert [*numbers.issue(3), *numbers.issue(0), *numbers.issue(2)] == [1, 2, 3, 4, 5]
