"""The online engine: the features of one transaction at a time, bit for bit those of the offline engine.

The reference is the offline engine over all events that have arrived and all labels that have
been learned. What comes in order costs microseconds. A late event is put where it belongs, sees
what is before it, and is seen by what comes after; features that were returned before stay as
they were returned. An event that is there already (same timestamp and transaction_id) changes
nothing and gets its features as they are now.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quatrain.core.errors import BadDataError
from quatrain.fintech.data.arrays import Array, from_numpy, from_strings, to_numpy
from quatrain.fintech.features.names import ENTITIES, LABEL_DELAY_US, Feature, horizon_us, parse
from quatrain.fintech.features.online_graph import Components, customers_at
from quatrain.fintech.features.online_log import EventLog
from quatrain.fintech.features.online_plan import KeyFeatures
from quatrain.fintech.features.row import BUILT_IN, DAY_US, stateless
from quatrain.fintech.features.transaction import Stored, Transaction, stored

_CUSTOMER, _DEVICE = (list(ENTITIES).index(entity) for entity in ("customer", "device"))
# Events let go for each one that comes: more than one, so that a backlog shrinks, and few, so that no event waits long.
_LET_GO = 4
_FORMAT = "quatrain.online_features"
_VERSION = 1
# Stands for "no time".
_UNKNOWN = -(2**63)


class OnlineFeatures:
    """A model's inputs, transaction by transaction, over a state that the features' horizon bounds.

    `names` are the model's inputs and `label_delay_us` its delay, as for the offline engine. A
    transaction may come up to `lateness_us` after one with a later timestamp and still get its
    exact features; the state holds the events of that much more than the horizon. Its clock is the
    latest timestamp that came: whoever calls it checks timestamps against a clock of their own,
    since one from the far future would make all others too late.

    One thread at a time may use it. It makes no reference cycles: a service that must answer within
    a millisecond can turn Python's cyclic collector off (`gc.disable()`), whose pauses grow with
    the state.
    """

    def __init__(
        self, names: Sequence[str], label_delay_us: int = LABEL_DELAY_US, *, lateness_us: int = DAY_US
    ) -> None:
        if min(label_delay_us, lateness_us) < 0:
            raise ValueError(f"delay and lateness must be at least 0, got {label_delay_us} and {lateness_us}")
        self.names = tuple(names)
        self.label_delay_us = label_delay_us
        self.lateness_us = lateness_us
        placed = {place: feature for place, name in enumerate(names) if (feature := parse(name)) is not None}
        self._stateless = tuple((place, name) for place, name in enumerate(names) if place not in placed)
        self._components = tuple(place for place, feature in placed.items() if feature.kind == "component")
        self._keys = _key_features(placed, label_delay_us)
        self._kept_us = horizon_us(names, label_delay_us) + lateness_us
        self._graph = Components()
        self._log = EventLog()
        # The latest timestamp so far.
        self._clock_us: int | None = None

    def __len__(self) -> int:
        """Return the number of events held."""
        return len(self._log)

    def observe(self, transaction: Transaction) -> NDArray[np.float32]:
        """Return the transaction's inputs, float32 of shape (len(names),), and remember it.

        Raises BadDataError for one that is later than `lateness_us`, has no finite amount, or
        lacks one of the extras that the model reads.
        """
        if self._clock_us is not None and transaction.at_us < self._clock_us - self.lateness_us:
            raise BadDataError(
                f"transaction {transaction.transaction_id!r} is {(self._clock_us - transaction.at_us) / DAY_US:.1f} "
                f"days older than the latest one; features are exact up to {self.lateness_us / DAY_US:g} days"
            )
        values = [0.0] * len(self.names)
        self._write_stateless(values, transaction)
        if self._keys:
            event, is_latest = self._remember(stored(transaction))
            for key in self._keys.values():
                key.write(values, event, is_latest=is_latest)
            for place in self._components:
                values[place] = self._customers(event, is_latest=is_latest)
        self._advance(transaction.at_us)
        return np.array(values, dtype=np.float32)

    def remember(self, transaction: Transaction) -> None:
        """Take in a transaction whose inputs nobody asks for, such as history at the start.

        None is too late for that; one older than anything held is nothing any more.
        """
        if self._keys and transaction.at_us > self._limit_us():
            self._remember(stored(transaction))
        self._advance(transaction.at_us)

    def learn(self, transaction: Transaction, known_us: int) -> None:
        """Take in that a transaction became known as fraud, then or in the future; the earliest time counts.

        A transaction that never came is remembered; one older than anything held is nothing any more.
        """
        if not self._keys:
            return
        if transaction.at_us > self._limit_us():
            event, _ = self._remember(stored(transaction))
            self._learn(event, max(known_us, event.at_us))
            self._advance(transaction.at_us)

    def to_bytes(self) -> bytes:
        """Return the state as an Arrow stream: the events within the horizon, and what they mean."""
        limit_us = self._limit_us()
        events = [event for event in self._log if event.at_us > limit_us]
        about = {
            "version": _VERSION,
            "names": self.names,
            "label_delay_us": self.label_delay_us,
            "lateness_us": self.lateness_us,
            "clock_us": self._clock_us,
        }
        columns = {
            "at_us": _integers(event.at_us for event in events),
            "transaction_id": from_strings([event.id.decode() for event in events]),
            "amount": _integers(event.amount for event in events),
            "known_us": _integers(_UNKNOWN if event.known_us is None else event.known_us for event in events),
            **{name: from_strings([event.entities[i] for event in events]) for i, name in enumerate(ENTITIES)},
        }
        table = pa.table(columns).replace_schema_metadata({_FORMAT: json.dumps(about)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return sink.getvalue().to_pybytes()

    @classmethod
    def from_bytes(cls, state: bytes) -> OnlineFeatures:
        """Return the engine that `to_bytes` was called on; raises BadDataError for anything else."""
        try:
            with pa.ipc.open_stream(pa.py_buffer(state)) as reader:
                table = reader.read_all()
            about = json.loads((table.schema.metadata or {})[_FORMAT.encode()])
        except (pa.ArrowInvalid, OSError, KeyError, ValueError) as error:
            raise BadDataError(f"this is no saved state of online features: {error}") from error
        if about.get("version") != _VERSION:
            raise BadDataError(
                f"the saved state has version {about.get('version')}, expected {_VERSION}; replay history"
            )
        engine = cls(about["names"], about["label_delay_us"], lateness_us=about["lateness_us"])
        for event, known_us in _events(table):
            engine._take_in(event, is_latest=True)
            if known_us != _UNKNOWN:
                engine._learn(event, known_us)
        engine._clock_us = about["clock_us"]
        return engine

    def _write_stateless(self, values: list[float], transaction: Transaction) -> None:
        for place, name in self._stateless:
            if name in BUILT_IN:
                values[place] = float(stateless(transaction.at_us, transaction.amount, name))
            elif name in transaction.extras:
                values[place] = transaction.extras[name]
            else:
                raise BadDataError(f"transaction {transaction.transaction_id!r} has no {name}, which the model reads")

    def _remember(self, event: Stored) -> tuple[Stored, bool]:
        """Return the event as it is held, taken in if it was not, and whether it is new and the latest."""
        if self._log.is_latest(event.order):
            self._take_in(event, is_latest=True)
            return event, True
        found = self._log.find(event.order)
        if found is None:
            self._take_in(event, is_latest=False)
        return found or event, False

    def _take_in(self, event: Stored, *, is_latest: bool) -> None:
        self._log.add(event)
        for key in self._keys.values():
            key.add(event, is_latest=is_latest)
        if self._components:
            self._graph.add(event.at_us, event.entities[_CUSTOMER], event.entities[_DEVICE])

    def _learn(self, event: Stored, known_us: int) -> None:
        if event.known_us is not None and event.known_us <= known_us:
            return
        for key in self._keys.values():
            key.learn(event, known_us)
        event.known_us = known_us

    def _customers(self, event: Stored, *, is_latest: bool) -> int:
        device = event.entities[_DEVICE]
        if device is None:
            return 0
        if is_latest:
            return self._graph.customers(device)
        return customers_at(event.order, device, (self._keys["customer",], self._keys["device",]))

    def _limit_us(self) -> int:
        """Return the time up to which events are nothing any more."""
        return _UNKNOWN if self._clock_us is None else self._clock_us - self._kept_us

    def _advance(self, at_us: int) -> None:
        self._clock_us = at_us if self._clock_us is None else max(self._clock_us, at_us)
        limit_us = self._limit_us()
        for _ in range(_LET_GO):
            event = self._log.pop_before(limit_us)
            if event is None:
                return
            for key in self._keys.values():
                key.forget(event)


def _key_features(placed: Mapping[int, Feature], label_delay_us: int) -> dict[tuple[str, ...], KeyFeatures]:
    """Return what each key has to keep and give; a graph needs the events of both its sides."""
    linked: dict[tuple[str, ...], int] = {}
    if any(feature.kind == "component" for feature in placed.values()):
        linked = {("customer",): _DEVICE, ("device",): _CUSTOMER}
    keys = dict.fromkeys([*(feature.by for feature in placed.values()), *linked])
    return {
        by: KeyFeatures(
            by,
            {place: feature for place, feature in placed.items() if feature.by == by},
            label_delay_us=label_delay_us,
            linked=linked.get(by),
        )
        for by in keys
    }


def _integers(values: Iterable[int]) -> Array:
    return from_numpy(np.fromiter(values, dtype=np.int64))


def _events(table: pa.Table) -> Iterator[tuple[Stored, int]]:
    entities = zip(*(table[name].to_pylist() for name in ENTITIES), strict=True)
    at_us, amount, known_us = (to_numpy(table[name]).tolist() for name in ("at_us", "amount", "known_us"))
    for at, id_, whole, ids, known in zip(
        at_us, table["transaction_id"].to_pylist(), amount, entities, known_us, strict=True
    ):
        yield Stored(at, str(id_).encode(), whole, ids), known
