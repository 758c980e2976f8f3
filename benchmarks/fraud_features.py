"""How fast history features are, and whether the two engines agree to the last bit.

Speed: six windows (count and mean amount of the card over 1, 7 and 30 days, count of the terminal
over the same) of handbook-like transactions, one thread, by CPU time, each engine from arrays or
columns that lie in memory in time order with the ids as integers, to nine columns in that order;
the fastest of interleaved repeats. pandas rolls over each group; polars takes rolling sums by time.
Both are beside Quatrain for speed only: polars lets a window see later rows of the same instant.

Agreement: transactions of the harder generator one by one through the online engine, frauds
learned when they became known, with a restart from its saved bytes half-way; every value of the
full set is compared with the offline engine's. The time of each event is the thread's CPU time,
so that what else the machine does is not counted; the time that passed is shown beside it.
"""

from __future__ import annotations

import gc
import heapq
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from _report import claim, finish, parser, table

from quatrain.fintech.data.arrays import to_numpy
from quatrain.fintech.features.build import build
from quatrain.fintech.features.events import Events, events_of
from quatrain.fintech.features.names import LABEL_DELAY_US, entities, feature_names, parse
from quatrain.fintech.features.offline import matrix
from quatrain.fintech.features.online import OnlineFeatures
from quatrain.fintech.features.transaction import transactions
from quatrain.fintech.simulation.handbook import SimulatorConfig, simulate, to_table
from quatrain.fintech.simulation.hard import write_card_fraud_hard

if TYPE_CHECKING:
    import polars as pl

_DAYS = (1, 7, 30)
_SIX = (
    *(f"customer_{kind}_{days}d" for kind in ("count", "mean") for days in _DAYS),
    *(f"terminal_count_{days}d" for days in _DAYS),
)
# Transactions that the harder generator makes of a customer in its five months, less a margin.
_ROWS_PER_CUSTOMER = 170
# Slow, and steady: it need not run as often as the others.
_PANDAS_REPEATS = 2
Columns = dict[str, Any]


def main() -> None:
    """Measure and print the claims."""
    arguments = parser(__doc__)
    arguments.add_argument("--replayed", type=int, default=None, help="Transactions to replay one by one.")
    options = arguments.parse_args()
    n_replayed = options.replayed or (20_000 if options.quick else 1_000_000)
    config = SimulatorConfig(customers=1_000, terminals=2_000) if options.quick else SimulatorConfig()
    rates = _speed(to_table(simulate(config, seed=0), metadata={}), n_repeats=3 if options.quick else 5)
    n_different, p99_ms = _replay(_stream(n_replayed))
    finish(
        [
            claim("six windows: rows per CPU-second", rates["Quatrain"], 10e6, at_least=True),
            claim("six windows: x polars", rates["Quatrain"] / rates["polars"], 1, at_least=True),
            claim("replay: values that differ between the engines", n_different, 0, at_least=False),
            claim("replay: p99 of one event, ms of CPU time", p99_ms, 2, at_least=False),
        ]
    )


def _speed(rows: pa.Table, *, n_repeats: int) -> dict[str, float]:
    """Print the rates, and return rows per CPU-second of each engine on the six windows."""
    # Read when polars is imported.
    os.environ["POLARS_MAX_THREADS"] = "1"
    import polars as pl

    events, _ = events_of([rows], ["customer_id", "terminal_id"])
    span_us = int(events.at_us[-1] - events.at_us[0])
    full = [name for name in feature_names(rows.column_names, [], span_us=span_us, history="full") if parse(name)]
    columns = _columns(events)
    frame, polars_frame = pd.DataFrame(columns), pl.DataFrame(columns)
    results: dict[str, Any] = {}
    engines: dict[str, Callable[[], Any]] = {
        "Quatrain": lambda: matrix(events, _SIX, LABEL_DELAY_US),
        "polars": lambda: _by_polars(polars_frame),
        "pandas": lambda: _by_pandas(frame),
        f"Quatrain, all {len(full)} history features": lambda: matrix(events, full, LABEL_DELAY_US),
        "Quatrain, six windows from a table with ids as text": lambda: build(rows, _SIX),
    }
    seconds = dict.fromkeys(engines, np.inf)
    matrix(events, full, LABEL_DELAY_US)
    for repeat in range(n_repeats):
        for name, run in engines.items():
            if name != "pandas" or repeat < _PANDAS_REPEATS:
                began = time.process_time()
                results[name] = run()
                seconds[name] = min(seconds[name], time.process_time() - began)
    _check(results["Quatrain"], results["pandas"])
    rates = {name: len(events) / taken for name, taken in seconds.items()}
    shown = [(name, seconds[name], f"{rates[name]:,.0f}", rates[name] / rates["pandas"]) for name in engines]
    print(f"{len(events):,} rows, one thread, the fastest of {n_repeats}\n")
    table(("engine", "CPU-seconds", "rows per CPU-second", "x pandas"), shown)
    return rates


