"""The last events of a card, or of a device, as tokens: what a model of behaviour reads instead of windows.

A token says what one event was and how it stood to its owner's events before it; it never changes
when later events come. A sequence ends in the row's own token and holds events of the same owner
that lie less than the lookback before the row; a token looks back as far again, and a step one day
more, so that nothing older than twice the lookback and a day is ever needed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from quatrain.core.config import Config
from quatrain.fintech.data.kernels import mask, numbers
from quatrain.fintech.features.compiled import compiled
from quatrain.fintech.features.events import AMOUNT_UNIT, Events, events_of
from quatrain.fintech.features.names import ENTITIES, LONGEST_US
from quatrain.fintech.features.row import DAY_US, stateless

Ints = NDArray[np.int64]
Codes = NDArray[np.int32]
Values = NDArray[np.float32]

# Whose events may make a sequence, and who is then its peer: the device of a card's event, the card of a device's.
PEERS = {"customer": "device", "device": "customer"}
# Where an owner pays: one place follows another.
PLACES = ("terminal", "merchant")
# Whose novelty to the owner a token tells.
KEYS = (*PLACES, "peer")
# What each token says of its event, then of how it stands to the owner's earlier ones, then for each key. `ago` counts
# the owner's events back to the last alike (0: none within the lookback), `log_count` those alike, `log_gap` the
# seconds since; `log_follows` those that came from the same place within a day, as this one did: a routine's steps.
_OWN = ("is_event", "log_amount", "hour", "weekday", "log_gap", "log_count", "amount_step", "same_amount_ago")
_OF_KEY = ("bucket", "ago", "log_count", "log_gap")
CHANNELS = (
    *_OWN,
    *(f"{key}_{kind}" for key in KEYS for kind in _OF_KEY),
    *(f"{place}_log_follows" for place in PLACES),
)
_SECOND_US = 1_000_000
# Two events of an owner are a step from place to place where less than this lies between them.
_STEP_US = DAY_US


class SequenceSpec(Config):
    """What decides a sequence; a model that reads sequences is sealed with it."""

    # Whose events make a sequence: a card's, or a device's over all cards.
    owner: Literal["customer", "device"] = "customer"
    # Tokens of a sequence, the row's own included.
    length: int = Field(default=32, ge=2)
    lookback_days: int = Field(default=29, ge=1, le=(LONGEST_US - _STEP_US) // DAY_US // 2)
    # Ids are hashed into this many buckets; bucket 0 stands for a missing id.
    buckets: int = Field(default=8192, ge=2)

    @property
    def lookback_us(self) -> int:
        """The lookback in microseconds."""
        return self.lookback_days * DAY_US

    @property
    def columns(self) -> dict[str, str]:
        """The column of each of KEYS."""
        return {**{place: ENTITIES[place] for place in PLACES}, "peer": ENTITIES[PEERS[self.owner]]}


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """One token per event in the order (timestamp, transaction_id), and whose it is."""

    # (n, len(CHANNELS))
    values: Values
    at_us: Ints
    # A number per owner, -1 without one.
    owner: Codes
    # The events ordered by owner, then as they are.
    by_owner: Ints
    # Of each event, its place in that order and how many events of its owner precede it.
    spot: Ints
    nth: Ints
    # Of each row of the tables that were read, the index of its event.
    place: Ints

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.at_us)


def history(rows: pa.Table, spec: SequenceSpec, *, past: pa.Table | None = None) -> Values:
    """Return each row's sequence, float32 of shape (len(rows), spec.length, len(CHANNELS)), in the order of `rows`.

    The row's own token is the last; where the owner has fewer events, the first tokens are zero.
    `past` holds other events with canonical columns; they and `rows` are put in one order.
    """
    tokens = tokens_of([rows] if past is None else [past, rows], spec)
    return sequences(tokens, tokens.place[len(tokens.place) - len(rows) :], spec)


def tokens_of(tables: list[pa.Table], spec: SequenceSpec) -> Tokens:
    """Return the token of every event of tables with canonical columns; an id column may be missing."""
    columns = spec.columns
    events, place = events_of(tables, (ENTITIES[spec.owner], *columns.values()))
    owner = events.codes[ENTITIES[spec.owner]]
    by_owner = np.argsort(owner, kind="stable")
    spot, nth = _spots(owner[by_owner], by_owner)
    owners = _Owners(owner=owner, nth=nth, at_us=events.at_us, lookback_us=spec.lookback_us)
    previous = np.full(len(events), -1)
    previous[by_owner[1:]] = np.where(nth[by_owner[1:]] > 0, by_owner[:-1], -1)
    is_step = (previous >= 0) & (events.at_us - events.at_us[previous] < _STEP_US)
    channels = dict(_own_channels(events, previous, owners))
    for key, column in columns.items():
        codes = events.codes[column]
        ago, count, gap_us = _visits(owners, codes)
        channels |= {f"{key}_ago": ago, f"{key}_log_count": np.log1p(count), f"{key}_log_gap": _log_seconds(gap_us)}
        channels[f"{key}_bucket"] = _buckets(tables, column, place, len(events), spec.buckets)
        if key in PLACES:
            before = np.where(is_step, codes[previous], -1)
            pair = np.where((before >= 0) & (codes >= 0), before * np.int64(events.n_codes[column]) + codes, -1)
            channels[f"{key}_log_follows"] = np.log1p(_visits(owners, pair)[1])
    values = np.column_stack([channels[name] for name in CHANNELS]).astype(np.float32)  # (n, C)
    return Tokens(values=values, at_us=events.at_us, owner=owner, by_owner=by_owner, spot=spot, nth=nth, place=place)


def sequences(tokens: Tokens, events: Ints, spec: SequenceSpec, *, inputs: Values | None = None) -> Values:
    """Return the sequences that end in the given events, float32 of shape (len(events), spec.length, C).

    `inputs`, one row per event, are further channels: what else was known of each event as it came.
    """
    index = last_events(tokens, events, spec)
    parts = [tokens.values[index]] if inputs is None else [tokens.values[index], inputs[index]]
    picked = np.concatenate(parts, axis=2)  # (n, T, C)
    picked[index < 0] = 0
    return picked


def last_events(tokens: Tokens, events: Ints, spec: SequenceSpec) -> Ints:
    """Return the events of each sequence in their order, -1 in front where there are fewer than spec.length."""
    found = np.full((len(events), spec.length), -1)
    _fill_last_events(found, events, (tokens.by_owner, tokens.spot, tokens.nth), tokens.at_us, spec.lookback_us)
    return found


class _Owners(NamedTuple):
    """Events by their owners."""

    owner: Codes
    # How many events of its owner precede each event.
    nth: Ints
    at_us: Ints
    lookback_us: int


def _visits(owners: _Owners, codes: NDArray[Any]) -> tuple[Ints, Ints, Ints]:
    """Return (ago, count, gap in microseconds) over the owner's earlier events with the same code.

    `ago` is 0 and the gap the lookback where the lookback holds none, or where a code is -1.
    """
    n = len(codes)
    found = np.zeros(n, np.int64), np.zeros(n, np.int64), np.full(n, owners.lookback_us)
    # Events of one owner and code together, in their own order.
    _fill_visits(found, np.lexsort((codes, owners.owner)), owners, codes)
    return found


def _own_channels(events: Events, previous: Ints, owners: _Owners) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the channels of _OWN."""
    amount = events.amount / AMOUNT_UNIT
    _, count, gap_us = _visits(owners, np.zeros(len(events), dtype=np.int64))
    yield "is_event", np.ones(len(events))
    for name in ("log_amount", "hour", "weekday"):
        yield name, stateless(events.at_us, amount, name)
    yield "log_gap", _log_seconds(gap_us)
    yield "log_count", np.log1p(count)
    yield "amount_step", np.where(count > 0, np.log1p(amount) - np.log1p(amount[previous]), 0.0)
    yield "same_amount_ago", _visits(owners, events.amount)[0]


