"""Synthetic card transactions after the fraud-detection handbook's published simulator.

Source: Le Borgne, Siblini, Lebichot, Bontempi, "Reproducible Machine Learning for Credit Card
Fraud Detection: Practical Handbook" (2022), chapter 3.2. Only the published description was
followed; the random draws differ, so the rows differ and the statistics agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field

from quatrain.core.config import Config
from quatrain.fintech.data.arrays import Array, from_numpy
from quatrain.fintech.data.kernels import numbered

DAY_S = 86_400
# Time of day: normal around noon, in seconds (handbook 3.2, generate_transactions_table).
_TIME_OF_DAY_SD_S = 20_000
# Scenario 1: any amount above this is fraud.
FRAUD_AMOUNT = 220.0
# Scenario 2: days that a terminal stays compromised. Scenario 3: days that a card does.
TERMINAL_DAYS = 28
CARD_DAYS = 14
# Scenario 3: one transaction in this many is fraudulent, with its amount multiplied by the factor.
_CARD_FRAUD_EVERY = 3
_CARD_FRAUD_FACTOR = 5.0
# Customers whose neighbourhoods are looked up together, to bound memory.
_LOOKUP_CHUNK = 5_000

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class SimulatorConfig(Config):
    """Sizes of the simulated world; the defaults are the handbook's."""

    customers: int = Field(default=5_000, ge=1)
    terminals: int = Field(default=10_000, ge=1)
    days: int = Field(default=183, ge=1)
    start: date = date(2018, 4, 1)
    # How far a customer goes to shop, on a map of 100 x 100.
    radius: float = Field(default=5.0, gt=0, le=100)
    # Entities newly compromised each day.
    compromised_terminals: int = Field(default=2, ge=0)
    compromised_customers: int = Field(default=3, ge=0)


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Transactions in time order, one array per field; `scenario` is 0 for a legitimate row."""

    start: datetime
    second: Ints  # since `start`
    customer: Ints
    terminal: Ints
    amount: Floats
    scenario: NDArray[np.int8]

    def __len__(self) -> int:
        """Return the number of transactions."""
        return len(self.second)


def write_handbook_like(path: Path, *, seed: int = 0, **options: object) -> None:
    """Write a synthetic Parquet file with the canonical column names.

    `options` are the fields of SimulatorConfig. The file's metadata says that it is synthetic,
    which option values and which seed made it. Written beside `path` and renamed when complete.
    """
    config = SimulatorConfig.model_validate(options)
    table = to_table(simulate(config, seed=seed), metadata={"seed": str(seed), "options": config.model_dump_json()})
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    pq.write_table(table, part, compression="zstd")
    part.replace(path)


def simulate(config: SimulatorConfig, *, seed: int) -> Simulation:
    """Return a simulated world's transactions with their fraud labels."""
    rng = np.random.default_rng(seed)
    near, first = _terminals_in_reach(
        rng.uniform(0, 100, (config.customers, 2)), rng.uniform(0, 100, (config.terminals, 2)), radius=config.radius
    )
    customer, day, second = _visits(rng, config, has_terminal=np.diff(first) > 0)
    amount = _amounts(rng, rng.uniform(5, 100, config.customers)[customer])
    reach = np.diff(first)[customer]
    terminal = near[first[customer] + np.floor(rng.random(len(customer)) * reach).astype(np.int64)]
    scenario = np.where(amount > FRAUD_AMOUNT, 1, 0).astype(np.int8)
    scenario[_at_compromised_terminals(rng, config, terminal, day)] = 2
    for rows in _on_compromised_cards(rng, config, customer, day):
        amount[rows] = np.round(amount[rows] * _CARD_FRAUD_FACTOR, 2)
        scenario[rows] = 3
    order = np.lexsort((customer, second))
    start = datetime(config.start.year, config.start.month, config.start.day, tzinfo=UTC)
    return Simulation(
        start=start,
        second=second[order],
        customer=customer[order],
        terminal=terminal[order],
        amount=amount[order],
        scenario=scenario[order],
    )


def to_table(simulation: Simulation, *, metadata: dict[str, str]) -> pa.Table:
    """Return the simulation as a table with canonical columns, marked as synthetic."""
    start_us = int(simulation.start.timestamp()) * 1_000_000
    timestamp = from_numpy(start_us + simulation.second * 1_000_000).cast(pa.timestamp("us", tz="UTC"))
    columns: dict[str, Array] = {
        "transaction_id": numbered("T", from_numpy(np.arange(len(simulation))), width=9),
        "timestamp": timestamp,
        "customer_id": numbered("C", from_numpy(simulation.customer), width=6),
        "terminal_id": numbered("M", from_numpy(simulation.terminal), width=6),
        "amount": from_numpy(simulation.amount),
        "is_fraud": from_numpy(simulation.scenario > 0),
    }
    marks = {"quatrain.synthetic": "true", "quatrain.generator": "handbook-like"}
    marks |= {f"quatrain.generator.{key}": value for key, value in metadata.items()}
    return pa.table(columns).replace_schema_metadata(marks)


