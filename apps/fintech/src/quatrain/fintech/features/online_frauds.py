"""The frauds of one key that the online engine knows of, and how many count at an instant."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from quatrain.fintech.features.names import LONGEST_US
from quatrain.fintech.features.transaction import Order


class KnownFrauds:
    """Frauds by when they became known and by when each window forgets them, so that a count is two searches."""

    __slots__ = ("_amounts", "_at_once", "_forgotten", "_known", "_orders", "_reach_us", "_times", "_windows_us")

    def __init__(self, windows_us: Sequence[int], label_delay_us: int) -> None:
        self._windows_us = windows_us
        self._reach_us = LONGEST_US + label_delay_us
        self._known = _Instants()
        self._forgotten = tuple(_Instants() for _ in windows_us)
        # By event: the orders, when each became known, and the amounts.
        self._orders: list[Order] = []
        self._times: list[int] = []
        self._amounts: list[int] = []
        # By instant, the amounts of those whose label came with the event itself.
        self._at_once: dict[int, dict[Order, int]] = {}

    def add(self, order: Order, known_us: int, amount: int) -> None:
        """Learn of a fraud."""
        place = bisect_left(self._orders, order)
        self._orders.insert(place, order)
        self._times.insert(place, known_us)
        self._amounts.insert(place, amount)
        self._known.add(known_us, amount)
        for forgotten, window_us in zip(self._forgotten, self._windows_us, strict=True):
            forgotten.add(self._expiry_us(order, known_us, window_us), amount)
        if known_us == order[0]:
            self._at_once.setdefault(known_us, {})[order] = amount

    def remove(self, order: Order) -> None:
        """Forget a fraud that was added."""
        place = bisect_left(self._orders, order)
        known_us, amount = self._times.pop(place), self._amounts.pop(place)
        del self._orders[place]
        self._known.remove(known_us, amount)
        for forgotten, window_us in zip(self._forgotten, self._windows_us, strict=True):
            forgotten.remove(self._expiry_us(order, known_us, window_us), amount)
        if known_us == order[0]:
            del self._at_once[known_us][order]
            if not self._at_once[known_us]:
                del self._at_once[known_us]

    def sum(self, window: int, order: Order) -> tuple[int, int]:
        """Return how many frauds before `order` became known within the window that ends there, and their amounts."""
        now_us = order[0]
        n_known, known = self._known.until(now_us)
        n_forgotten, forgotten = self._forgotten[window].until(now_us)
        n, total = n_known - n_forgotten, known - forgotten
        if now_us in self._at_once:
            unseen = [amount for at_once, amount in self._at_once[now_us].items() if at_once >= order]
            return n - len(unseen), total - sum(unseen)
        return n, total

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

    def first_us(self, order: Order, window_us: int) -> int:
        """Return how long ago the first fraud of the window before `order` happened that is known by then.

        LONGEST_US where there is none.
        """
        now_us = order[0]
        low = bisect_left(self._orders, (now_us - window_us + 1, b""))
        for place in range(low, bisect_left(self._orders, order)):
            if self._times[place] <= now_us:
                return min(now_us - self._orders[place][0], LONGEST_US)
        return LONGEST_US

    def _expiry_us(self, order: Order, known_us: int, window_us: int) -> int:
        """Return from when on a window no longer counts a fraud; never before it counts it."""
        return max(min(known_us + window_us, order[0] + self._reach_us), known_us)


class _Instants:
    """Sorted instants, each with an amount: how many there are up to a time, and their sum."""

    __slots__ = ("_amounts", "_at_us", "_totals")

    def __init__(self) -> None:
        self._at_us: list[int] = []
        self._amounts: list[int] = []
        # Sums of the amounts before each place, empty when they have to be made anew.
        self._totals: list[int] = []

    def add(self, at_us: int, amount: int) -> None:
        """Take in an instant."""
        place = bisect_right(self._at_us, at_us)
        self._at_us.insert(place, at_us)
        self._amounts.insert(place, amount)
        self._totals = []

    def remove(self, at_us: int, amount: int) -> None:
        """Let an instant go that was added."""
        place = self._amounts.index(amount, bisect_left(self._at_us, at_us))
        del self._at_us[place], self._amounts[place]
        self._totals = []

    def until(self, at_us: int) -> tuple[int, int]:
        """Return how many instants are not after a time, and the sum of their amounts."""
        if not self._totals:
            self._totals = [*itertools.accumulate(self._amounts, initial=0)]
        n = bisect_right(self._at_us, at_us)
        return n, self._totals[n]
