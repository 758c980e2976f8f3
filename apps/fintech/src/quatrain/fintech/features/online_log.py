"""The events that the online engine still needs, in the total order, in one bucket for each day."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

from quatrain.fintech.features.row import DAY_US
from quatrain.fintech.features.transaction import Order, Stored


class EventLog:
    """Events in total order, each (timestamp, id) once: the newest come in and the oldest leave at little cost."""

    def __init__(self) -> None:
        self._orders: dict[int, list[Order]] = {}
        self._events: dict[int, list[Stored]] = {}
        self._days: list[int] = []
        # Events of the oldest day that have left already.
        self._n_left = 0
        self._last: Order | None = None

    def __len__(self) -> int:
        """Return the number of events."""
        return sum(map(len, self._events.values())) - self._n_left

    def __iter__(self) -> Iterator[Stored]:
        """Yield the events in total order."""
        for place, day in enumerate(self._days):
            yield from self._events[day][0 if place else self._n_left :]

    def find(self, order: Order) -> Stored | None:
        """Return the event at that place in the order, None if there is none."""
        orders = self._orders.get(order[0] // DAY_US, [])
        place = bisect_left(orders, order)
        if place == len(orders) or orders[place] != order:
            return None
        return self._events[order[0] // DAY_US][place]

    def is_latest(self, order: Order) -> bool:
        """Return whether every event of the log comes before that place."""
        return self._last is None or order > self._last

    def add(self, event: Stored) -> None:
        """Take in an event that is not there yet."""
        order = event.order
        day = event.at_us // DAY_US
        if day not in self._orders:
            insort(self._days, day)
            self._orders[day], self._events[day] = [], []
        if self.is_latest(order):
            self._orders[day].append(order)
            self._events[day].append(event)
            self._last = order
            return
        place = bisect_left(self._orders[day], order)
        self._orders[day].insert(place, order)
        self._events[day].insert(place, event)

    def pop_before(self, limit_us: int) -> Stored | None:
        """Return the oldest event and forget it if it is not after the limit, else None."""
        if not self._days:
            return None
        day = self._days[0]
        event = self._events[day][self._n_left]
        if event.at_us > limit_us:
            return None
        self._n_left += 1
        if self._n_left == len(self._events[day]):
            del self._orders[day], self._events[day], self._days[0]
            self._n_left = 0
        return event
