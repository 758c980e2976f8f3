"""A sequence says what its definition says, and nothing of the future."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from tests.fintech.features.leaks import random_events, seeded
from tests.fintech.features.oracle import DAY, HOUR, Event, event_lists, to_table

from quatrain.fintech.features.sequences import (
    CHANNELS,
    KEYS,
    PEERS,
    PLACES,
    SequenceSpec,
    history,
    last_events,
    sequences,
    tokens_of,
)

SPEC = SequenceSpec(length=4, lookback_days=7, buckets=16)


def alike(earlier: Sequence[Event], event: Event, same: Callable[[int], bool], lookback: int) -> tuple[int, int, float]:
    """Return (ago, count, seconds since) over the card's earlier events for which `same` holds."""
    recent = [j for j, other in enumerate(earlier) if other.at > event.at - lookback and same(j)]
    if not recent:
        return 0, 0, lookback / 1e6
    return len(earlier) - recent[-1], len(recent), (event.at - earlier[recent[-1]].at) / 1e6


def whole(event: Event) -> int:
    """Return the amount in 1/10000."""
    return round(min(event.amount, 1e10) * 10_000)


def step(card: Sequence[Event], j: int, key: str) -> tuple[str, str] | None:
    """Return from where to where the card went with its j-th event, or None without a step."""
    ids = [getattr(other, key) for other in card[max(j - 1, 0) : j + 1]]
    if len(ids) == 1 or None in ids or card[j].at - card[j - 1].at >= DAY:
        return None
    return ids[0], ids[1]


def of(event: Event, key: str, spec: SequenceSpec) -> str | None:
    """Return an event's id of one of KEYS."""
    value: str | None = getattr(event, PEERS[spec.owner] if key == "peer" else key)
    return value


