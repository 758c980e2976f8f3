"""Does a feature know what it cannot know: checks that hold of an honest engine and fail for a leaking one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray
from tests.fintech.features.oracle import DAY, HOUR, KEYS, Event, changed

# Events, in total order, to their features, (n, F).
Engine = Callable[[Sequence[Event]], NDArray[np.float32]]


def seeded(seed: int) -> Random:
    """Return a source of trials that are the same each time."""
    return Random(seed)  # noqa: S311 -- trials, no secrets


def random_events(random: Random, n: int = 25) -> list[Event]:
    """Return events in total order: few keys, many ties, labels known at once, on time, late and never."""
    events: dict[tuple[int, bytes], Event] = {}
    at = 19_000 * DAY
    for _ in range(n):
        at += random.choice((0, 0, HOUR, DAY, 3 * DAY, 7 * DAY))
        event = Event(
            at=at,
            id=f"{random.randrange(100):02d}",
            amount=random.choice((0.0, 5.0, 10.5, 900.0)),
            fraud=random.random() < 0.4,
            labelled_at=random.choice((None, at, at + DAY, at + 20 * DAY)),
            **{key: random.choice((None, "u", "v", "w")) for key in KEYS},
        )
        events.setdefault(event.order, event)
    return [events[order] for order in sorted(events)]


def knows_the_future(engine: Engine, events: Sequence[Event], random: Random) -> bool:
    """Return whether other events after some row change a feature of that row or of one before it."""
    last = random.randrange(len(events))
    past = list(events[: last + 1])
    return not np.array_equal(
        engine(past + list(_another_future(events, last, random)))[: last + 1], engine(events)[: last + 1]
    )


def knows_labels_early(engine: Engine, events: Sequence[Event], delay: int, random: Random) -> bool:
    """Return whether a feature of some row changes with labels that were not known then, its own among them."""
    row = random.randrange(len(events))
    now = events[row].at
    flipped = [
        changed(event, fraud=not event.fraud) if j >= row or _due(event, delay) > now else event
        for j, event in enumerate(events)
    ]
    return not np.array_equal(engine(flipped)[row], engine(events)[row])


def _due(event: Event, delay: int) -> int:
    return event.at + delay if event.labelled_at is None else event.labelled_at


def _another_future(events: Sequence[Event], last: int, random: Random) -> Iterator[Event]:
    """Yield other events after events[last]: some gone, some new, and of the rest times, ids and all else shuffled."""
    future = [event for event in events[last + 1 :] if random.random() < 0.8]
    future += random_events(random, 3)
    now = events[last]
    orders = set()
    for event in future:
        at = max(now.at, random.choice(future).at)
        new = changed(
            event,
            at=at,
            id=f"{now.id}~{random.randrange(1000)}",
            amount=random.choice((0.0, 77.0)),
            fraud=random.random() < 0.5,
            labelled_at=random.choice((None, at)),
            **{key: random.choice((None, "u", "v", "w")) for key in KEYS},
        )
        if new.order not in orders:
            orders.add(new.order)
            yield new
