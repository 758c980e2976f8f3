"""The harder world: marks, rates, drift, late and missing labels, and nothing in ids or order that gives fraud away."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import stats
from sklearn.metrics import roc_auc_score

from quatrain.fintech.data.columns import ColumnMap, LabelFormat
from quatrain.fintech.data.table import load_labelled
from quatrain.fintech.simulation import hard
from quatrain.fintech.simulation.calendar import DAY_S
from quatrain.fintech.simulation.config import HardConfig
from quatrain.fintech.simulation.events import FRAUD_TYPES, NEW_TACTICS, TACTICS
from quatrain.fintech.simulation.hard import HardSimulation, hard_table, simulate_hard, write_card_fraud_hard

# A quarter of the default's customers for three months: about 300,000 rows.
WORLD = HardConfig(customers=3_000, merchants=1_000, days=90)
TINY: dict[str, object] = {"customers": 60, "merchants": 100, "days": 12}


@dataclass(frozen=True)
class Made:
    """A simulated world with its table as NumPy columns."""

    simulation: HardSimulation
    table: pa.Table

    def column(self, name: str) -> NDArray[Any]:
        """Return a column, ids as their numbers with -1 for null."""
        values = self.table[name].to_pylist()
        if name.endswith("_id"):
            return np.array([-1 if value is None else int(value[1:]) for value in values])
        return np.array(values)

    @property
    def is_fraud(self) -> NDArray[np.bool_]:
        """Whether each row is fraud in truth."""
        return np.asarray(self.simulation.events.kind > 0)


@pytest.fixture(scope="module")
def made() -> Made:
    """Return one world for all tests that only look."""
    simulation = simulate_hard(WORLD, seed=11)
    return Made(simulation, hard_table(simulation, seed=11, metadata={}))


def test_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    """Both files are a function of the options and the seed, and another seed gives others."""
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_card_fraud_hard(tmp_path / name, seed=seed, truth=tmp_path / f"truth-{name}", **TINY)
    for kind in ("", "truth-"):
        same, other = (tmp_path / f"{kind}{name}" for name in ("b", "c"))
        assert (tmp_path / f"{kind}a").read_bytes() == same.read_bytes()
        assert (tmp_path / f"{kind}a").read_bytes() != other.read_bytes()


def test_the_files_say_that_they_are_synthetic_and_only_one_holds_the_truth(tmp_path: Path) -> None:
    """Canonical columns and no others in the file for training; the truth joins by transaction_id."""
    path, truth = tmp_path / "new" / "set.parquet", tmp_path / "other" / "truth.parquet"
    write_card_fraud_hard(path, seed=3, truth=truth, **TINY)
    table, hidden = pq.read_table(path), pq.read_table(truth)
    assert table.column_names == [
        "transaction_id",
        "timestamp",
        "customer_id",
        "device_id",
        "merchant_id",
        "terminal_id",
        "amount",
        "is_fraud",
        "labelled_at",
    ]
    for one in (table, hidden):
        assert one.schema.metadata[b"quatrain.synthetic"] == b"true"
        assert one.schema.metadata[b"quatrain.generator"] == b"card-fraud-hard"
        assert b'"customers":60' in one.schema.metadata[b"quatrain.generator.options"]
    assert hidden["transaction_id"] == table["transaction_id"]
    assert len(set(table["transaction_id"].to_pylist())) == len(table)
    assert not list(tmp_path.rglob("*.part"))


def test_an_unknown_option_is_refused(tmp_path: Path) -> None:
    """A misspelt knob does not silently give the default world."""
    with pytest.raises(ValidationError, match="take_overs"):
        write_card_fraud_hard(tmp_path / "x", seed=0, take_overs=5)


def test_the_app_reads_the_file_without_a_bad_row(made: Made, tmp_path: Path) -> None:
    """What the generator writes is what the reader accepts, null labels being unknown ones."""
    pq.write_table(made.table, tmp_path / "set.parquet")
    found = load_labelled(tmp_path / "set.parquet", ColumnMap(label=LabelFormat(missing="unknown")))
    assert found.rejections.total == 0
    assert len(found.table) == len(made.table)
    assert found.is_synthetic


def test_rows_are_in_time_order_within_the_span_and_amounts_are_whole_cents(made: Made) -> None:
    """Ids count up with time, so that (timestamp, id) is the order of the file."""
    at = made.column("timestamp")
    assert (at[1:] >= at[:-1]).all()
    np.testing.assert_array_equal(made.column("transaction_id"), np.arange(len(at)))
    assert (at[-1] - at[0]).days < WORLD.days
    cents = made.column("amount") * 100
    np.testing.assert_allclose(cents, np.rint(cents), atol=1e-6)
    assert made.column("amount").min() > 0


@settings(max_examples=12, deadline=None)
@given(
    customers=st.integers(50, 150),
    merchants=st.integers(100, 200),
    regions=st.integers(2, 60),
    days=st.integers(10, 25),
    factor=st.sampled_from([0.0, 1.0, 20.0]),
    seed=st.integers(0, 2**32),
)
def test_any_size_and_any_rates_give_a_file_of_transactions(  # noqa: PLR0917 - hypothesis names them all
    customers: int, merchants: int, regions: int, days: int, factor: float, seed: int
) -> None:
    """Every configuration works, without any fraud as with twenty times as much."""
    rates = ("tested_cards", "takeovers", "compromised_cards", "rings", "lost_cards", "bust_outs", "denied_purchases")
    usual = {name: HardConfig.model_fields[name].default for name in rates}
    config = HardConfig.model_validate(
        {"customers": customers, "merchants": merchants, "regions": regions, "days": days}
        | {name: rate * factor for name, rate in usual.items()}
    )
    simulation = simulate_hard(config, seed=seed)
    table = hard_table(simulation, seed=seed, metadata={})
    assert table.num_rows == len(simulation)
    assert (np.diff(np.floor(simulation.events.at_s * 1_000)) >= 0).all()
    assert ((simulation.events.at_s >= 0) & (simulation.events.at_s < days * DAY_S)).all()
    assert (simulation.events.amount > 0).all()
    assert (simulation.events.kind > 0).any() == (factor > 0) or factor == 1
    assert table["device_id"].null_count > 0
    assert {table[name].null_count for name in ("customer_id", "merchant_id", "terminal_id", "timestamp")} == {0}


def test_the_default_world_has_two_million_rows_and_fraud_is_rare() -> None:
    """Between 0.3 and 0.6 % in truth and as labelled, and every type has hundreds of rows."""
    simulation = simulate_hard(HardConfig(), seed=0)
    found, kind = simulation.outcomes, simulation.events.kind
    assert 1_900_000 < len(simulation) < 2_400_000
    assert 0.003 < (found.label & found.is_labelled).mean() < (kind > 0).mean() < 0.006
    assert (np.bincount(kind, minlength=len(FRAUD_TYPES)) > 300).all()


def test_every_type_has_about_its_configured_rate(made: Made) -> None:
    """Cases of each type: a Poisson number, of campaigns with some cards each where there are campaigns."""
    events = made.simulation.events
    unit = made.simulation.world.thousand_months
    bounds = {
        "card_testing": (WORLD.tested_cards, 0.3),
        "account_takeover": (WORLD.takeovers, 0.4),
        "merchant_compromise": (WORLD.compromised_cards, 0.35),
        "lost_card": (WORLD.lost_cards, 0.45),
        "first_party": (WORLD.bust_outs + WORLD.denied_purchases, 0.5),
    }
    for name, (rate, tolerance) in bounds.items():
        n_cases = len(np.unique(events.case[events.kind == FRAUD_TYPES.index(name)]))
        assert n_cases == pytest.approx(rate * unit, rel=tolerance), name
    assert (events.kind == FRAUD_TYPES.index("mule_ring")).sum() > 0


@pytest.mark.parametrize(
    ("knob", "name"),
    [
        ("tested_cards", "card_testing"),
        ("takeovers", "account_takeover"),
        ("compromised_cards", "merchant_compromise"),
        ("rings", "mule_ring"),
        ("lost_cards", "lost_card"),
    ],
)
def test_a_rate_of_zero_takes_its_type_away_and_leaves_honest_life_as_it_is(knob: str, name: str) -> None:
    """Parts of the world draw from streams of their own, so that one knob moves one thing."""
    small = HardConfig(customers=300, merchants=200, days=30, denied_purchases=0)
    base, without = (simulate_hard(small.model_copy(update=change), seed=5) for change in ({}, {knob: 0.0}))
    assert not (without.events.kind == FRAUD_TYPES.index(name)).any()
    honest = [one.events.take(one.events.kind == 0) for one in (base, without)]
    np.testing.assert_array_equal(honest[0].amount, honest[1].amount)
    np.testing.assert_array_equal(honest[0].customer, honest[1].customer)


def test_delays_follow_the_log_normal_of_their_type() -> None:
    """From a case's last row to its report: a Kolmogorov-Smirnov test against the closed form."""
    config = WORLD.model_copy(update={"closed_after_days": 1e6, "abuse_share": 0.0})
    simulation = simulate_hard(config, seed=12)
    events, found = simulation.events, simulation.outcomes
    for kind, name in enumerate(FRAUD_TYPES[1:], start=1):
        rows = np.flatnonzero((events.kind == kind) & np.isfinite(found.known_s))
        delays = []
        for case in np.unique(events.case[rows]):
            of_case = np.flatnonzero(events.case == case)
            known = found.known_s[of_case][np.isfinite(found.known_s[of_case])]
            assert np.ptp(known) == 0
            delays.append((known[0] - events.at_s[of_case].max()) / DAY_S)
        median = getattr(config, f"delay_{name}")
        closed_form = stats.lognorm(config.delay_sigma, scale=median)
        assert stats.kstest(delays, closed_form.cdf).pvalue > 1e-3, name