def token(earlier: Sequence[Event], event: Event, spec: SequenceSpec) -> dict[str, float]:
    """Return an event's channels from their definitions; `earlier` are the card's events before it."""
    amounts = [whole(other) for other in (*earlier, event)]
    _, count, gap = alike(earlier, event, lambda _: True, spec.lookback_us)
    values = {
        "is_event": 1.0,
        "log_amount": math.log1p(amounts[-1] / 10_000),
        "hour": event.at % DAY / HOUR,
        "weekday": (event.at // DAY + 3) % 7,
        "log_gap": math.log1p(gap),
        "log_count": math.log1p(count),
        "amount_step": math.log1p(amounts[-1] / 10_000) - math.log1p(amounts[-2] / 10_000) if count else 0.0,
        "same_amount_ago": alike(earlier, event, lambda j: amounts[j] == amounts[-1], spec.lookback_us)[0],
    }
    for key in KEYS:
        ids, own = [of(other, key, spec) for other in earlier], of(event, key, spec)
        ago, count, gap = alike(earlier, event, lambda j, ids=ids, own=own: own == ids[j] != None, spec.lookback_us)  # noqa: E711
        values[f"{key}_bucket"] = 0 if own is None else 1 + zlib.crc32(own.encode()) % (spec.buckets - 1)
        values |= {f"{key}_ago": ago, f"{key}_log_count": math.log1p(count), f"{key}_log_gap": math.log1p(gap)}
        if key in PLACES:
            steps = [step([*earlier, event], j, key) for j in range(len(earlier) + 1)]
            follows = alike(earlier, event, lambda j, s=steps: s[-1] == s[j] != None, spec.lookback_us)[1]  # noqa: E711
            values[f"{key}_log_follows"] = math.log1p(follows)
    return values


def expected(events: Sequence[Event], spec: SequenceSpec) -> NDArray[np.float32]:
    """Return every event's sequence (n, T, C), in the order given; of events with one identity the first counts."""
    first: dict[tuple[int, bytes], Event] = {}
    for event in events:
        first.setdefault(event.order, event)
    ordered = sorted(first.values(), key=lambda e: e.order)
    found = np.zeros((len(events), spec.length, len(CHANNELS)), dtype=np.float32)
    for row, given_event in enumerate(events):
        event = first[given_event.order]
        whose = getattr(event, spec.owner)
        card = [e for e in ordered if whose is not None and getattr(e, spec.owner) == whose and e.order < event.order]
        kept = [j for j, other in enumerate(card) if other.at > event.at - spec.lookback_us][-(spec.length - 1) :]
        tokens = [*(token(card[:j], card[j], spec) for j in kept), token(card, event, spec)]
        for column, values in enumerate(reversed(tokens)):
            found[row, spec.length - 1 - column] = [values[name] for name in CHANNELS]
    return found


@settings(max_examples=60, deadline=None)
@given(events=event_lists(), owner=st.sampled_from(sorted(PEERS)))
def test_every_channel_agrees_with_its_definition(events: list[Event], owner: Literal["customer", "device"]) -> None:
    """Against plain Python that compares every pair of an owner's events."""
    spec = SPEC.model_copy(update={"owner": owner})
    np.testing.assert_allclose(history(to_table(events), spec), expected(events, spec), rtol=1e-5, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(events=event_lists(), seed=st.integers(0, 1000))
def test_the_future_changes_nothing(events: list[Event], seed: int) -> None:
    """Whatever comes after a row, with whatever amounts, ids and labels, its sequence stays bit for bit."""
    random = seeded(seed)
    cut = sorted(events, key=lambda e: e.order)[len(events) // 2].order
    changed = [
        e
        if e.order <= cut
        else replace(e, at=e.at + random.choice((0, HOUR)), amount=random.random() * 100, merchant="new", fraud=True)
        for e in events
    ]
    past = [row for row, event in enumerate(events) if event.order <= cut]
    np.testing.assert_array_equal(history(to_table(events), SPEC)[past], history(to_table(changed), SPEC)[past])


def test_rows_come_back_in_their_own_order() -> None:
    """Past events before, between and after the rows, and rows that the past holds too."""
    random = seeded(3)
    events = random_events(random, 40)
    whole = dict(zip((e.order for e in events), history(to_table(events), SPEC), strict=True))
    rows, past = random.sample(events, 15), random.sample(events, 40)
    found = history(to_table(rows), SPEC, past=to_table(past))
    np.testing.assert_array_equal(found, [whole[row.order] for row in rows])


def test_nothing_older_than_twice_the_lookback_and_a_day_counts() -> None:
    """So much history is all that serving must keep."""
    old = [Event(19_000 * DAY + i * HOUR, f"o{i}", 5.0, customer="u", terminal="t", device="d") for i in range(9)]
    recent = [Event(19_000 * DAY + 15 * DAY + i * DAY, f"r{i}", 5.0, customer="u", terminal="t") for i in range(1, 8)]
    rows = to_table(recent[-1:])
    with_old = history(rows, SPEC, past=to_table([*old, *recent]))
    np.testing.assert_array_equal(with_old, history(rows, SPEC, past=to_table(recent)))


def test_a_row_without_a_card_stands_alone() -> None:
    """Two rows without a card are not one card's."""
    events = [Event(19_000 * DAY + i, f"{i}", terminal="t") for i in range(3)]
    found = history(to_table(events), SPEC)
    assert found[:, :-1].any() == False  # noqa: E712 - NumPy's
    assert found[:, -1, CHANNELS.index("terminal_ago")].tolist() == [0, 0, 0]


def test_id_columns_may_be_missing() -> None:
    """A file without devices and merchants gives what one with empty columns gives."""
    events = [replace(e, device=None, merchant=None) for e in random_events(seeded(1), 30)]
    table = to_table(events)
    np.testing.assert_array_equal(history(table.drop_columns(["device_id", "merchant_id"]), SPEC), history(table, SPEC))


def test_inputs_come_after_the_channels_of_their_event() -> None:
    """What else was known of an event stands in its token wherever it appears; padding stays zero."""
    tokens = tokens_of([to_table(random_events(seeded(4), 30))], SPEC)
    events = np.arange(len(tokens))
    found = sequences(tokens, events, SPEC, inputs=np.column_stack([events + 1, -events]).astype(np.float32))
    np.testing.assert_array_equal(found[..., : len(CHANNELS)], sequences(tokens, events, SPEC))
    np.testing.assert_array_equal(found[..., -2], last_events(tokens, events, SPEC) + 1)


def test_no_rows_give_no_sequences() -> None:
    """Shape and dtype stay."""
    found = history(to_table([]), SPEC)
    assert found.shape == (0, SPEC.length, len(CHANNELS))
    assert found.dtype == np.float32


def test_the_order_of_the_file_does_not_matter() -> None:
    """Tokens lie in the total order, and `place` finds each row's."""
    events = random_events(seeded(2), 30)
    tokens, turned = tokens_of([to_table(events)], SPEC), tokens_of([to_table(events[::-1])], SPEC)
    np.testing.assert_array_equal(tokens.values, turned.values)
    np.testing.assert_array_equal(tokens.place, turned.place[::-1])
    assert (np.diff(tokens.at_us) >= 0).all()


def test_a_lookback_beyond_what_serving_keeps_is_refused() -> None:
    """Tokens look back as far again as sequences do."""
    with pytest.raises(ValidationError, match="lookback_days"):
        SequenceSpec(lookback_days=30)
