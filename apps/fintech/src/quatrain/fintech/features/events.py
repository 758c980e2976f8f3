"""Transactions as arrays in the total order that every history feature is defined by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quatrain.core.errors import BadDataError
from quatrain.fintech.data.arrays import from_numpy, to_numpy
from quatrain.fintech.data.columns import LABEL, LABELLED_AT
from quatrain.fintech.data.kernels import mask, numbers, pc
from quatrain.fintech.features.names import LABEL_DELAY_US

Ints = NDArray[np.int64]
Codes = NDArray[np.int32]

# Amounts enter sums as whole numbers of 1/10000 of a currency unit.
AMOUNT_UNIT = 10_000
# Currency units; a larger amount counts as this much.
LARGEST_AMOUNT = 1e10
# The offline engine's sums are int64.
_LARGEST_TOTAL = 2.0**63
# Stands for "no time given".
_NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True, kw_only=True)
class Events:
    """Events in the order (timestamp, transaction_id as UTF-8 bytes), each (timestamp, transaction_id) once."""

    at_us: Ints  # (n,) microseconds since 1970
    amount: Ints  # (n,) in 1/10000
    # By canonical column: (n,) from 0, -1 where the id is missing.
    codes: Mapping[str, Codes]
    # By canonical column: how many different ids there are.
    n_codes: Mapping[str, int]
    is_fraud: NDArray[np.bool_]  # (n,) a label that is missing is no fraud
    # (n,) when the label became known; read of frauds only.
    known_us: Ints

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.at_us)


def events_of(
    tables: Sequence[pa.Table], columns: Sequence[str], *, label_delay_us: int = LABEL_DELAY_US
) -> tuple[Events, Ints]:
    """Return the tables' rows together as events, and of each row (tables in turn) the index of its event.

    `columns` are the id columns to encode; one that a table does not have is missing throughout.
    Of rows with the same timestamp and transaction_id the first counts and the others are the
    same event. A fraud without `labelled_at` became known `label_delay_us` after it happened.
    Raises BadDataError where transaction_id is missing or the amounts' sum is no int64.
    """
    at_us = np.concatenate([to_numpy(table["timestamp"].cast(pa.int64())) for table in tables])
    order, is_first = _total_order(at_us, tables)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.cumsum(is_first) - 1
    kept = order if is_first.all() else order[is_first]
    codes, n_codes = {}, {}
    for column in columns:
        encoded, n_codes[column] = _encode([_column(table, column) for table in tables])
        codes[column] = encoded[kept]
    at_us = at_us[kept]
    is_fraud = np.concatenate([_is_fraud(table) for table in tables])[kept]
    known_us = at_us + label_delay_us
    if any(LABELLED_AT in table.column_names for table in tables):
        given = np.concatenate([_labelled_at(table) for table in tables])[kept]
        known_us = np.where(given == _NEVER, known_us, np.maximum(given, at_us))
    amount = np.concatenate([to_numpy(table["amount"]) for table in tables])[kept]
    events = Events(
        at_us=at_us,
        amount=whole_amounts(amount),
        codes=codes,
        n_codes=n_codes,
        is_fraud=is_fraud,
        known_us=known_us,
    )
    return events, place


def whole_amounts(amount: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return amounts in 1/10000, rounded half to even, those above LARGEST_AMOUNT as that.

    Raises ValueError for an amount that is not finite, BadDataError where the sum is no int64.
    """
    clipped = np.clip(amount, -LARGEST_AMOUNT, LARGEST_AMOUNT)
    total = float(np.abs(clipped).sum()) * AMOUNT_UNIT
    if not np.isfinite(total):
        raise ValueError("amounts must be finite, as those of rows from read_batches are")
    if total >= _LARGEST_TOTAL:
        raise BadDataError(
            f"the amounts sum to {total / AMOUNT_UNIT:.3g}, and sums over windows hold at most "
            f"{_LARGEST_TOTAL / AMOUNT_UNIT:.3g}: give the amounts in a larger unit"
        )
    return np.rint(clipped * AMOUNT_UNIT).astype(np.int64)


def whole_amount(amount: float) -> int:
    """Return one finite amount as whole_amounts does."""
    return round(min(max(amount, -LARGEST_AMOUNT), LARGEST_AMOUNT) * AMOUNT_UNIT)


def _total_order(at_us: Ints, tables: Sequence[pa.Table]) -> tuple[Ints, NDArray[np.bool_]]:
    """Return the rows in total order, equal ones as they came, and which of them is the first of its event."""
    order = np.argsort(at_us, kind="stable")
    ranked = at_us[order]
    is_tied = ranked[1:] == ranked[:-1]
    is_first = np.ones(len(order), dtype=bool)
    if not is_tied.any():
        return order, is_first
    # Ids decide between equal timestamps only, so few of them are compared.
    tied = np.flatnonzero(np.concatenate([[False], is_tied]) | np.concatenate([is_tied, [False]]))
    rank = _ranks([_ids(table) for table in tables], order[tied])
    within = np.lexsort((rank, ranked[tied]))
    order[tied] = order[tied[within]]
    rank = rank[within]
    is_first[tied[1:]] = (ranked[tied[1:]] != ranked[tied[:-1]]) | (rank[1:] != rank[:-1])
    return order, is_first


def _ranks(ids: Sequence[pa.ChunkedArray[Any]], rows: Ints) -> Ints:
    """Return the place of each row's id among all ids in the order of their bytes, equal ids alike."""
    chunks = [chunk for column in ids for chunk in column.chunks]
    encoded = pa.chunked_array(chunks, pa.string()).take(from_numpy(rows)).combine_chunks().dictionary_encode()
    by_bytes = to_numpy(pc.sort_indices(encoded.dictionary)).astype(np.int64)
    rank = np.empty(len(by_bytes), dtype=np.int64)
    rank[by_bytes] = np.arange(len(by_bytes))
    return np.asarray(rank[to_numpy(encoded.indices)])


def _ids(table: pa.Table) -> pa.ChunkedArray[Any]:
    if "transaction_id" not in table.column_names:
        raise BadDataError("history features need transaction_id, which orders events of one instant; it is missing")
    return table["transaction_id"]


def _column(table: pa.Table, name: str) -> pa.ChunkedArray[Any]:
    if name in table.column_names:
        return table[name]
    return pa.chunked_array([pa.nulls(len(table), pa.string())])


def _encode(columns: Sequence[pa.ChunkedArray[Any]]) -> tuple[Codes, int]:
    """Return codes from 0 in the order of first appearance, -1 for null, and how many there are."""
    chunks = [chunk.cast(pa.string()) for column in columns for chunk in column.chunks if len(chunk)]
    if not chunks:
        return np.zeros(0, dtype=np.int32), 0
    # Chunk by chunk, as the text of very many ids fits in no single array.
    encoded: Any = pa.chunked_array(chunks).dictionary_encode().unify_dictionaries()
    codes = [np.where(mask(chunk.is_valid()), numbers(chunk.indices), -1) for chunk in encoded.chunks]
    return np.concatenate(codes).astype(np.int32), len(encoded.chunk(0).dictionary)


def _is_fraud(table: pa.Table) -> NDArray[np.bool_]:
    if LABEL not in table.column_names:
        return np.zeros(len(table), dtype=bool)
    return mask(table[LABEL].combine_chunks())


def _labelled_at(table: pa.Table) -> Ints:
    if LABELLED_AT not in table.column_names:
        return np.full(len(table), _NEVER)
    given = table[LABELLED_AT].combine_chunks()
    return np.where(mask(given.is_valid()), numbers(given.cast(pa.int64())), _NEVER)
