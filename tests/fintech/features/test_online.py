"""The online engine gives the offline engine's bits, whatever the order of arrival and however often it restarts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fintech.features.leaks import seeded
from tests.fintech.features.oracle import DAY, DELAYS, HOUR, NAMES, Event, changed, event_lists, to_table

from quatrain.core.errors import BadDataError
from quatrain.fintech.features.build import build
from quatrain.fintech.features.names import ENTITIES, feature_names, horizon_us
from quatrain.fintech.features.online import OnlineFeatures
from quatrain.fintech.features.row import BUILT_IN
from quatrain.fintech.features.transaction import Transaction, transactions

FULL = (*BUILT_IN, *NAMES)
# Longer than any list of events lasts.
FOREVER = 10_000 * DAY


def transaction(event: Event) -> Transaction:
    """Return an event as the engine takes it."""
    return next(transactions(to_table([event])))


def known_us(event: Event, delay: int) -> int:
    """Return when a fraud became known."""
    return event.at + delay if event.labelled_at is None else event.labelled_at


def in_order(events: Sequence[Event]) -> list[Event]:
    """Return the events in total order, the first of each identity."""
    first: dict[tuple[int, bytes], Event] = {}
    for event in events:
        first.setdefault(event.order, event)
    return [first[order] for order in sorted(first)]


@settings(max_examples=100, deadline=None)
@given(events=event_lists(max_size=20), delay=st.sampled_from(DELAYS), restart=st.integers(0, 20), early=st.booleans())
def test_replay_in_order_gives_the_offline_bits(events: list[Event], delay: int, restart: int, early: bool) -> None:
    """Every feature of every event, with a restart from bytes at any of them, labels learned at once or when known."""
    events = in_order(events)
    engine, waiting = OnlineFeatures(FULL, delay), list[Event]()
    found = []
    for i, event in enumerate(events):
        if i == restart:
            engine = OnlineFeatures.from_bytes(engine.to_bytes())
        for fraud in [fraud for fraud in waiting if early or known_us(fraud, delay) <= event.at]:
            engine.learn(transaction(fraud), known_us(fraud, delay))
            waiting.remove(fraud)
        found.append(engine.observe(transaction(event)))
        if event.fraud:
            waiting.append(event)
    np.testing.assert_array_equal(np.stack(found), build(to_table(events), FULL, label_delay_us=delay))


@settings(max_examples=60, deadline=None)
@given(
    events=event_lists(max_size=12),
    delay=st.sampled_from(DELAYS),
    restart=st.integers(0, 12),
    lessons=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=6),
)
def test_late_and_repeated_events_see_what_has_arrived(
    events: list[Event], delay: int, restart: int, lessons: list[tuple[int, int]]
) -> None:
    """In any order of arrival each event's features are offline's over all that came and was learned by then."""
    engine = OnlineFeatures(FULL, delay, lateness_us=FOREVER)
    arrived: dict[tuple[int, bytes], Event] = {}
    for i, event in enumerate(events):
        if i == restart:
            engine = OnlineFeatures.from_bytes(engine.to_bytes())
        for _, which in (lesson for lesson in lessons if lesson[0] == i and lesson[1] < len(events)):
            fraud = events[which]
            engine.learn(transaction(fraud), known_us(fraud, delay))
            held = arrived.setdefault(fraud.order, changed(fraud, fraud=False))
            known = min(known_us(fraud, delay), held.labelled_at if held.fraud and held.labelled_at else FOREVER**2)
            arrived[fraud.order] = changed(held, fraud=True, labelled_at=known)
        held = arrived.setdefault(event.order, changed(event, fraud=False))
        found = engine.observe(transaction(event))
        row = build(to_table([held]), FULL, history=to_table(list(arrived.values())), label_delay_us=delay)[0]
        # What the row says of itself is the row's; what events say of it is the first's with its identity.
        row[: len(BUILT_IN)] = build(to_table([event]), BUILT_IN)[0]
        assert [name for name, a, b in zip(FULL, found, row, strict=True) if a != b] == []


def world(n: int, days: int, seed: int) -> list[Event]:
    """Return a stream in order over few keys, with labels on time, early and late."""
    random = seeded(seed)
    times = sorted(random.randrange(days * DAY) for _ in range(n))
    ids = {"customer": 12, "terminal": 5, "device": 15, "merchant": 2}
    return [
        Event(
            19_000 * DAY + at,
            f"T{i:05d}",
            random.choice((3.5, 20.0, 999.99)),
            fraud=random.random() < 0.08,
            labelled_at=random.choice((None, 19_000 * DAY + at + random.randrange(50 * DAY))),
            **{key: random.choice((None, *(f"{key}{k}" for k in range(n_ids)))) for key, n_ids in ids.items()},
        )
        for i, at in enumerate(times)
    ]


@pytest.mark.parametrize("names", [FULL, ("customer_distinct_device_1d", "terminal_risk_7d"), ("device_component",)])
def test_the_state_stays_within_its_horizon(names: tuple[str, ...]) -> None:
    """Over a year no more is held than the horizon needs, late events included, and every feature stays exact."""
    random = seeded(0)
    events = world(1500, 400, seed=1)
    wanted = build(to_table(events), names)
    engine = OnlineFeatures(names, lateness_us=3 * DAY)
    kept_us = horizon_us(names, 7 * DAY) + 3 * DAY
    lessons = sorted(((known_us(e, 7 * DAY), j) for j, e in enumerate(events) if e.fraud), reverse=True)
    late, most = list[int](), 0
    for i, event in enumerate(events):
        due = [j for j in late if events[j].at < event.at - 2 * DAY]
        late = [j for j in late if j not in due]
        for j in due:
            engine.observe(transaction(events[j]))
        if random.random() < 0.05:
            late.append(i)
            continue
        while lessons and lessons[-1][0] <= event.at:
            known, j = lessons.pop()
            engine.learn(transaction(events[j]), known)
        found = engine.observe(transaction(event))
        if not late:
            np.testing.assert_array_equal(found, wanted[i])
        most = max(most, len(engine))
    in_reach = max(sum(e.at - kept_us - DAY < other.at <= e.at for other in events) for e in events[::50])
    assert most <= in_reach + 20


def test_a_state_that_is_full_of_old_events_empties_again() -> None:
    """After a pause longer than the horizon the backlog goes a few at a time, and nothing of it is seen."""
    engine = OnlineFeatures(["customer_count_7d", "customer_distinct_device_7d"])
    for i in range(400):
        engine.remember(Transaction(at_us=i * HOUR // 4, transaction_id=f"{i:03d}", amount=1.0, customer_id="c"))
    start = 100 * DAY
    rows = [Transaction(at_us=start + i, transaction_id=f"{i}", amount=1.0, customer_id="c") for i in range(150)]
    found = [engine.observe(row).tolist() for row in rows]
    assert found == [[i + 1, 0] for i in range(150)]
    assert len(engine) == 150
    assert len(OnlineFeatures.from_bytes(engine.to_bytes())) == 150


def test_history_may_be_remembered_in_any_order() -> None:
    """What was loaded before the start counts as if it had been observed, late or not."""
    events = world(300, 30, seed=2)
    wanted = build(to_table([changed(event, fraud=False) for event in events]), FULL)[-50:]
    engine = OnlineFeatures(FULL)
    for event in seeded(3).sample(events[:-50], 250):
        engine.remember(transaction(event))
    np.testing.assert_array_equal([engine.observe(transaction(event)) for event in events[-50:]], wanted)


def test_what_is_older_than_anything_held_is_nothing() -> None:
    """Neither history nor a label of long ago changes the state or stops it."""
    engine = OnlineFeatures(["customer_frauds_7d"])
    engine.observe(Transaction(at_us=1000 * DAY, transaction_id="a", amount=1.0, customer_id="c"))
    old = Transaction(at_us=900 * DAY, transaction_id="b", amount=1.0, customer_id="c")
    engine.learn(old, 1000 * DAY)
    engine.remember(old)
    assert len(engine) == 1


def test_of_two_times_at_which_a_fraud_became_known_the_earlier_counts() -> None:
    """A chargeback and a call of the cardholder are one fraud, known from the first of them on."""
    fraud = Transaction(at_us=0, transaction_id="a", amount=1.0, customer_id="c")
    for times_us in ([5 * DAY, 2 * DAY], [2 * DAY, 5 * DAY], [2 * DAY]):
        engine = OnlineFeatures(["customer_frauds_1d", "customer_frauds_60d"])
        for known in times_us:
            engine.learn(fraud, known)
        days = (1, 2, 4, 5, 8)
        rows = [Transaction(at_us=day * DAY, transaction_id=f"{day}", amount=1.0, customer_id="c") for day in days]
        found = [engine.observe(row).tolist() for row in rows]
        assert found == [[0, 0], [1, 1], [0, 1], [0, 1], [0, 1]]


def test_a_transaction_that_is_too_late_is_refused() -> None:
    """Its features could not be exact, and nothing says so of a number."""
    engine = OnlineFeatures(["customer_count_7d"])
    engine.observe(Transaction(at_us=10 * DAY, transaction_id="a", amount=1.0, customer_id="c"))
    late = Transaction(at_us=8 * DAY, transaction_id="b", amount=1.0, customer_id="c")
    with pytest.raises(
        BadDataError, match=r"'b' is 2\.0 days older than the latest one; features are exact up to 1 days"
    ):
        engine.observe(late)
    assert engine.observe(Transaction(at_us=9 * DAY, transaction_id="b", amount=1.0, customer_id="c")).tolist() == [1]


def test_a_bad_transaction_leaves_no_trace() -> None:
    """An amount that is no number, and a column of the file's own that is not there."""
    engine = OnlineFeatures(["V1", "customer_count_7d"])
    with pytest.raises(BadDataError, match="'a' has no V1, which the model reads"):
        engine.observe(Transaction(at_us=0, transaction_id="a", amount=1.0, customer_id="c"))
    with pytest.raises(BadDataError, match="amount of transaction 'a' is nan, not a finite number"):
        engine.observe(
            Transaction(at_us=0, transaction_id="a", amount=float("nan"), customer_id="c", extras={"V1": 1.0})
        )
    good = Transaction(at_us=0, transaction_id="a", amount=1.0, customer_id="c", extras={"V1": 0.1})
    assert engine.observe(good).tolist() == [np.float32(0.1), 1]


