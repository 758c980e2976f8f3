"""History features from their definitions in plain Python, every pair of events compared: what engines are held to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st
from numpy.typing import NDArray

MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
CAP = 60 * DAY
KEYS = ("customer", "terminal", "device", "merchant")
UNITS = {"m": MINUTE, "h": HOUR, "d": DAY}
# Every kind of feature, of single keys and of pairs, over windows from short to the longest.
PAIRS = ("customer_terminal", "customer_device", "terminal_merchant")
WINDOWS = ("1h", "7d", "60d")
AMOUNT_KINDS = ("count", "sum", "mean", "ratio", "max")
LABEL_KINDS = ("matured", "frauds", "risk", "usual", "fraud_mean", "streak", "first_fraud")
KINDS = (*AMOUNT_KINDS, *LABEL_KINDS)
NAMES = tuple(
    name
    for key in (*KEYS, *PAIRS)
    for name in (
        *(f"{key}_{kind}_{w}" for kind in KINDS for w in WINDOWS),
        *(f"{key}_distinct_{of}_{w}" for of in KEYS for w in WINDOWS if of not in key),
        f"{key}_since",
        f"{key}_since_fraud",
        *(["device_component"] if key == "device" else []),
    )
)
DELAYS = (0, 1, HOUR, 7 * DAY, 40 * DAY)


@dataclass(frozen=True)
class Event:
    """One transaction as the tests make it."""

    at: int
    id: str
    amount: float = 1.0
    customer: str | None = None
    terminal: str | None = None
    device: str | None = None
    merchant: str | None = None
    fraud: bool | None = False
    labelled_at: int | None = None

    @property
    def order(self) -> tuple[int, bytes]:
        """The place in the total order."""
        return self.at, self.id.encode()


def to_table(events: Sequence[Event]) -> pa.Table:
    """Return events with the canonical columns, in the order given."""
    stamp = pa.timestamp("us", tz="UTC")
    return pa.table(
        {
            "transaction_id": pa.array([e.id for e in events], pa.string()),
            "timestamp": pa.array([e.at for e in events], stamp),
            "amount": pa.array([e.amount for e in events], pa.float64()),
            **{f"{key}_id": pa.array([getattr(e, key) for e in events], pa.string()) for key in KEYS},
            "is_fraud": pa.array([e.fraud for e in events], pa.bool_()),
            "labelled_at": pa.array([e.labelled_at for e in events], stamp),
        }
    )


def expected(
    events: Sequence[Event], names: Sequence[str], delay: int, *, only_last: bool = False
) -> NDArray[np.float32]:
    """Return the features of every event, or the last, (n, F), in the order given.

    Of events with one identity the first counts.
    """
    first: dict[tuple[int, bytes], Event] = {}
    for event in events:
        first.setdefault(event.order, event)
    history = sorted(first.values(), key=lambda e: e.order)
    place = {event.order: i for i, event in enumerate(history)}
    chosen = events[-1:] if only_last else events
    rows = [[value(history, place[event.order], name, delay) for name in names] for event in chosen]
    return np.array(rows, dtype=np.float32).reshape(len(chosen), len(names))


def value(history: Sequence[Event], i: int, name: str, delay: int) -> float:
    """Return one feature of history[i]; `history` is in the total order."""
    words = name.split("_")
    keys = words[: 2 if words[1] in KEYS else 1]
    window = int(words[-1][:-1]) * UNITS[words[-1][-1]] if words[-1][:1].isdigit() else 0
    kind = "_".join(words[len(keys) : len(words) - bool(window)])
    now = history[i]
    if any(getattr(now, key) is None for key in keys):
        return {"since": CAP / HOUR, "since_fraud": CAP / HOUR, "first_fraud": CAP / HOUR, "ratio": 1.0}.get(kind, 0.0)
    group = [e for e in history[: i + 1] if all(getattr(e, key) == getattr(now, key) for key in keys)]
    before = group[:-1]
    inside = [e for e in group if e.at > now.at - window]
    total = sum(whole(e.amount) for e in inside)
    known = [e for e in before if e.fraud and known_at(e, delay) <= now.at]
    due = [e for e in before if now.at - window < e.at + delay <= now.at]
    news = [e for e in known if now.at - window < known_at(e, delay) and e.at > now.at - CAP - delay]
    values: dict[str, Callable[[], float]] = {
        "count": lambda: len(inside),
        "sum": lambda: float(Fraction(total, 10_000)),
        "mean": lambda: float(Fraction(total, 10_000 * len(inside))),
        "ratio": lambda: float(Fraction(whole(now.amount) * len(inside), total)) if total else 1.0,
        "matured": lambda: len(due),
        "frauds": lambda: len(news),
        "risk": lambda: min(len(news) / len(due), 1.0) if due else 0.0,
        "max": lambda: float(Fraction(max([whole(e.amount) for e in inside[:-1]], default=0), 10_000)),
        "usual": lambda: mean(due),
        "fraud_mean": lambda: mean(news),
        "streak": lambda: sum(all(e.at > f.at for f in known if f.at > now.at - CAP) for e in due),
        "first_fraud": lambda: (
            min([max([now.at - e.at for e in known if e.at > now.at - window], default=CAP), CAP]) / HOUR
        ),
        "since": lambda: min([now.at - e.at for e in before] + [CAP]) / HOUR,
        "since_fraud": lambda: min([now.at - e.at for e in known] + [CAP]) / HOUR,
        "component": lambda: component(history[: i + 1], now),
        **{f"distinct_{of}": lambda of=of: len({getattr(e, of) for e in inside} - {None}) for of in KEYS},
    }
    return float(values[kind]())


def mean(events: Sequence[Event]) -> float:
    """Return the mean amount, 0 of none."""
    return float(Fraction(sum(whole(e.amount) for e in events), 10_000 * max(len(events), 1)))


def known_at(event: Event, delay: int) -> int:
    """Return when a fraud became known."""
    return event.at + delay if event.labelled_at is None else max(event.labelled_at, event.at)


def whole(amount: float) -> int:
    """Return an amount in 1/10000, from the decimal expansion of what float64 multiplication gives."""
    return int(Decimal(min(amount, 1e10) * 10_000).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


def component(history: Sequence[Event], now: Event) -> int:
    """Return how many customers hang together with the device of the last event."""
    start = (now.at // (30 * DAY) - 1) * 30 * DAY
    edges = [(e.customer, e.device) for e in history if e.at >= start and e.customer and e.device]
    devices, customers = {now.device}, set[str | None]()
    while True:
        more = {c for c, d in edges if d in devices}
        reached = devices | {d for c, d in edges if c in more}
        if more == customers and reached == devices:
            return len(customers)
        customers, devices = more, reached


_GAPS = (0, 0, 0, 1, MINUTE, HOUR - 1, HOUR, DAY, 7 * DAY - 1, 7 * DAY, 7 * DAY + 1, 23 * DAY, 30 * DAY, 60 * DAY)
_AMOUNTS = (0.0, 0.0, 1.0, 0.1, 19.99, 0.00005, 0.00015, 2.5e-9, 123_456_789.123, 1e10, 3e30)
# Bytes order these otherwise than UTF-16 or a locale would.
_IDS = ("a", "B", "é", "z", "\uffee", "\U0001f600", "10", "9")


@st.composite
def event_lists(draw: st.DrawFn, *, max_size: int = 14, start: int = 19_000 * DAY) -> list[Event]:
    """Return events in the order of arrival: ties, repeats, missing ids and labels known early, late or never."""
    n = draw(st.integers(1, max_size))
    at, events = start, list[Event]()
    ids = {key: st.sampled_from((None, "u", "v", "w")) for key in KEYS}
    for _ in range(n):
        at += draw(st.sampled_from(_GAPS))
        known = draw(st.none() | st.sampled_from(_GAPS) | st.just(200 * DAY))
        events.append(
            Event(
                at=at,
                id=draw(st.sampled_from(_IDS)),
                amount=draw(st.sampled_from(_AMOUNTS)),
                fraud=draw(st.sampled_from((False, True, True, None))),
                labelled_at=None if known is None else at + known,
                **{key: draw(choices) for key, choices in ids.items()},
            )
        )
    return draw(st.permutations(events))


def changed(event: Event, **fields: Any) -> Event:
    """Return the event with other fields."""
    return replace(event, **fields)
