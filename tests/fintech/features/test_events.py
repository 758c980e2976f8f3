"""Events have one order, exact amounts, and labels with the time they became known."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fintech.features.oracle import DAY, Event, event_lists, to_table

from quatrain.core.errors import BadDataError
from quatrain.fintech.features.build import build
from quatrain.fintech.features.events import events_of, whole_amount, whole_amounts
from quatrain.fintech.features.names import LABEL_DELAY_US

COLUMNS = ["customer_id", "device_id"]


@settings(deadline=None)
@given(events=event_lists(), cut=st.integers(0, 14))
def test_events_are_in_the_total_order_wherever_they_came_from(events: list[Event], cut: int) -> None:
    """(timestamp, id as bytes), each once, the first that came; and every row finds its event."""
    tables = [to_table(events[:cut]), to_table(events[cut:])]
    found, place = events_of(tables, COLUMNS)
    first: dict[tuple[int, bytes], Event] = {}
    for event in events:
        first.setdefault(event.order, event)
    wanted = [first[order] for order in sorted(first)]
    assert found.at_us.tolist() == [event.at for event in wanted]
    assert [wanted[i].order for i in place] == [event.order for event in events]
    assert found.is_fraud.tolist() == [event.fraud is True for event in wanted]
    for column in COLUMNS:
        ids = [getattr(event, column.removesuffix("_id")) for event in wanted]
        codes = found.codes[column].tolist()
        assert [code < 0 for code in codes] == [id_ is None for id_ in ids]
        assert len(set(zip(codes, ids, strict=True))) == len(set(ids)) == len(set(codes))
        assert max(codes) < found.n_codes[column]


def test_a_label_is_known_when_the_file_says_or_after_the_delay() -> None:
    """Never before the event itself."""
    start = 19_000 * DAY
    given_ = [None, start + DAY, start]
    table = to_table([Event(start, str(i), fraud=True, labelled_at=at) for i, at in enumerate(given_)])
    events, _ = events_of([table], [], label_delay_us=3 * DAY)
    assert (events.known_us - start).tolist() == [3 * DAY, DAY, 0]
    stamps = pa.array([start - DAY] * 3, pa.timestamp("us", tz="UTC"))
    early = table.drop_columns(["labelled_at"]).append_column("labelled_at", stamps)
    assert (events_of([early], [])[0].known_us >= start).all()


def test_columns_that_a_table_does_not_have_are_missing_throughout() -> None:
    """History without devices, rows without labels."""
    rows = to_table([Event(0, "a", device="d")]).drop_columns(["is_fraud", "labelled_at"])
    history = to_table([Event(1, "b", fraud=True)]).drop_columns(["device_id"])
    events, place = events_of([history, rows], COLUMNS)
    assert events.codes["device_id"].tolist() == [0, -1]
    assert events.is_fraud.tolist() == [False, True]
    assert events.known_us[1] == 1 + LABEL_DELAY_US
    assert place.tolist() == [1, 0]


@given(amount=st.floats(0, 1e12) | st.integers(0, 10**7).map(lambda cents: cents / 100))
def test_amounts_are_whole_and_rounded_half_to_even(amount: float) -> None:
    """One by one as in an array; the oracle is decimal arithmetic."""
    scaled = Decimal(min(amount, 1e10) * 10_000)
    wanted = int(scaled.quantize(Decimal(1), rounding=ROUND_HALF_EVEN))
    assert whole_amount(amount) == wanted
    assert whole_amounts(np.array([amount])).tolist() == [wanted]


def test_sums_that_64_bits_do_not_hold_are_refused() -> None:
    """A hundred thousand amounts of ten billion; no sum may wrap around."""
    assert whole_amounts(np.full(92_000, 1e10)).sum() == 92_000 * 10**14
    with pytest.raises(BadDataError, match=r"the amounts sum to 1e.15.* give the amounts in a larger unit"):
        whole_amounts(np.full(100_000, 3e30))
    with pytest.raises(ValueError, match="amounts must be finite"):
        whole_amounts(np.array([np.nan]))


def test_rows_without_what_history_needs_are_refused() -> None:
    """An id column that the model reads, and the transaction's id where timestamps are equal."""
    rows = to_table([Event(0, "a"), Event(0, "b")])
    with pytest.raises(BadDataError, match="features need device_id, which the rows do not have"):
        build(rows.drop_columns(["device_id"]), ["device_since"])
    with pytest.raises(BadDataError, match="need transaction_id, which orders events of one instant"):
        build(rows.drop_columns(["transaction_id"]), ["device_since"])


def test_no_rows_have_no_features() -> None:
    """An empty batch is no special case to a caller."""
    assert build(to_table([]), ["amount", "customer_risk_7d", "device_component"]).shape == (0, 3)
    found = build(to_table([]), ["customer_count_7d"], history=to_table([Event(0, "a", customer="c")]))
    assert found.shape == (0, 1)