def test_a_saved_state_is_checked() -> None:
    """Another file, half a state and a later version are told apart from a state."""
    engine = OnlineFeatures(["customer_count_7d"])
    engine.observe(Transaction(at_us=0, transaction_id="a", amount=1.0, customer_id="c"))
    state = engine.to_bytes()
    for wrong in (b"", b"PK\x03\x04", state[: len(state) // 2]):
        with pytest.raises(BadDataError, match="no saved state of online features"):
            OnlineFeatures.from_bytes(wrong)
    with pytest.raises(BadDataError, match="has version 2, expected 1"):
        OnlineFeatures.from_bytes(state.replace(b'"version": 1', b'"version": 2'))


def test_a_model_without_history_keeps_nothing() -> None:
    """Only the row speaks."""
    engine = OnlineFeatures(BUILT_IN)
    events = world(20, 3, seed=4)
    found = [engine.observe(transaction(event)) for event in events]
    np.testing.assert_array_equal(found, build(to_table(events), BUILT_IN))
    assert len(engine) == 0
    assert OnlineFeatures.from_bytes(engine.to_bytes()).names == BUILT_IN


def test_the_full_set_is_exact_on_a_stream() -> None:
    """What a model with every feature reads, with extras, from a table's own rows."""
    events = world(400, 60, seed=5)
    table = to_table(events).append_column("V1", pa.array(np.linspace(-1, 1, 400)))
    names = feature_names(table.column_names, ["V1"], span_us=400 * DAY, history="full")
    assert set(ENTITIES.values()) < set(table.column_names)
    engine, found = OnlineFeatures(names), []
    for event, row in zip(events, transactions(table, extras=["V1"]), strict=True):
        found.append(engine.observe(row))
        if event.fraud:
            engine.learn(row, known_us(event, 7 * DAY))
    np.testing.assert_array_equal(np.stack(found), build(table, names))


def test_serving_needs_neither_a_compiler_nor_pandas() -> None:
    """The online engine starts at once: it imports no numba, and nothing that trains."""
    code = "import sys; from quatrain.fintech.features import build, online; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"numba", "pandas", "torch", "sklearn", "lightgbm"} & set(loaded)
