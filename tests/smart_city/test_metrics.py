"""Delay counts everyone, also those who never got in or out; intervals are the paired t-test's."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from quatrain.core.errors import BadDataError
from quatrain.smart_city.metrics import paired_difference, read_trips, t_interval

TRIPS = """<tripinfos>
<tripinfo id="a" depart="10.0" departDelay="2.0" arrival="70.0" duration="60.0" timeLoss="20.0"
 waitingTime="15.0" waitingCount="1"><emissions CO2_abs="500000"/></tripinfo>
<tripinfo id="b" depart="20.0" departDelay="0.0" arrival="-1" duration="80.0" timeLoss="50.0"
 waitingTime="40.0" waitingCount="3"><emissions CO2_abs="700000"/></tripinfo>
<tripinfo id="c" depart="-1" departDelay="40.0" arrival="-1" duration="-1" timeLoss="-1"
 waitingTime="-1" waitingCount="-1"/>
<personinfo id="p" depart="0"><walk timeLoss="12.5"/></personinfo>
</tripinfos>"""


def test_unfinished_and_undeparted_vehicles_count(tmp_path: Path) -> None:
    """Three vehicles of which one arrived: (20 + 2 + 50 + 40) s over three, not 22 s over one."""
    path = tmp_path / "trips.xml"
    path.write_text(TRIPS)
    found = read_trips(path, duration_s=100)
    assert found["delay_s"] == pytest.approx(112 / 3)
    assert found["trip_s"] == pytest.approx((60 + 2 + 80 + 40) / 3)
    assert found["wait_s"] == pytest.approx((15 + 2 + 40 + 40) / 3)
    assert found["queue"] == pytest.approx(97 / 100)
    assert (found["vehicles"], found["arrived"], found["undeparted"]) == (3, 1, 1)
    assert found["throughput_vph"] == pytest.approx(36)
    assert found["co2_kg"] == pytest.approx(1.2)
    assert found["ped_wait_s"] == pytest.approx(12.5)


def test_a_cut_off_log_is_refused(tmp_path: Path) -> None:
    """Half a log would be half the delay."""
    path = tmp_path / "trips.xml"
    path.write_text(TRIPS[: len(TRIPS) // 2])
    with pytest.raises(BadDataError, match="not a complete tripinfo file"):
        read_trips(path, duration_s=100)


def test_paired_interval_is_that_of_the_paired_t_test() -> None:
    """Against scipy's paired test on the same numbers."""
    rng = np.random.default_rng(5)
    first, second = rng.normal(20, 5, 6), rng.normal(22, 5, 6)
    difference, interval = paired_difference(first.tolist(), second.tolist(), confidence=0.9)
    expected = stats.ttest_rel(first, second).confidence_interval(0.9)
    assert difference == pytest.approx(np.mean(first - second))
    assert interval == pytest.approx((expected.low, expected.high))


def test_one_seed_bounds_nothing() -> None:
    """A single run says nothing about how runs differ."""
    assert t_interval([12.0]) == (-math.inf, math.inf)


def test_unpaired_runs_are_refused() -> None:
    """Runs of different seeds cannot be subtracted."""
    with pytest.raises(ValueError, match="same seeds, got 2 and 1"):
        paired_difference([1.0, 2.0], [1.0])