def _buckets(tables: list[pa.Table], column: str, place: Ints, n_events: int, n_buckets: int) -> Ints:
    """Return the bucket that each event's id is hashed into; any process hashes an id alike, unlike hash()."""
    rows = [_row_buckets(table, column, n_buckets) for table in tables]
    buckets = np.zeros(n_events, dtype=np.int64)
    # The first of several rows of one event counts, so it is written last.
    buckets[place[::-1]] = np.concatenate(rows)[::-1]
    return buckets


def _row_buckets(table: pa.Table, column: str, n_buckets: int) -> Ints:
    if column not in table.column_names:
        return np.zeros(len(table), dtype=np.int64)
    encoded = table[column].combine_chunks().dictionary_encode()
    hashed = [1 + zlib.crc32(str(text).encode()) % (n_buckets - 1) for text in encoded.dictionary.to_pylist()]
    place = np.where(mask(encoded.is_valid()), numbers(encoded.indices).astype(np.int64), -1)
    return np.array([*hashed, 0])[place]


def _spots(ordered: Codes, by_owner: Ints) -> tuple[Ints, Ints]:
    """Return each event's place in `by_owner`, and how many events of its owner precede it; without an owner none."""
    spot = np.empty_like(by_owner)
    spot[by_owner] = np.arange(len(by_owner))
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)])
    nth = np.empty_like(by_owner)
    nth[by_owner] = np.arange(len(ordered)) - np.repeat(first, np.diff(np.append(first, len(ordered))))
    nth[by_owner[ordered < 0]] = 0
    return spot, nth


def _log_seconds(gap_us: Ints) -> NDArray[np.float64]:
    return np.log1p(gap_us / _SECOND_US)


@compiled
def _fill_visits(found: tuple[Ints, Ints, Ints], order: Ints, owners: _Owners, codes: NDArray[Any]) -> None:
    ago, count, gap_us = found
    owner, nth, at_us, lookback_us = owners
    first = 0
    for k in range(len(order)):
        i, of = order[k], order[first]
        if owner[i] < 0 or codes[i] < 0 or owner[i] != owner[of] or codes[i] != codes[of]:
            first = k
        while at_us[order[first]] <= at_us[i] - lookback_us:
            first += 1
        if first < k:
            last = order[k - 1]
            ago[i] = nth[i] - nth[last]
            count[i] = k - first
            gap_us[i] = at_us[i] - at_us[last]


@compiled
def _fill_last_events(
    found: Ints, events: Ints, by_owner: tuple[Ints, Ints, Ints], at_us: Ints, lookback_us: int
) -> None:
    """Fill each row of `found` from its end."""
    order, spot, nth = by_owner
    length = found.shape[1]
    for row in range(len(events)):
        i = events[row]
        for back in range(min(length, nth[i] + 1)):
            j = order[spot[i] - back]
            if at_us[j] <= at_us[i] - lookback_us:
                break
            found[row, length - 1 - back] = j
