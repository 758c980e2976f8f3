"""The alerts of every scored file as one table: read, joined with verdicts, filtered, put in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from quatrain.fintech.cases import OPEN, Case, CaseKey

Order = Literal["score", "amount", "newest"]
# A column of an alert file that holds one of the model's inputs.
FEATURE_PREFIX = "feature:"
REASONS = ("reason_1", "reason_2", "reason_3")
_COLUMNS = (
    "transaction_id",
    "timestamp",
    "customer_id",
    "terminal_id",
    "amount",
    "score",
    "threshold",
    *REASONS,
    "source_file",
    "model",
    "is_synthetic",
)
# What a calibrated model says besides; files of models without it have none.
_MEANING = ("probability", "low", "high")
_ORDERS: Mapping[Order, Sequence[str]] = {
    "score": ("score", "amount"),
    "amount": ("amount", "score"),
    "newest": ("timestamp", "score"),
}


class AlertFile(NamedTuple):
    """A published file of alerts; size and time tell one version from the next."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What the analyst wants to see; None means everything."""

    status: str | None = None
    min_score: float | None = None
    min_amount: float | None = None
    max_amount: float | None = None
    first_day: date | None = None
    last_day: date | None = None
    source_files: tuple[str, ...] = ()

    @property
    def n_active(self) -> int:
        """How many filters beside the status are set."""
        amount = self.min_amount is not None or self.max_amount is not None
        days = self.first_day is not None or self.last_day is not None
        return sum((self.min_score is not None, amount, days, bool(self.source_files)))


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The queue in four numbers."""

    n_alerts: int
    n_open: int
    open_amount: float
    n_fraud: int
    fraud_amount: float
    n_dismissed: int


def describe_files(paths: Sequence[Path]) -> tuple[AlertFile, ...]:
    """Return the files that are still there, in the order given."""
    found = []
    for path in paths:
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        found.append(AlertFile(str(path), stat.st_size, stat.st_mtime_ns))
    return tuple(found)


def read_alerts(files: Sequence[AlertFile]) -> pd.DataFrame:
    """Return all alerts, one row per transaction of an input file, the newest scoring winning.

    Columns of the contract, `path` and `row` of the alert in its file, and `id`, a text that
    names the case in an address.
    """
    tables = [_read(file.path) for file in files]
    frame = pa.concat_tables(tables, promote_options="default").to_pandas() if tables else _empty()
    frame = frame.drop_duplicates(["source_file", "transaction_id"], keep="last")
    frame["id"] = frame["source_file"] + "/" + frame["transaction_id"]
    return frame.reset_index(drop=True)


def add_status(frame: pd.DataFrame, cases: Mapping[CaseKey, Case]) -> pd.DataFrame:
    """Return the alerts with their `status`: open, fraud or dismissed."""
    keys = zip(frame["source_file"], frame["transaction_id"], strict=True)
    statuses = [cases.get(CaseKey(*key), OPEN).status for key in keys]
    return frame.assign(status=pd.Series(statuses, index=frame.index, dtype="str"))


def apply_filters(frame: pd.DataFrame, filters: Filters) -> pd.DataFrame:
    """Return the alerts that pass; both ends of every range are included."""
    keep = pd.Series(True, index=frame.index)
    if filters.status is not None:
        keep &= frame["status"] == filters.status
    if filters.min_score is not None:
        keep &= frame["score"] >= filters.min_score
    if filters.min_amount is not None:
        keep &= frame["amount"] >= filters.min_amount
    if filters.max_amount is not None:
        keep &= frame["amount"] <= filters.max_amount
    days = frame["timestamp"].dt.date
    if filters.first_day is not None:
        keep &= days >= filters.first_day
    if filters.last_day is not None:
        keep &= days <= filters.last_day
    if filters.source_files:
        keep &= frame["source_file"].isin(filters.source_files)
    return frame[keep]


def put_in_order(frame: pd.DataFrame, order: Order) -> pd.DataFrame:
    """Return the alerts with the most pressing first; ties keep one fixed order."""
    columns = [*_ORDERS[order], "id"]
    ascending = [*(False for _ in _ORDERS[order]), True]
    return frame.sort_values(columns, ascending=ascending).reset_index(drop=True)


def summarise(frame: pd.DataFrame) -> Summary:
    """Return the queue in numbers, over every alert whatever the filters."""
    amounts = {status: frame.loc[frame["status"] == status, "amount"] for status in ("open", "fraud", "dismissed")}
    return Summary(
        n_alerts=len(frame),
        n_open=len(amounts["open"]),
        open_amount=float(amounts["open"].sum()),
        n_fraud=len(amounts["fraud"]),
        fraud_amount=float(amounts["fraud"].sum()),
        n_dismissed=len(amounts["dismissed"]),
    )


def read_inputs(path: str, row: int) -> dict[str, float]:
    """Return the model inputs of one alert by feature name, in the file's order."""
    table = pq.read_table(path).slice(row, 1)
    names = [name for name in table.column_names if name.startswith(FEATURE_PREFIX)]
    return {name.removeprefix(FEATURE_PREFIX): table.column(name)[0].as_py() for name in names}


def _read(path: str) -> pa.Table:
    with pq.ParquetFile(path) as file:
        named = file.schema_arrow.names
        table = file.read(columns=[*_COLUMNS, *(name for name in _MEANING if name in named)])
    n_rows = table.num_rows
    for name in _MEANING:
        if name not in named:
            table = table.append_column(name, pa.nulls(n_rows, pa.float32()))
    table = table.append_column("path", pa.array([path] * n_rows, pa.string()))
    return table.append_column("row", pa.array(range(n_rows), pa.int64()))


def _empty() -> pd.DataFrame:
    columns: dict[str, Any] = {name: pd.Series(dtype="str") for name in (*_COLUMNS, "path")}
    columns |= {name: pd.Series(dtype="float64") for name in ("amount", "score", "threshold", *_MEANING)}
    columns["timestamp"] = pd.Series(dtype="datetime64[us, UTC]")
    columns["is_synthetic"] = pd.Series(dtype="bool")
    columns["row"] = pd.Series(dtype="int64")
    return pd.DataFrame(columns)
