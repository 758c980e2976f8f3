"""One key's features in the online engine: which there are, and their values at an event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from quatrain.fintech.features.events import AMOUNT_UNIT
from quatrain.fintech.features.names import ENTITIES, LONGEST_US, Feature, missing_value
from quatrain.fintech.features.online_frauds import KnownFrauds
from quatrain.fintech.features.online_key import Distinct, KeyHistory, Largest
from quatrain.fintech.features.row import HOUR_US
from quatrain.fintech.features.transaction import Order, Stored

Key: TypeAlias = "str | tuple[str, str]"
_ENTITIES = tuple(ENTITIES)
_UNIT = float(AMOUNT_UNIT)
_HOUR_US = float(HOUR_US)
# Kinds whose windows end at the event, in one group; those that look at labels, in another.
_AMOUNT_KINDS = ("count", "sum", "mean", "ratio")
_LABEL_KINDS = ("matured", "frauds", "risk", "usual", "fraud_mean", "streak", "first_fraud")
# By window, longest first: its length, and for each kind the places of its features.
Windows: TypeAlias = tuple[tuple[int, tuple[tuple[int, ...], ...]], ...]


class KeyFeatures:
    """The features of one key, such as a card or a card at a terminal, with the history of every id.

    `placed` are the features by their place in the row of values; `linked` is the index of the
    entity that the graph of this key needs, if any.
    """

    def __init__(
        self, by: tuple[str, ...], placed: Mapping[int, Feature], *, label_delay_us: int, linked: int | None = None
    ) -> None:
        self.histories: dict[Key, KeyHistory] = {}
        self._entities = tuple(_ENTITIES.index(entity) for entity in by)
        self._delay_us = label_delay_us
        self._windows = _windows(placed, _AMOUNT_KINDS)
        self._label_windows = _windows(placed, _LABEL_KINDS)
        self._has_labels = any(feature.needs_labels for feature in placed.values())
        self._largest = _windows(placed, ("max",))
        self._since = _places(placed, "since")
        self._since_fraud = _places(placed, "since_fraud")
        self._looks_at_latest = any(feature.kind in ("since_fraud", "streak") for feature in placed.values())
        self._distinct = tuple(
            (_ENTITIES.index(entity), _windows({p: f for p, f in placed.items() if f.of == entity}, ("distinct",)))
            for entity in dict.fromkeys(f.of for f in placed.values() if f.of is not None)
        )
        self._linked = linked
        self._others = {entity for entity, _ in self._distinct} | ({linked} if linked is not None else set())
        self._missing = tuple((place, missing_value(feature)) for place, feature in placed.items())

    def key_of(self, event: Stored) -> Key | None:
        """Return the event's key, None where an id is missing."""
        first = event.entities[self._entities[0]]
        if len(self._entities) == 1 or first is None:
            return first
        second = event.entities[self._entities[1]]
        return None if second is None else (first, second)

    def add(self, event: Stored, *, is_latest: bool) -> None:
        """Take in an event."""
        key = self.key_of(event)
        if key is None:
            return
        history = self.histories.get(key)
        if history is None:
            distinct = (Distinct(entity, [window for window, _ in windows]) for entity, windows in self._distinct)
            largest = Largest([window for window, _ in self._largest]) if self._largest else None
            history = self.histories[key] = KeyHistory(self._others, distinct, largest)
        if is_latest:
            history.append(event)
        else:
            history.insert(event)

    def learn(self, event: Stored, known_us: int) -> None:
        """Take in that an event became known as fraud; `event.known_us` is what was known of it before."""
        key = self.key_of(event)
        if key is None or not self._has_labels:
            return
        history = self.histories[key]
        if history.frauds is None:
            history.frauds = KnownFrauds([window for window, _ in self._label_windows], self._delay_us)
        if event.known_us is not None:
            history.frauds.remove(event.order)
        history.frauds.add(event.order, known_us, event.amount)

    def forget(self, event: Stored) -> None:
        """Let the oldest event go."""
        key = self.key_of(event)
        if key is None:
            return
        history = self.histories[key]
        if event.known_us is not None and history.frauds is not None:
            history.frauds.remove(event.order)
        history.pop()
        if not len(history):
            del self.histories[key]

    def linked(self, key: str, start_us: int, order: Order) -> set[str]:
        """Return the ids that the graph links a key with, by its events from `start_us` up to `order`."""
        history = self.histories.get(key)
        if history is None or self._linked is None:
            return set()
        end = history.place((order[0], order[1] + b"\0"))
        others = history.others[self._linked][history.low(end, start_us - 1) : end]
        return {other for other in others if other is not None}

    def write(self, values: list[float], event: Stored, *, is_latest: bool) -> None:
        """Write the features of an event that was taken in; `is_latest` says that nothing in the order is after it."""
        key = self.key_of(event)
        if key is None:
            for place, value in self._missing:
                values[place] = value
            return
        history = self.histories[key]
        i = len(history.ids) - 1 if is_latest else history.place(event.order)
        self._write_amounts(values, history, i)
        self._write_largest(values, history, i, is_latest=is_latest)
        if self._label_windows or self._since_fraud:
            self._write_labels(values, history, i, event)
        for (_, windows), distinct in zip(self._distinct, history.distinct, strict=True):
            counts = distinct.latest(history) if is_latest else distinct.look(history, i)
            for (_, (places,)), count in zip(windows, counts, strict=True):
                for place in places:
                    values[place] = count

    def _write_amounts(self, values: list[float], history: KeyHistory, i: int) -> None:
        now_us, low = history.at_us[i], history.front
        for window_us, (counts, totals, means, ratios) in self._windows:
            low = history.low(i, now_us - window_us, low)
            n = i + 1 - low
            for place in counts:
                values[place] = n
            total = history.total(low, i + 1)
            for place in totals:
                values[place] = float(total) / _UNIT
            for place in means:
                values[place] = float(total) / (float(n) * _UNIT)
            for place in ratios:
                amount = history.total(i, i + 1)
                values[place] = float(amount) * float(n) / float(total) if total else 1.0
        if self._since:
            since_us = now_us - history.at_us[i - 1] if i > history.front else LONGEST_US
            for place in self._since:
                values[place] = float(min(since_us, LONGEST_US)) / _HOUR_US

    def _write_largest(self, values: list[float], history: KeyHistory, i: int, *, is_latest: bool) -> None:
        if history.largest is None:
            return
        found = history.largest.latest(history) if is_latest else history.largest.look(history, i)
        for (_, (places,)), largest in zip(self._largest, found, strict=True):
            for place in places:
                values[place] = float(largest) / _UNIT

    def _write_labels(self, values: list[float], history: KeyHistory, i: int, event: Stored) -> None:
        due_us, frauds, low = event.at_us - self._delay_us, history.frauds, history.front
        high = history.low(i, due_us)
        since_us = frauds.since_us(event.order) if frauds is not None and self._looks_at_latest else LONGEST_US
        for window, (window_us, (matured, known, risks, usual, means, streaks, firsts)) in enumerate(
            self._label_windows
        ):
            low = history.low(high, due_us - window_us, low)
            n_due = high - low
            n_frauds, total = frauds.sum(window, event.order) if frauds is not None else (0, 0)
            for place in matured:
                values[place] = n_due
            for place in known:
                values[place] = n_frauds
            for place in risks:
                values[place] = min(float(n_frauds) / float(n_due), 1.0) if n_due else 0.0
            for place in usual:
                values[place] = _mean(history.total(low, high), n_due)
            for place in means:
                values[place] = _mean(total, n_frauds)
            for place in streaks:
                is_recent = since_us < LONGEST_US
                values[place] = high - (history.low(high, event.at_us - since_us, low) if is_recent else low)
            for place in firsts:
                first_us = frauds.first_us(event.order, window_us) if frauds is not None else LONGEST_US
                values[place] = float(first_us) / _HOUR_US
        for place in self._since_fraud:
            values[place] = float(since_us) / _HOUR_US


def _mean(total: int, n: int) -> float:
    return float(total) / (float(n) * _UNIT) if n else 0.0


def _places(placed: Mapping[int, Feature], kind: str, window_us: int = 0) -> tuple[int, ...]:
    return tuple(place for place, f in placed.items() if f.kind == kind and f.window_us == window_us)


def _windows(placed: Mapping[int, Feature], kinds: Sequence[str]) -> Windows:
    lengths = sorted({f.window_us for f in placed.values() if f.kind in kinds}, reverse=True)
    return tuple((length, tuple(_places(placed, kind, length) for kind in kinds)) for length in lengths)
