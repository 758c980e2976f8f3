"""The frauds of one key that the online engine knows of, and how many count at an instant."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence

from quatrain.fintech.features.names import LONGEST_US
from quatrain.fintech.features.transaction import Order


class KnownFrauds:
    """Frauds by when they became known and by when each window forgets them, so that a count is two searches."""

    __slots__ = ("_at_once", "_forgotten", "_known", "_orders", "_reach_us", "_times", "_windows_us")

    def __init__(self, windows_us: Sequence[int], label_delay_us: int) -> None:
        self._windows_us = windows_us
        self._reach_us = LONGEST_US + label_delay_us
        self._known: list[int] = []
        self._forgotten: tuple[list[int], ...] = tuple([] for _ in windows_us)
        # By event: the orders, and when each became known.
        self._orders: list[Order] = []
        self._times: list[int] = []
        # Those whose label came with the event itself.
        self._at_once: set[Order] = set()

    def add(self, order: Order, known_us: int) -> None:
        """Learn of a fraud."""
        place = bisect_left(self._orders, order)
        self._orders.insert(place, order)
        self._times.insert(place, known_us)
        insort(self._known, known_us)
        for forgotten, window_us in zip(self._forgotten, self._windows_us, strict=True):
            insort(forgotten, self._expiry_us(order, known_us, window_us))
        if known_us == order[0]:
            self._at_once.add(order)

    def remove(self, order: Order) -> None:
        """Forget a fraud that was added."""
        place = bisect_left(self._orders, order)
        known_us = self._times.pop(place)
        del self._orders[place], self._known[bisect_left(self._known, known_us)]
        for forgotten, window_us in zip(self._forgotten, self._windows_us, strict=True):
            del forgotten[bisect_left(forgotten, self._expiry_us(order, known_us, window_us))]
        self._at_once.discard(order)

    def count(self, window: int, order: Order) -> int:
        """Return the frauds before `order` that became known within the window that ends there."""
        now_us = order[0]
        n = bisect_right(self._known, now_us) - bisect_right(self._forgotten[window], now_us)
        if self._at_once:
            n -= sum(at_once[0] == now_us and at_once >= order for at_once in self._at_once)
        return n

    def since_us(self, order: Order) -> int:
        """Return how long ago the latest fraud before `order` happened that is known by then, at most LONGEST_US."""
        now_us = order[0]
        for place in range(bisect_left(self._orders, order) - 1, -1, -1):
            since_us = now_us - self._orders[place][0]
            if since_us >= LONGEST_US:
                break
            if self._times[place] <= now_us:
                return since_us
        return LONGEST_US

    def _expiry_us(self, order: Order, known_us: int, window_us: int) -> int:
        """Return from when on a window no longer counts a fraud; never before it counts it."""
        return max(min(known_us + window_us, order[0] + self._reach_us), known_us)
