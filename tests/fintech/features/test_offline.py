"""The offline engine gives what the definitions say, and nothing of the future."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fintech.features.leaks import random_events, seeded
from tests.fintech.features.oracle import DAY, DELAYS, HOUR, KINDS, NAMES, Event, event_lists, expected, to_table

from quatrain.fintech.features import offline
from quatrain.fintech.features.build import build
from quatrain.fintech.features.events import events_of
from quatrain.fintech.features.names import ENTITIES, parse


@settings(max_examples=150, deadline=None)
@given(events=event_lists(), delay=st.sampled_from(DELAYS))
def test_every_kind_agrees_with_its_definition(events: list[Event], delay: int) -> None:
    """All kinds, keys and window edges, against plain Python that compares every pair of events."""
    found = build(to_table(events), NAMES, label_delay_us=delay)
    wanted = expected(events, NAMES, delay)
    # The definition's fraction is rounded once, an engine's float64 expression up to three times.
    wrong = [NAMES[place] for place in np.flatnonzero((np.abs(found - wanted) > np.spacing(wanted)).any(axis=0))]
    assert wrong == []


@pytest.mark.parametrize("n_events", [1500, 4000])
def test_many_events_agree_with_their_definition(n_events: int) -> None:
    """Blocks, strides and long groups, which few events do not reach: each row against its own past."""
    random = seeded(n_events)
    at, events = 19_000 * DAY, list[Event]()
    for i in range(n_events):
        at += random.choice((0, 1, HOUR, 5 * HOUR))
        keys = {key: random.choice((None, "u", "u", "u", "v", f"{i // 7}")) for key in ENTITIES}
        known = random.choice((None, at, at + 2 * DAY, at + 70 * DAY))
        amount = random.choice((0.0, 19.99, 1e6))
        events.append(Event(at, f"{i:06d}", amount, fraud=random.random() < 0.1, labelled_at=known, **keys))
    found = build(to_table(events), NAMES)
    for row in random.sample(range(n_events), 6):
        wanted = expected(events[: row + 1], NAMES, 7 * DAY, only_last=True)[-1]
        assert (np.abs(found[row] - wanted) <= np.spacing(wanted)).all()


def test_rows_come_back_in_their_own_order() -> None:
    """History before, between and after the rows, and rows that history holds too: each sees what is before it."""
    random = seeded(5)
    events = random_events(random, 40)
    whole = dict(zip((e.order for e in events), build(to_table(events), NAMES), strict=True))
    rows, history = random.sample(events, 20), random.sample(events, 40)
    found = build(to_table(rows).to_batches()[0], NAMES, history=to_table(history))
    np.testing.assert_array_equal(found, [whole[row.order] for row in rows])


def test_history_knows_the_label_of_a_row_that_it_holds() -> None:
    """A file that is scored again comes without labels; what is known of its rows by now counts for later ones."""
    fraud = Event(19_000 * DAY, "a", customer="u", fraud=True)
    later = Event(19_008 * DAY, "b", customer="u")
    rows = to_table([replace(fraud, fraud=None), later])
    assert build(rows, ["customer_frauds_7d"]).ravel().tolist() == [0, 0]
    assert build(rows, ["customer_frauds_7d"], history=to_table([fraud])).ravel().tolist() == [0, 1]


def test_a_negative_delay_and_an_unknown_name_are_refused() -> None:
    """Both would be a caller's mistake."""
    events, _ = events_of([to_table([Event(0, "a")])], ["customer_id"])
    with pytest.raises(ValueError, match="label_delay_us must be at least 0, got -1"):
        offline.matrix(events, ["customer_since"], -1)
    with pytest.raises(ValueError, match="'customer_rank_7d' is no history feature"):
        offline.matrix(events, ["customer_rank_7d"], 0)


def test_every_tested_name_is_a_feature() -> None:
    """A misspelt name would test nothing."""
    assert all(parse(name) is not None for name in NAMES)
    assert {parse(name).kind for name in NAMES} == {*KINDS, "distinct", "since", "since_fraud", "component"}  # type: ignore[union-attr]  # none is None