def test_no_label_is_known_before_its_transaction_or_after_the_file_is_drawn(made: Made) -> None:
    """labelled_at is there for labelled frauds only, and between the two moments."""
    at, known, label = (made.table[name].to_pylist() for name in ("timestamp", "labelled_at", "is_fraud"))
    end = made.simulation.world.calendar.span_s + WORLD.closed_after_days * DAY_S
    for row, moment in enumerate(known):
        assert (moment is not None) == (label[row] is True)
        if moment is not None:
            assert moment >= at[row]
            assert (moment - at[0]).total_seconds() <= end


def test_labels_are_missing_wrong_and_denied_at_the_configured_rates(made: Made) -> None:
    """Null in about 1.5 %, regardless of fraud; unreported frauds read as legitimate; a few honest rows as fraud."""
    found, kind = made.simulation.outcomes, made.simulation.events.kind
    is_null = np.array([label is None for label in made.table["is_fraud"].to_pylist()])
    np.testing.assert_array_equal(is_null, ~found.is_labelled)
    assert is_null.mean() == pytest.approx(WORLD.lost_labels, rel=0.5)
    # Campaigns fall on few senders' days: of the days that hold a fraud, no more are lost than of all.
    places = made.simulation.world.places
    day = (made.simulation.events.at_s // DAY_S).astype(np.int64)
    cell = places.merchant[made.simulation.events.outlet] * WORLD.days + day
    _, first = np.unique(cell[made.is_fraud], return_index=True)
    assert is_null[made.is_fraud][first].mean() == pytest.approx(WORLD.lost_labels, abs=0.025)
    n_cases = len(np.unique(made.simulation.events.case[made.is_fraud]))
    assert 0.05 < 1 - found.label[made.is_fraud].mean() < 0.35
    assert n_cases > 100
    n_abused = int((found.label & (kind == 0)).sum())
    assert 0 < n_abused < 0.06 * found.label.sum()


def test_lost_labels_come_in_blocks() -> None:
    """A sender's day is lost as a whole: all rows of one merchant on one day, or none."""
    simulation = simulate_hard(HardConfig(customers=300, merchants=100, days=40, lost_labels=0.2), seed=2)
    merchant = simulation.world.places.merchant[simulation.events.outlet]
    day = (simulation.events.at_s // DAY_S).astype(np.int64)
    cell = merchant * 40 + day
    n_rows = np.bincount(cell)
    n_lost = np.bincount(cell, weights=~simulation.outcomes.is_labelled)
    assert ((n_lost == 0) | (n_lost == n_rows)).all()
    assert 0 < n_lost.sum() < n_rows.sum()


def test_the_mix_of_frauds_drifts_beyond_chance() -> None:
    """Cases of takeovers rise and tests fall over the thirds (chi-square); without drift they do neither."""
    for drift, is_moving in ((1.0, True), (0.0, False)):
        config = HardConfig(customers=3_000, merchants=300, days=120, drift=drift, tested_cards=0, rings=0)
        events = simulate_hard(config.model_copy(update={"takeovers": 30}), seed=4).events
        rows = events.kind == FRAUD_TYPES.index("account_takeover")
        _, first = np.unique(events.case[rows], return_index=True)
        per_third = np.histogram(events.at_s[rows][first], bins=3, range=(0, 120 * DAY_S))[0]
        assert (stats.chisquare(per_third).pvalue < 1e-3) == is_moving
        assert not is_moving or per_third[0] < per_third[1] < per_third[2]


def test_new_tactics_appear_in_the_last_third_only(made: Made) -> None:
    """None of them starts before its time, and at least two are seen after it."""
    events = made.simulation.events
    is_new = np.isin(events.tactic, NEW_TACTICS)
    assert events.at_s[is_new].min() >= 2 / 3 * WORLD.days * DAY_S
    assert len(np.unique(events.tactic[is_new])) >= 2
    never = simulate_hard(WORLD.model_copy(update={"customers": 500, "new_tactics_from": 1.0}), seed=11).events
    assert not np.isin(never.tactic, NEW_TACTICS).any()


def test_neither_ids_nor_order_nor_last_digits_give_fraud_away(made: Made) -> None:
    """Each as a score of its own ranks frauds as badly as chance."""
    events = made.simulation.events
    at_ms = np.floor(events.at_s * 1_000).astype(np.int64)
    cents = np.rint(made.column("amount") * 100).astype(np.int64)
    hour = at_ms // 3_600_000
    place_in_hour = np.arange(len(hour)) - np.searchsorted(hour, hour)
    of_hour = place_in_hour / np.bincount(hour)[hour]
    device = made.column("device_id")
    has_device = device >= 0
    for name in ("customer_id", "merchant_id", "terminal_id"):
        # Frauds gather on few of them, so that the noise is that of the number of entities.
        assert roc_auc_score(made.is_fraud, made.column(name)) == pytest.approx(0.5, abs=0.08), name
        assert roc_auc_score(made.is_fraud, made.column(name) % 10) == pytest.approx(0.5, abs=0.08), name
    assert roc_auc_score(made.is_fraud[has_device], device[has_device]) == pytest.approx(0.5, abs=0.06)
    assert roc_auc_score(made.is_fraud, at_ms % 1_000) == pytest.approx(0.5, abs=0.03)
    assert roc_auc_score(made.is_fraud, at_ms // 1_000 % 60) == pytest.approx(0.5, abs=0.03)
    assert roc_auc_score(made.is_fraud, cents % 10) == pytest.approx(0.5, abs=0.06)
    assert roc_auc_score(made.is_fraud, cents % 100) == pytest.approx(0.5, abs=0.06)
    # transaction_id counts rows: beyond the hour that the timestamp tells anyway, it says nothing.
    assert roc_auc_score(made.is_fraud, of_hour) == pytest.approx(0.5, abs=0.03)


def test_frauds_stand_anywhere_among_the_rows_of_their_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """With moments as long as a day, the place of frauds among a day's rows is even."""
    monkeypatch.setattr(hard, "_TICKS_PER_S", 1 / DAY_S)
    events = simulate_hard(HardConfig(customers=1_000, merchants=200, days=30), seed=8).events
    day = (events.at_s // DAY_S).astype(np.int64)
    place = (np.arange(len(day)) - np.searchsorted(day, day)) / np.bincount(day)[day]
    for kind in (FRAUD_TYPES.index("card_testing"), FRAUD_TYPES.index("lost_card")):
        assert stats.kstest(place[events.kind == kind], stats.uniform.cdf).pvalue > 1e-3


def test_no_single_column_separates_fraud(made: Made) -> None:
    """Amount, hour, whether a device is known or new to the customer: each alone stays far from an oracle."""
    events = made.simulation.events
    hour = events.at_s % DAY_S
    assert roc_auc_score(made.is_fraud, events.amount) < 0.75
    assert 0.3 < roc_auc_score(made.is_fraud, hour) < 0.7
    pair = made.column("customer_id") * 10**7 + made.column("device_id")
    _, first = np.unique(pair, return_index=True)
    is_new = np.zeros(len(pair), dtype=bool)
    is_new[first] = True
    late = events.at_s > 30 * DAY_S
    # New devices are a sign, but most first uses are honest.
    assert made.is_fraud[is_new & late].mean() > 3 * made.is_fraud[late].mean()
    assert made.is_fraud[is_new & late].mean() < 0.3


def test_cards_are_replaced_after_a_report_and_phones_when_they_are_old() -> None:
    """A blocked card is seen no more from the day after the report on; its successor belongs to the same customer."""
    simulation = simulate_hard(HardConfig(customers=400, merchants=200, days=60, lost_cards=60), seed=6)
    world, events, found = simulation.world, simulation.events, simulation.outcomes
    device = world.people.owns.as_replaced(events.device, events.at_s, found.replaced_s)
    owner = np.repeat(np.arange(400), world.people.owns.cards.shape[1])
    blocked = np.flatnonzero(found.replaced_s < 60 * DAY_S)
    assert len(blocked) > 5
    for customer in blocked:
        old = np.isin(device, world.people.owns.cards[customer])
        assert (events.at_s[old] < found.replaced_s[customer]).all()
    new = np.flatnonzero(np.isin(device, world.people.owns.next_cards))
    place = device[new] - world.people.owns.next_cards[0, 0]
    np.testing.assert_array_equal(owner[place], events.customer[new])


def test_names_of_types_and_tactics_are_what_the_codes_mean() -> None:
    """The truth file's words and the code's numbers agree."""
    from quatrain.fintech.simulation import events

    assert [FRAUD_TYPES[code] for code in (events.CARD_TESTING, events.MULE_RING, events.FIRST_PARTY)] == [
        "card_testing",
        "mule_ring",
        "first_party",
    ]
    assert [TACTICS[code] for code in NEW_TACTICS] == [
        "distributed_testing",
        "low_and_slow",
        "wallet",
        "separate_devices",
    ]
