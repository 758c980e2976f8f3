"""The events of one key as the online engine keeps them: sorted, with running sums, open to late arrivals."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from quatrain.fintech.features.online_frauds import KnownFrauds
from quatrain.fintech.features.transaction import Order, Stored

# Events that have left stay in the arrays until they are this many, and half of all.
_LEFT_BEHIND = 32


class KeyHistory:
    """Times, ids and sums of one key's events in total order; places before `front` have left."""

    __slots__ = ("at_us", "distinct", "frauds", "front", "ids", "largest", "others", "sums")

    def __init__(self, others: Iterable[int], distinct: Iterable[Distinct], largest: Largest | None = None) -> None:
        self.at_us = array("q")
        self.ids: list[bytes] = []
        # Of the amounts up to and including each place; Python's integers where 64 bits do not do.
        self.sums: array[int] | list[int] = array("q")
        self.front = 0
        # By entity: the ids that came with each event.
        self.others: dict[int, list[str | None]] = {entity: [] for entity in others}
        self.distinct = tuple(distinct)
        self.largest = largest
        self.frauds: KnownFrauds | None = None

    def __len__(self) -> int:
        """Return the number of events that have not left."""
        return len(self.at_us) - self.front

    def place(self, order: Order) -> int:
        """Return the place of an event that is there, or where it would go."""
        at_us, id_ = order
        place = bisect_left(self.at_us, at_us, self.front)
        while place < len(self.at_us) and self.at_us[place] == at_us and self.ids[place] < id_:
            place += 1
        return place

    def append(self, event: Stored) -> int:
        """Take in an event that is after all others; return its place."""
        self.at_us.append(event.at_us)
        self.ids.append(event.id)
        total = (self.sums[-1] if self.sums else 0) + event.amount
        try:
            self.sums.append(total)
        except OverflowError:
            self.sums = [*self.sums, total]
        for entity, ids in self.others.items():
            ids.append(event.entities[entity])
        return len(self.ids) - 1

    def insert(self, event: Stored) -> int:
        """Take in an event that others may be after; return its place."""
        place = self.place(event.order)
        before = self.sums[place - 1] if place else 0
        later = [total + event.amount for total in self.sums[place:]]
        self.at_us.insert(place, event.at_us)
        self.ids.insert(place, event.id)
        self.sums = _integers([*self.sums[:place], before + event.amount, *later])
        for entity, ids in self.others.items():
            ids.insert(place, event.entities[entity])
        for carried in self._carried():
            carried.is_stale = True
        return place

    def pop(self) -> None:
        """Let the oldest event go."""
        for carried in self._carried():
            carried.leave(self)
        self.front += 1
        if self.front > _LEFT_BEHIND and 2 * self.front > len(self.ids):
            self._compact()

    def total(self, low: int, high: int) -> int:
        """Return the sum of the amounts at the places from `low` up to `high`."""
        if low >= high:
            return 0
        return self.sums[high - 1] - (self.sums[low - 1] if low else 0)

    def low(self, place: int, edge_us: int, start: int | None = None) -> int:
        """Return the first place up to `place` that is after the edge."""
        return bisect_right(self.at_us, edge_us, self.front if start is None else start, place)

    def _compact(self) -> None:
        front, before = self.front, self.sums[self.front - 1]
        del self.at_us[:front], self.ids[:front]
        self.sums = _integers([total - before for total in self.sums[front:]])
        for ids in self.others.values():
            del ids[:front]
        for carried in self._carried():
            carried.shift(front)
        self.front = 0

    def _carried(self) -> Iterator[Distinct | Largest]:
        yield from self.distinct
        if self.largest is not None:
            yield self.largest