def _columns(events: Events) -> Columns:
    return {
        "timestamp": events.at_us.astype("datetime64[us]"),
        "customer": events.codes["customer_id"],
        "terminal": events.codes["terminal_id"],
        "amount": events.amount / 10_000,
        "one": np.ones(len(events), dtype=np.int64),
    }


def _by_pandas(frame: pd.DataFrame) -> Columns:
    found: Columns = {}
    for key, kinds in (("customer", ("count", "mean")), ("terminal", ("count",))):
        order = np.argsort(frame[key].to_numpy(), kind="stable")
        grouped = frame.iloc[order].groupby(key, sort=True)
        for days in _DAYS:
            rolling = grouped.rolling(f"{days}D", on="timestamp")["amount"]
            for kind in kinds:
                values = np.empty(len(frame), dtype=np.float32)
                values[order] = getattr(rolling, kind)().to_numpy()
                found[f"{key}_{kind}_{days}d"] = values
    return found


def _by_polars(frame: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    windows = []
    for days in _DAYS:
        size = f"{days}d"
        mean = pl.col("amount").rolling_mean_by("timestamp", window_size=size)
        windows.append(mean.over("customer").cast(pl.Float32).alias(f"customer_mean_{size}"))
        for key in ("customer", "terminal"):
            count = pl.col("one").rolling_sum_by("timestamp", window_size=size)
            windows.append(count.over(key).cast(pl.Float32).alias(f"{key}_count_{size}"))
    return frame.select(windows)


def _check(found: np.ndarray, wanted: Columns) -> None:
    """Stop if the engines compute different things: then their speeds say nothing."""
    for place, name in enumerate(_SIX):
        np.testing.assert_allclose(found[:, place], wanted[name], rtol=1e-5, atol=1e-4, err_msg=name)


def _stream(n_rows: int) -> pa.Table:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hard.parquet"
        write_card_fraud_hard(path, seed=0, customers=max(n_rows // _ROWS_PER_CUSTOMER, 50))
        rows = pq.read_table(path)
    if len(rows) < n_rows:
        raise SystemExit(f"the generator gave {len(rows)} rows, {n_rows} are wanted")
    rows = rows.sort_by([("timestamp", "ascending"), ("transaction_id", "ascending")])
    # Over the whole span, so that windows fill: of fewer rows, every n-th.
    return rows.take(pa.array(np.linspace(0, len(rows) - 1, n_rows).astype(np.int64)))


def _replay(rows: pa.Table) -> tuple[int, float]:
    """Print what a replay shows; return how many values differ, and the 99th percentile of an event in ms."""
    at_us = to_numpy(rows["timestamp"].cast(pa.int64()))
    names = feature_names(rows.column_names, [], span_us=int(at_us[-1] - at_us[0]), history="full")
    offline = build(rows, names)
    events, _ = events_of([rows], entities(names))
    engine, waiting = OnlineFeatures(names), list[tuple[int, int]]()
    stream = list(transactions(rows))
    cpu_ns, wall_ns = np.empty(len(rows), dtype=np.int64), np.empty(len(rows), dtype=np.int64)
    n_different = 0
    # As a service would: the state makes no cycles, and looking for them takes longer than any event.
    gc.disable()
    for i, transaction in enumerate(stream):
        if i == len(stream) // 2:
            engine = _restarted(engine)
        while waiting and waiting[0][0] <= transaction.at_us:
            known_us, fraud = heapq.heappop(waiting)
            engine.learn(stream[fraud], known_us)
        began_ns, wall_began_ns = time.thread_time_ns(), time.perf_counter_ns()
        found = engine.observe(transaction)
        cpu_ns[i], wall_ns[i] = time.thread_time_ns() - began_ns, time.perf_counter_ns() - wall_began_ns
        n_different += int((found.view(np.int32) != offline[i].view(np.int32)).sum())
        if events.is_fraud[i]:
            heapq.heappush(waiting, (int(events.known_us[i]), i))
    gc.enable()
    print(f"{len(rows):,} transactions replayed, {len(names)} features each, {offline.size:,} values compared\n")
    measured = [
        (what, *(float(np.quantile(taken_ns, share)) / 1e3 for share in (0.5, 0.99, 0.999, 1)))
        for what, taken_ns in (("CPU time", cpu_ns), ("time passed", wall_ns))
    ]
    table(("one event, us", "p50", "p99", "p99.9", "longest"), measured)
    return n_different, float(np.quantile(cpu_ns, 0.99)) / 1e6


def _restarted(engine: OnlineFeatures) -> OnlineFeatures:
    began = time.process_time()
    state = engine.to_bytes()
    saved = time.process_time()
    again = OnlineFeatures.from_bytes(state)
    restored = time.process_time()
    print(
        f"restart: {len(engine):,} events held, {len(state) / 1e6:.1f} MB saved in {saved - began:.2f} CPU-seconds, "
        f"restored in {restored - saved:.2f}\n"
    )
    return again


if __name__ == "__main__":
    main()