def _terminals_in_reach(customers: Floats, terminals: Floats, *, radius: float) -> tuple[Ints, Ints]:
    """Return the terminals within `radius` of each customer as (all terminals, first index per customer)."""
    # Cells as wide as the radius: whoever is in reach is in the customer's cell or one beside it.
    n_cells = max(int(100 // radius), 1)
    cell = np.minimum(terminals * n_cells // 100, n_cells - 1).astype(np.int64)
    key = cell[:, 0] * n_cells + cell[:, 1]
    order = np.argsort(key, kind="stable")
    starts = np.searchsorted(key[order], np.arange(n_cells * n_cells + 1))
    near, counts = [], []
    for low in range(0, len(customers), _LOOKUP_CHUNK):
        chunk = customers[low : low + _LOOKUP_CHUNK]
        owner, place = _candidates(chunk, n_cells, starts)
        terminal = order[place]
        is_near = np.hypot(*(chunk[owner] - terminals[terminal]).T) < radius
        owner, terminal = owner[is_near], terminal[is_near]
        near.append(terminal[np.lexsort((terminal, owner))])
        counts.append(np.bincount(owner, minlength=len(chunk)))
    return np.concatenate(near), np.concatenate([[0], np.cumsum(np.concatenate(counts))])


def _candidates(customers: Floats, n_cells: int, starts: Ints) -> tuple[Ints, Ints]:
    """Return (customer, place in the sorted terminals) of every pair in neighbouring cells."""
    cell = np.minimum(customers * n_cells // 100, n_cells - 1).astype(np.int64)
    offsets = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), axis=-1).reshape(-1, 1, 2)
    beside = cell + offsets  # (9, customers, 2)
    is_inside = ((beside >= 0) & (beside < n_cells)).all(axis=-1)
    owner = np.broadcast_to(np.arange(len(customers)), is_inside.shape)[is_inside]
    key = (beside[..., 0] * n_cells + beside[..., 1])[is_inside]
    size = starts[key + 1] - starts[key]
    within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    return np.repeat(owner, size), np.repeat(starts[key], size) + within


def _visits(
    rng: np.random.Generator, config: SimulatorConfig, *, has_terminal: NDArray[np.bool_]
) -> tuple[Ints, Ints, Ints]:
    """Return (customer, day, second since the start), sorted by customer, then day."""
    per_day = rng.uniform(0, 4, config.customers) * has_terminal
    count = rng.poisson(per_day[:, None], (config.customers, config.days)).ravel()
    cell = np.repeat(np.arange(len(count)), count)
    second = rng.normal(DAY_S / 2, _TIME_OF_DAY_SD_S, len(cell)).astype(np.int64)
    # The handbook drops what falls outside the day instead of drawing again.
    cell, second = cell[(second > 0) & (second < DAY_S)], second[(second > 0) & (second < DAY_S)]
    customer, day = np.divmod(cell, config.days)
    return customer, day, day * DAY_S + second


def _amounts(rng: np.random.Generator, mean: Floats) -> Floats:
    """Return amounts to the cent, normal with sd = mean / 2; the negative ones drawn again as U(0, 2 mean)."""
    amount = rng.normal(mean, mean / 2)
    again = rng.uniform(0, 2 * mean)
    amount[amount < 0] = again[amount < 0]
    return amount.round(2)


def _at_compromised_terminals(
    rng: np.random.Generator, config: SimulatorConfig, terminal: Ints, day: Ints
) -> NDArray[np.bool_]:
    per_day = min(config.compromised_terminals, config.terminals)
    chosen = [rng.choice(config.terminals, per_day, replace=False) for _ in range(config.days)]
    since = np.repeat(np.arange(config.days), per_day)
    until = np.arange(TERMINAL_DAYS)
    span = config.days + TERMINAL_DAYS
    keys = (np.concatenate(chosen)[:, None] * span + since[:, None] + until).ravel()
    return np.isin(terminal * span + day, keys)


def _on_compromised_cards(
    rng: np.random.Generator, config: SimulatorConfig, customer: Ints, day: Ints
) -> Iterator[Ints]:
    """Yield the fraudulent rows of each compromised card; `customer` and `day` are sorted together."""
    key = customer * config.days + day
    per_day = min(config.compromised_customers, config.customers)
    for since in range(config.days):
        until = min(since + CARD_DAYS, config.days)
        for card in rng.choice(config.customers, per_day, replace=False):
            low, high = np.searchsorted(key, [card * config.days + since, card * config.days + until])
            yield low + rng.choice(high - low, (high - low) // _CARD_FRAUD_EVERY, replace=False)
