"""One transaction as the online engine takes it, and as it keeps it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import pyarrow as pa

from quatrain.core.errors import BadDataError
from quatrain.fintech.data.arrays import to_numpy
from quatrain.fintech.features.events import whole_amount
from quatrain.fintech.features.names import ENTITIES

# A place in the total order: microseconds, then the id's UTF-8 bytes.
Order: TypeAlias = tuple[int, bytes]


@dataclass(frozen=True, kw_only=True)
class Transaction:
    """A transaction with its canonical columns; `extras` are the file's own numbers that a model reads."""

    at_us: int
    transaction_id: str
    amount: float
    customer_id: str | None = None
    terminal_id: str | None = None
    device_id: str | None = None
    merchant_id: str | None = None
    extras: Mapping[str, float] = field(default_factory=dict)


class Stored:
    """What the engine keeps of an event; `known_us` is when it became known as fraud, None before."""

    __slots__ = ("amount", "at_us", "entities", "id", "known_us")

    def __init__(
        self, at_us: int, id_: bytes, amount: int, entities: tuple[str | None, ...], known_us: int | None = None
    ) -> None:
        self.at_us = at_us
        self.id = id_
        self.amount = amount
        self.entities = entities
        self.known_us = known_us

    @property
    def order(self) -> Order:
        """The event's place in the total order."""
        return self.at_us, self.id


def stored(transaction: Transaction) -> Stored:
    """Return what is kept of a transaction; raises BadDataError for an amount that is no number."""
    amount = transaction.amount
    if not math.isfinite(amount):
        raise BadDataError(f"the amount of transaction {transaction.transaction_id!r} is {amount}, not a finite number")
    entities = tuple(getattr(transaction, column) for column in ENTITIES.values())
    return Stored(transaction.at_us, transaction.transaction_id.encode(), whole_amount(amount), entities)


def transactions(table: pa.Table, *, extras: Sequence[str] = ()) -> Iterator[Transaction]:
    """Yield a canonical table's rows in their order; `extras` are the columns of the file's own that a model reads."""
    for batch in table.to_batches(max_chunksize=65_536):
        present = [column for column in ENTITIES.values() if column in batch.schema.names]
        ids = [batch.column(column).to_pylist() for column in present]
        numbers = [to_numpy(batch.column(name)).tolist() for name in extras]
        at_us = to_numpy(batch.column("timestamp").cast(pa.int64())).tolist()
        amounts = to_numpy(batch.column("amount")).tolist()
        for i, id_ in enumerate(batch.column("transaction_id").to_pylist()):
            yield Transaction(
                at_us=at_us[i],
                transaction_id=str(id_),
                amount=amounts[i],
                **{column: values[i] for column, values in zip(present, ids, strict=True)},
                extras={name: values[i] for name, values in zip(extras, numbers, strict=True)},
            )