class Distinct:
    """How many different ids of another entity each window of a key holds, carried on from event to event.

    After a late arrival the counts are stale, and are made anew at the next event.
    """

    __slots__ = ("_counts", "_entity", "_last", "_low", "_next", "_windows_us", "is_stale")

    def __init__(self, entity: int, windows_us: Sequence[int]) -> None:
        self._entity = entity
        self._windows_us = windows_us
        # The first place that is not counted yet; for each window its first place and its count.
        self._next = 0
        self._low = [0] * len(windows_us)
        self._counts = [0] * len(windows_us)
        # The latest place of each id that is counted.
        self._last: dict[str, int] = {}
        self.is_stale = False

    def latest(self, history: KeyHistory) -> Sequence[int]:
        """Return the counts of each window that ends at the last event."""
        if self.is_stale:
            self._renew(history)
        while self._next < len(history.ids):
            self._step(history)
        return self._counts

    def _step(self, history: KeyHistory) -> None:
        at_us, others, last, place = history.at_us, history.others[self._entity], self._last, self._next
        new = others[place]
        # No id is as good as one that is there already: neither is new.
        previous = place if new is None else last.get(new, -1)
        for w, window_us in enumerate(self._windows_us):
            low, edge_us = self._low[w], at_us[place] - window_us
            while at_us[low] <= edge_us:
                old = others[low]
                # An id leaves with its last event.
                self._counts[w] -= old is not None and last[old] == low
                low += 1
            self._low[w] = low
            self._counts[w] += previous < low
        if new is not None:
            last[new] = place
        self._next = place + 1

    def look(self, history: KeyHistory, place: int) -> Sequence[int]:
        """Return the counts of each window that ends at an earlier event; costs as much as the windows hold."""
        others, now_us = history.others[self._entity], history.at_us[place]
        lows = (history.low(place, now_us - window_us) for window_us in self._windows_us)
        return [len(set(others[low : place + 1]) - {None}) for low in lows]

    def leave(self, history: KeyHistory) -> None:
        """Forget the oldest event."""
        if self.is_stale:
            return
        front, oldest = history.front, history.others[self._entity][history.front]
        is_last = oldest is not None and self._last.get(oldest) == front
        for w, low in enumerate(self._low):
            if low == front:
                self._counts[w] -= is_last
                self._low[w] = front + 1
        if is_last:
            del self._last[str(oldest)]
        self._next = max(self._next, front + 1)

    def shift(self, n: int) -> None:
        """Take all places as n lower."""
        self._next -= n
        self._low = [low - n for low in self._low]
        self._last = {id_: place - n for id_, place in self._last.items()}

    def _renew(self, history: KeyHistory) -> None:
        """Count anew what the windows hold at the last event."""
        others, end = history.others[self._entity], len(history.ids)
        self._last = {id_: p for p, id_ in enumerate(others[history.front :], history.front) if id_ is not None}
        self._low = [history.low(end, history.at_us[-1] - window_us) for window_us in self._windows_us]
        self._counts = [len(set(others[low:]) - {None}) for low in self._low]
        self._next = end
        self.is_stale = False


class Largest:
    """The largest amount of each window of a key before its last event, carried on from event to event.

    After a late arrival it is stale, and made anew at the next event.
    """

    __slots__ = ("_falling", "_next", "_windows_us", "is_stale")

    def __init__(self, windows_us: Sequence[int]) -> None:
        self._windows_us = windows_us
        # For each window the places whose amount no later place reaches; the first place that none has seen yet.
        self._falling = tuple(deque[int]() for _ in windows_us)
        self._next = 0
        self.is_stale = False

    def latest(self, history: KeyHistory) -> Iterator[int]:
        """Yield the largest amount of each window that ends at the last event, without that event; 0 of none."""
        if self.is_stale:
            for falling in self._falling:
                falling.clear()
            self._next, self.is_stale = history.front, False
        end = len(history.ids) - 1
        for place in range(max(self._next, history.front), end):
            self._see(history, place)
        self._next = end
        for window_us, falling in zip(self._windows_us, self._falling, strict=True):
            edge_us = history.at_us[end] - window_us
            while falling and history.at_us[falling[0]] <= edge_us:
                falling.popleft()
            yield history.total(falling[0], falling[0] + 1) if falling else 0

    def look(self, history: KeyHistory, place: int) -> Iterator[int]:
        """Yield the same of windows that end at an earlier event; costs as much as the windows hold."""
        for window_us in self._windows_us:
            low = history.low(place, history.at_us[place] - window_us)
            yield max((history.total(k, k + 1) for k in range(low, place)), default=0)

    def _see(self, history: KeyHistory, place: int) -> None:
        amount = history.total(place, place + 1)
        for falling in self._falling:
            while falling and history.total(falling[-1], falling[-1] + 1) <= amount:
                falling.pop()
            falling.append(place)

    def leave(self, history: KeyHistory) -> None:
        """Forget the oldest event."""
        for falling in self._falling:
            if falling and falling[0] == history.front:
                falling.popleft()

    def shift(self, n: int) -> None:
        """Take all places as n lower."""
        self._next -= n
        for falling in self._falling:
            for i in range(len(falling)):
                falling[i] -= n


def _integers(values: list[int]) -> array[int] | list[int]:
    try:
        return array("q", values)
    except OverflowError:
        return values
