"""The fraud app from generated data to alerts, for `quatrain demo`; everything in it is SYNTHETIC."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from quatrain.core.demo import DemoRow
from quatrain.core.errors import UserError
from quatrain.core.store import Store
from quatrain.fintech.data.arrays import from_numpy, to_numpy
from quatrain.fintech.data.columns import LABEL
from quatrain.fintech.score.run import ScoreConfig, score
from quatrain.fintech.simulation.handbook import SimulatorConfig, write_handbook_like

if TYPE_CHECKING:
    from quatrain.fintech.train.config import TrainConfig

_LOG = logging.getLogger(__name__)
_SEED = 7
# A small bank: about 200,000 transactions, fraud a little above the handbook's rate.
_WORLD = SimulatorConfig(
    customers=1_500,
    terminals=3_000,
    days=67,
    start=date(2026, 1, 1),
    compromised_terminals=1,
    compromised_customers=1,
)
# The last days are kept from training and come as new files, one a day.
_N_NEW_DAYS = 7
# Alerts per transaction: about fifteen a day, which is a morning's work.
_ALERT_BUDGET = 0.005
# One file is damaged on purpose, so that the quarantine has something to show.
_MAX_BAD_RATIO = 0.3
_SHOWN = ("ap", "auc", "cp_100", "value_recall")
_RESULTS = "results.json"


def demo(folder: Path) -> list[DemoRow]:
    """Return the results of a model trained on generated transactions, after scoring a week of new files.

    Leaves a published model, alerts, and a quarantine in the configured home. A second call in
    the same folder trains and scores nothing again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    history, incoming = folder / "history.parquet", folder / "incoming"
    if not history.exists():
        _generate(history, incoming)
    results = folder / _RESULTS
    if not _is_current(results):
        _train(history, results)
    report = score(ScoreConfig(inputs=(incoming,), max_bad_ratio=_MAX_BAD_RATIO))
    if report.exit_code:
        raise UserError(f"scoring the demo's files ended as {report.status}: {report.error}")
    return [_row(row) for row in json.loads(results.read_text(encoding="utf-8"))["rows"]]


def _generate(history: Path, incoming: Path) -> None:
    """Write the past as one labelled file and the days after it as unlabelled ones."""
    whole = history.with_name("whole.parquet")
    write_handbook_like(whole, seed=_SEED, **_WORLD.model_dump())
    table = pq.read_table(whole)
    incoming.mkdir(exist_ok=True)
    for day, rows in _days(table):
        _write_day(incoming, day, rows.drop_columns([LABEL]))
    (incoming / "upload-broken-off.parquet").write_bytes(whole.read_bytes()[:2000])
    part = history.with_name(history.name + ".part")
    pq.write_table(_between(table, _WORLD.start, _first_new_day()), part)
    whole.unlink()
    # Renamed last: a demo that was cut short generates again.
    part.replace(history)


def _days(table: pa.Table) -> Iterator[tuple[date, pa.Table]]:
    for offset in range(_N_NEW_DAYS):
        day = _first_new_day() + timedelta(days=offset)
        yield day, _between(table, day, day + timedelta(days=1))


def _first_new_day() -> date:
    return _WORLD.start + timedelta(days=_WORLD.days - _N_NEW_DAYS)


def _between(table: pa.Table, first: date, end: date) -> pa.Table:
    since, until = (datetime(d.year, d.month, d.day, tzinfo=UTC).timestamp() * 1e6 for d in (first, end))
    at_us = to_numpy(table["timestamp"].cast(pa.int64()))
    return table.filter(from_numpy((at_us >= since) & (at_us < until)))


def _write_day(folder: Path, day: date, rows: pa.Table) -> None:
    if day != _first_new_day():
        pq.write_table(rows, folder / f"{day}.parquet")
        return
    # The first day comes as a CSV with the faults that hand-made exports have.
    path = folder / f"{day}.csv"
    csv.write_csv(rows, path)
    first = rows.slice(0, 1).to_pylist()[0]
    faulty = [
        {**first, "transaction_id": "X1", "amount": "NaN"},
        {**first, "transaction_id": "X2", "amount": "-12.00"},
        {**first, "transaction_id": "X3", "timestamp": "yesterday"},
        {**first, "transaction_id": "X4", "timestamp": f"{day} 12:00:00"},
        first,
    ]
    lines = [",".join(f'"{value}"' for value in row.values()) for row in faulty]
    with path.open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def _train(history: Path, results: Path) -> None:
    from quatrain.fintech.train.run import train

    result = train(_train_config(history))
    document = {"version": result.to_dict()["version"], "rows": [r.to_dict() for r in result.rows if r.split == "test"]}
    results.write_text(json.dumps(document), encoding="utf-8")


def _train_config(history: Path) -> TrainConfig:
    from quatrain.fintech.models.recipe_settings import quick_settings
    from quatrain.fintech.train.config import TrainConfig

    return TrainConfig(
        data=str(history),
        promote="yes",
        seed=_SEED,
        alert_budget=_ALERT_BUDGET,
        recipe=quick_settings(),
        n_folds=1,
        n_resamples=200,
    )


def _is_current(results: Path) -> bool:
    """Return whether the demo's model is already in the store and in production."""
    if not results.exists():
        return False
    version = json.loads(results.read_text(encoding="utf-8"))["version"]
    store = Store()
    name = str(version).partition(":")[0]
    return name in store.names() and f"{name}:{store.aliases(name).get('prod')}" == version


def _row(row: dict[str, Any]) -> DemoRow:
    return DemoRow(
        app="fintech",
        data="handbook-like",
        model=row["name"],
        metrics={name: row["metrics"][name] for name in _only(row["metrics"])},
        intervals={name: tuple(row["intervals"][name]) for name in _only(row["intervals"])},
    )


def _only(values: Sequence[str]) -> list[str]:
    return [name for name in _SHOWN if name in values]
