"""A synthetic world that is harder than the handbook's: habits, honest oddities, six types of fraud, late labels."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from quatrain.fintech.data.arrays import Array, Column, from_numpy, from_strings
from quatrain.fintech.data.kernels import numbered, pc
from quatrain.fintech.simulation.card_testing import card_testing
from quatrain.fintech.simulation.compromise import merchant_compromise
from quatrain.fintech.simulation.config import HardConfig
from quatrain.fintech.simulation.crews import make_crews
from quatrain.fintech.simulation.draw import Ints, Rng
from quatrain.fintech.simulation.events import FRAUD_TYPES, TACTICS, Events, concatenate
from quatrain.fintech.simulation.habits import ordinary
from quatrain.fintech.simulation.lookalikes import honest_oddities
from quatrain.fintech.simulation.outcomes import Outcomes, outcomes
from quatrain.fintech.simulation.personal import bust_outs, lost_cards, with_denied
from quatrain.fintech.simulation.rings import mule_rings
from quatrain.fintech.simulation.takeover import account_takeover
from quatrain.fintech.simulation.world import World, make_world

GENERATOR = "card-fraud-hard"
# Times are recorded to the millisecond.
_TICKS_PER_S = 1_000
# Rows of one tick are ordered by a random number below this; four years of ticks times it fit into 63 bits.
_TIES = 1 << 24
_ID_DIGITS = 10


@dataclass(frozen=True, kw_only=True)
class HardSimulation:
    """A simulated world, and its transactions with their truth and labels in the order of the file."""

    world: World
    events: Events
    outcomes: Outcomes

    def __len__(self) -> int:
        """Return the number of transactions."""
        return len(self.events)


def write_card_fraud_hard(path: Path, *, seed: int = 0, truth: Path | None = None, **options: object) -> None:
    """Write a synthetic Parquet file with the canonical column names.

    `options` are the fields of HardConfig. `truth` takes the hidden truth in a file of its own, for
    analysis only: nothing of it may reach a model. The metadata of both says that they are synthetic,
    which option values and which seed made them. Written beside the paths and renamed when complete.
    """
    config = HardConfig.model_validate(options)
    simulation = simulate_hard(config, seed=seed)
    metadata = {"seed": str(seed), "options": config.model_dump_json()}
    table = hard_table(simulation, seed=seed, metadata=metadata)
    _write(table, path)
    if truth is not None:
        _write(truth_table(simulation, table["transaction_id"], metadata=metadata), truth)


def simulate_hard(config: HardConfig, *, seed: int) -> HardSimulation:
    """Return a simulated world's transactions in time order."""
    # One stream of chance for each part: other frauds leave honest life as it was.
    for_world, for_habits, for_oddities, for_frauds, for_outcomes = np.random.default_rng(seed).spawn(5)
    world = make_world(for_world, config)
    honest = concatenate([ordinary(for_habits, world), honest_oddities(for_oddities, world)])
    events = _with_frauds(for_frauds, world, honest)
    # Rows of one tick stand in the order of chance, or the kind of story would show in it.
    tick = np.floor(events.at_s * _TICKS_PER_S).astype(np.int64)
    events = events.take(np.argsort(tick * _TIES + for_outcomes.integers(_TIES, size=len(tick)), kind="stable"))
    return HardSimulation(world=world, events=events, outcomes=outcomes(for_outcomes, world, events))


def _with_frauds(rng: Rng, world: World, honest: Events) -> Events:
    """Return all transactions: the honest ones, some of them denied later, and every fraud."""
    crews = make_crews(rng, world)
    frauds = [
        *card_testing(rng, world, crews),
        *account_takeover(rng, world, crews),
        *mule_rings(rng, world, crews),
        *lost_cards(rng, world, crews),
        *bust_outs(rng, world, crews),
        *merchant_compromise(rng, world, crews, honest),
    ]
    return concatenate([with_denied(rng, world, crews, honest), world.within(concatenate(frauds))])


