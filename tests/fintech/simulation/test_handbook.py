"""The simulator follows the handbook's published description."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from quatrain.fintech.simulation.handbook import (
    DAY_S,
    FRAUD_AMOUNT,
    SimulatorConfig,
    _terminals_in_reach,
    simulate,
    write_handbook_like,
)

SMALL = SimulatorConfig(customers=400, terminals=800, days=60)


def test_handbook_size_gives_the_published_counts() -> None:
    """1,754,155 rows and 14,681 frauds (978, 9,099 and 4,604 by scenario) were published; ours agree within noise."""
    simulation = simulate(SimulatorConfig(), seed=0)
    counts = np.bincount(simulation.scenario, minlength=4)
    assert len(simulation) == pytest.approx(1_754_155, rel=0.03)
    assert counts[1] == pytest.approx(978, rel=0.15)
    assert counts[2] == pytest.approx(9_099, rel=0.08)
    assert counts[3] == pytest.approx(4_604, rel=0.08)


def test_without_compromises_fraud_is_exactly_the_large_amounts() -> None:
    """Scenario 1 alone labels the amounts above 220 and no other."""
    quiet = SMALL.model_copy(update={"compromised_terminals": 0, "compromised_customers": 0})
    simulation = simulate(quiet, seed=1)
    np.testing.assert_array_equal(simulation.scenario > 0, simulation.amount > FRAUD_AMOUNT)


def test_a_compromised_terminal_is_fraudulent_for_28_days() -> None:
    """With one terminal compromised a day, its frauds fall on whole days inside a 28-day window."""
    config = SimulatorConfig(
        customers=300, terminals=100, days=40, radius=50, compromised_terminals=1, compromised_customers=0
    )
    simulation = simulate(config, seed=3)
    day = simulation.second // DAY_S
    seen = 0
    for terminal in range(100):
        days = set(day[(simulation.terminal == terminal) & (simulation.scenario == 2)].tolist())
        legitimate = set(day[(simulation.terminal == terminal) & (simulation.scenario == 0)].tolist())
        assert not days & legitimate
        seen += bool(days)
    assert seen > 20


def test_a_compromised_card_has_a_third_of_its_transactions_multiplied() -> None:
    """With every card compromised on day 0, a third of 14 days is scenario 3, at five times the amount."""
    config = SimulatorConfig(customers=200, terminals=300, days=14, radius=50, compromised_terminals=0)
    every = config.model_copy(update={"compromised_customers": 0})
    base = simulate(every, seed=5)
    compromised = simulate(config.model_copy(update={"days": 1, "compromised_customers": 200}), seed=5)
    mean = base.amount.mean()
    hit = compromised.scenario == 3
    rows = np.bincount(compromised.customer, minlength=200)
    np.testing.assert_array_equal(np.bincount(compromised.customer[hit], minlength=200), rows // 3)
    assert compromised.amount[hit].mean() == pytest.approx(5 * mean, rel=0.2)


def test_time_of_day_is_normal_around_noon() -> None:
    """Mean at noon; the spread is that of a normal of 20,000 s cut at midnight."""
    second = simulate(SMALL, seed=2).second % DAY_S
    bound = DAY_S / 2 / 20_000
    density = math.exp(-(bound**2) / 2) / math.sqrt(2 * math.pi)
    inside = math.erf(bound / math.sqrt(2))
    sd = 20_000 * math.sqrt(1 - 2 * bound * density / inside)
    assert second.mean() == pytest.approx(DAY_S / 2, abs=300)
    assert second.std() == pytest.approx(sd, rel=0.02)


def test_customers_shop_only_within_the_radius() -> None:
    """The neighbour lists equal the brute-force distances."""
    rng = np.random.default_rng(0)
    customers, terminals = rng.uniform(0, 100, (60, 2)), rng.uniform(0, 100, (500, 2))
    for radius in (1.0, 5.0, 33.0, 34.0, 70.0, 100.0):
        near, first = _terminals_in_reach(customers, terminals, radius=radius)
        for customer in range(60):
            distance = np.hypot(*(terminals - customers[customer]).T)
            expected = np.flatnonzero(distance < radius)
            np.testing.assert_array_equal(near[first[customer] : first[customer + 1]], expected)


@settings(max_examples=15, deadline=None)
@given(
    customers=st.integers(1, 30),
    terminals=st.integers(1, 30),
    days=st.integers(1, 5),
    radius=st.floats(0.5, 100),
    seed=st.integers(0, 2**32),
)
def test_any_size_gives_ordered_positive_transactions(
    customers: int, terminals: int, days: int, radius: float, seed: int
) -> None:
    """Every configuration works, even where nobody can reach a terminal."""
    config = SimulatorConfig(customers=customers, terminals=terminals, days=days, radius=radius)
    simulation = simulate(config, seed=seed)
    assert (np.diff(simulation.second) >= 0).all()
    assert (simulation.amount >= 0).all()
    assert ((simulation.second > 0) & (simulation.second < days * DAY_S)).all()
    assert (simulation.terminal < terminals).all()


def test_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    """The file is a function of its options and seed, and another seed gives another."""
    sizes = {"customers": 50, "terminals": 60, "days": 10, "radius": 30.0}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_handbook_like(tmp_path / name, seed=seed, **sizes)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_the_file_says_that_it_is_synthetic(tmp_path: Path) -> None:
    """Canonical columns, unique ids, and a mark in the metadata."""
    path = tmp_path / "new" / "folder" / "set.parquet"
    write_handbook_like(path, seed=0, customers=50, terminals=60, days=10, radius=30.0)
    table = pq.read_table(path)
    assert table.column_names == ["transaction_id", "timestamp", "customer_id", "terminal_id", "amount", "is_fraud"]
    assert len(set(table["transaction_id"].to_pylist())) == len(table)
    assert table["customer_id"][0].as_py().startswith("C0")
    assert table.schema.metadata[b"quatrain.synthetic"] == b"true"
    assert not path.with_name(path.name + ".part").exists()


def test_an_unknown_option_is_refused(tmp_path: Path) -> None:
    """A misspelt size does not silently give the default world."""
    with pytest.raises(ValidationError, match="customer_count"):
        write_handbook_like(tmp_path / "x", seed=0, customer_count=5)