def hard_table(simulation: HardSimulation, *, seed: int, metadata: dict[str, str]) -> pa.Table:
    """Return what a bank would have: the canonical columns, marked as synthetic, without the truth."""
    world, events, found = simulation.world, simulation.events, simulation.outcomes
    # Numbers are shuffled: who was made first, a fraudster's device or a victim, must not show in an id.
    shuffle = np.random.default_rng([seed, len(events)])
    places = world.places
    tick_us = 1_000_000 // _TICKS_PER_S
    at_us = np.floor(events.at_s * _TICKS_PER_S).astype(np.int64) * tick_us
    is_known = found.label & found.is_labelled
    # To the tick above, so that no label is known before its transaction.
    known_us = np.ceil(np.where(is_known, found.known_s, 0) * _TICKS_PER_S).astype(np.int64) * tick_us
    device = world.people.owns.as_replaced(events.device, events.at_s, found.replaced_s)
    n_terminals = places.n_tills + len(world.people)
    columns: dict[str, Array] = {
        "transaction_id": _counted("T", len(events)),
        "timestamp": _instants(world, at_us),
        "customer_id": _ids("C", events.customer, n=len(world.people), shuffle=shuffle),
        "device_id": _ids("D", device, n=world.devices.next, shuffle=shuffle),
        "merchant_id": _ids("M", places.merchant[events.outlet], n=places.n_merchants, shuffle=shuffle),
        "terminal_id": _ids("P", events.terminal, n=n_terminals, shuffle=shuffle),
        "amount": from_numpy(events.amount),
        "is_fraud": pc.if_else(from_numpy(found.is_labelled), from_numpy(found.label), pa.scalar(None, pa.bool_())),
        "labelled_at": pc.if_else(
            from_numpy(is_known), _instants(world, known_us), pa.scalar(None, pa.timestamp("us", tz="UTC"))
        ),
    }
    return pa.table(columns).replace_schema_metadata(_marks(metadata))


def truth_table(simulation: HardSimulation, transaction_id: Column, *, metadata: dict[str, str]) -> pa.Table:
    """Return what only the simulator knows of each transaction: whether and which fraud it is."""
    events = simulation.events
    columns = {
        "transaction_id": transaction_id,
        "is_fraud": from_numpy(events.kind > 0),
        "fraud_type": pc.take(from_strings(FRAUD_TYPES), from_numpy(events.kind)),
        "tactic": pc.take(from_strings(TACTICS), from_numpy(events.tactic)),
        "case": from_numpy(events.case),
        "campaign": from_numpy(events.campaign),
    }
    return pa.table(columns).replace_schema_metadata(_marks(metadata) | {"quatrain.truth": "true"})


def _instants(world: World, since_start_us: Ints) -> Array:
    start = world.calendar.start
    start_us = int(datetime(start.year, start.month, start.day, tzinfo=UTC).timestamp()) * 1_000_000
    return from_numpy(start_us + since_start_us).cast(pa.timestamp("us", tz="UTC"))


def _counted(prefix: str, n: int) -> Array:
    """Return n ids that count up from 0 and sort as they count; made from bytes, ten times as fast as from texts."""
    width = len(prefix) + _ID_DIGITS
    letters = np.empty((n, width), dtype=np.uint8)
    letters[:, : len(prefix)] = np.frombuffer(prefix.encode(), dtype=np.uint8)
    rest = np.arange(n)
    for column in range(width - 1, len(prefix) - 1, -1):
        rest, digit = np.divmod(rest, 10)
        letters[:, column] = digit + ord("0")
    offsets = np.arange(n + 1, dtype=np.int32) * np.int32(width)
    return pa.Array.from_buffers(pa.string(), n, [None, pa.py_buffer(offsets.data), pa.py_buffer(letters.data)])


def _ids(prefix: str, values: Ints, *, n: int, shuffle: Rng) -> Array:
    """Return ids of shuffled numbers, null for -1."""
    names = numbered(prefix, from_numpy(shuffle.permutation(n)), width=len(str(n)))
    place = pc.if_else(from_numpy(values >= 0), from_numpy(values), pa.scalar(None, pa.int64()))
    ids: Array = pc.take(names, place)
    return ids


def _marks(metadata: dict[str, str]) -> dict[str, str]:
    marks = {"quatrain.synthetic": "true", "quatrain.generator": GENERATOR}
    return marks | {f"quatrain.generator.{key}": value for key, value in metadata.items()}


def _write(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    pq.write_table(table, part, compression="zstd")
    part.replace(path)
