"""From files of transactions to files of decisions, and one at a time: how fast, and whether both decide alike.

Features: benchmarks/fraud_features.py, run as it is; its tables and its claims stand here too.

Files: the real `quatrain fintech score` on one file, with validation of every row, ledger, alerts
with reasons and atomic outputs, by the CPU time of the whole process, start-up and imports
included. The models are sealed champions of the real training, on the handbook's 15 inputs and on
all inputs that the id columns allow: 300 trees of 31 leaves, and as many trees as the default
recipe ends with on such data (three seeds of 350 rounds, 16 leaves, and ratios of inputs inside the
graph where validation keeps them). The claim is about the first; the others stand beside it. Once
the file is all there is; once its features look back on the transactions before it as well, which
have to be read and counted too. Beside it what one would write by hand: polars reads the file and
rolls six of the windows, LightGBM's own predict scores, polars writes; it checks nothing, and its
start-up is not counted.

One at a time: the same transactions in their order through a Decider, features and score, against
the scores file; latency is the thread's CPU time, so that what else the machine does is not
counted, and the time that passed is shown beside it.
"""

from __future__ import annotations

import cProfile
import gc
import json
import os
import pstats
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _report import claim, finish, parser, table

# The file whose scoring is timed.
_FILE_ROWS = 1_000_000
# What the models are made of, of fixed size so that no figure depends on where training stopped.
_SIZES = {
    "300 trees of 31 leaves": (
        "recipe.trees={large = {max_rounds = 300, step = 300, n_seeds = 1, num_leaves = 31, min_child_samples = 20}}",
        "recipe.ratios=false",
    ),
    "1050 trees of 16 leaves": ("recipe.trees={lightgbm = {max_rounds = 350, step = 350}}",),
}
_INPUTS = {"15 inputs": "standard", "all inputs": "full"}
_CLAIMED = "300 trees of 31 leaves, 15 inputs"
_COMMAND = "from quatrain.core.cli.main import main; main()"
# The same command with the trees left to ONNX Runtime.
_WITHOUT_KERNEL = """
from quatrain.core import inference
from quatrain.fintech.score import run
run.ForestSession = inference.open_session
from quatrain.core.cli.main import main
main()
"""
_BY_HAND = """
import os, resource, sys
os.environ["POLARS_MAX_THREADS"] = "1"
import lightgbm, numpy, polars as pl

def frame_of(path):
    frame = pl.read_parquet(path).sort("timestamp").with_columns(one=pl.lit(1))
    at = pl.col("timestamp").dt
    windows = [pl.col("amount"), (at.weekday() >= 6).alias("weekend"), (at.hour() < 6).alias("night")]
    for days in (1, 7, 30):
        size = f"{days}d"
        mean = pl.col("amount").rolling_mean_by("timestamp", window_size=size)
        windows.append(mean.over("customer_id").alias(f"customer_mean_{size}"))
        for key in ("customer", "terminal"):
            count = pl.col("one").rolling_sum_by("timestamp", window_size=size)
            windows.append(count.over(f"{key}_id").alias(f"{key}_count_{size}"))
    return frame, frame.select(windows).to_numpy().astype(numpy.float32)

history, source, target = sys.argv[1:]
past, x = frame_of(history)
options = {"objective": "binary", "num_leaves": 31, "verbose": -1, "num_threads": 1}
booster = lightgbm.train(options, lightgbm.Dataset(x, past["is_fraud"].to_numpy()), 300)
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
began = cpu()
rows, x = frame_of(source)
score = booster.predict(x, num_threads=1)
rows.select("transaction_id", "timestamp", score=pl.Series(score)).write_parquet(target)
print(cpu() - began)
"""
# What a profile is told in: the label, and the function whose calls are added up, with all that they call.
_STAGES = (
    ("reading and checking rows", "data/read.py", "read_batches"),
    ("reading the past", "score/past.py", "before"),
    ("events in their order, ids as numbers", "features/events.py", "events_of"),
    ("windows", "features/offline.py", "fill"),
    ("trees and calibration", "core/inference.py", "predict"),
    ("writing", "jobs/sink.py", "write"),
    ("writing, the ends of the files", "jobs/sink.py", "commit"),
)


def main() -> None:
    """Measure and print the claims."""
    arguments = parser(__doc__)
    arguments.add_argument("--replayed", type=int, default=None, help="Transactions to decide one by one.")
    arguments.add_argument("--without-features", action="store_true", help="Leave fraud_features.py out.")
    options = arguments.parse_args()
    claims = [] if options.without_features else _features(is_quick=options.quick)
    n_replayed = options.replayed or (20_000 if options.quick else _FILE_ROWS)
    with tempfile.TemporaryDirectory() as folder:
        bench = _Bench(Path(folder), is_quick=options.quick)
        speeds = _files(bench, is_quick=options.quick)
        if not options.quick:
            _profile(bench)
        n_decisions, n_scores, p99_ms = _replay(bench, n_replayed)
    finish(
        [
            *claims,
            claim("Parquet to Parquet: rows per CPU-second", speeds[_CLAIMED], 200_000, at_least=True),
            claim("Parquet to Parquet: x by hand", speeds[_CLAIMED] / speeds["polars + LightGBM"], 1, at_least=True),
            claim("online: p99 of features and score, ms of CPU time", p99_ms, 5, at_least=False),
            claim("replay: decisions that differ", n_decisions, 0, at_least=False),
            claim("replay: scores that differ", n_scores, 0, at_least=False),
        ]
    )


def _features(*, is_quick: bool) -> list[Any]:
    """Run the benchmark of the features, show what it shows, and return its claims."""
    script = Path(__file__).with_name("fraud_features.py")
    command = [sys.executable, str(script), *(["--quick"] if is_quick else [])]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    *shown, last = done.stdout.rstrip().splitlines() or [""]
    if not last.startswith("{"):
        raise SystemExit(f"fraud_features.py ended with {done.returncode} and no claims:\n{done.stdout}")
    print("\n".join(shown))
    found = json.loads(last)["claims"]
    return [claim(each["name"], each["value"], each["target"], at_least=each["at_least"]) for each in found]


class _Bench:
    """A world of SYNTHETIC transactions, champions by name, and a home in which they are at home."""

    def __init__(self, place: Path, *, is_quick: bool) -> None:
        self.place = place
        self.new = place / "new" / "day.parquet"
        self.history = self._make_world(is_quick=is_quick)
        self.bundles = {
            f"{size}, {inputs}": self._train(_SIZES[size], _INPUTS[inputs])
            for size in _SIZES
            for inputs in _INPUTS
            if not is_quick or f"{size}, {inputs}" == _CLAIMED
        }

    def run(self, *arguments: str, out: Path | None = None, program: str = _COMMAND) -> float:
        """Return the CPU-seconds of one command."""
        ledger = f"sqlite:///{out}/ledger.db" if out else ""
        environment = {**os.environ, "QUATRAIN_CORE__HOME": str(self.place / "home"), "QUATRAIN_CORE__LEDGER": ledger}
        before = _children_cpu()
        command = [sys.executable, "-c", program, "fintech", *arguments, "-q"]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return _children_cpu() - before

    def score(self, out: Path, name: str = _CLAIMED, *, program: str = _COMMAND) -> float:
        """Return the CPU-seconds of scoring the file."""
        arguments = ("score", "--data", str(self.new.parent), "--bundle", str(self.bundles[name]), "--out", str(out))
        return self.run(*arguments, out=out, program=program)

    def keep_journal(self) -> Path:
        """Give the champion that the claim is about its past, as a training run that publishes does."""
        from quatrain.core.inference import load_model
        from quatrain.fintech import journal

        os.environ["QUATRAIN_CORE__HOME"] = str(self.place / "home")
        return journal.save_for(load_model(self.bundles[_CLAIMED]).digest, self.history)

    def _make_world(self, *, is_quick: bool) -> pa.Table:
        from quatrain.fintech.simulation.handbook import SimulatorConfig, write_handbook_like

        days = 24 if is_quick else 60
        config = SimulatorConfig(customers=25_000, terminals=50_000, days=days)
        write_handbook_like(self.place / "world.parquet", seed=0, **config.model_dump())
        world = pq.read_table(self.place / "world.parquet")
        if len(world) < _FILE_ROWS:
            raise SystemExit(f"the generator gave {len(world)} rows, {_FILE_ROWS} are wanted")
        self.new.parent.mkdir()
        pq.write_table(world.slice(len(world) - _FILE_ROWS).drop_columns(["is_fraud"]), self.new)
        config = SimulatorConfig(customers=150 if is_quick else 600, terminals=1_200, days=120)
        write_handbook_like(self.place / "train.parquet", seed=1, **config.model_dump())
        return world.slice(0, len(world) - _FILE_ROWS)

    def _train(self, recipe: Sequence[str], inputs: str) -> Path:
        bundle = self.place / f"bundle-{len(list(self.place.iterdir()))}"
        chosen = (f"features={inputs}", "alert_budget=0.005", "label_delay_days=7", "n_folds=1", "n_resamples=10")
        sets = [part for each in (*chosen, *recipe) for part in ("--set", each)]
        self.run("train", "--data", str(self.place / "train.parquet"), "--out", str(bundle), *sets)
        return bundle


def _files(bench: _Bench, *, is_quick: bool) -> dict[str, float]:
    """Print and return rows per CPU-second of each way from Parquet to Parquet."""
    repeats = 1 if is_quick else 5

    def scored(name: str = _CLAIMED, *, program: str = _COMMAND) -> float:
        with tempfile.TemporaryDirectory(dir=bench.place) as out:
            return bench.score(Path(out), name, program=program)

    def looking_back() -> float:
        journal = bench.keep_journal()
        try:
            return scored()
        finally:
            journal.unlink()

    runs: dict[str, Callable[[], float]] = {name: partial(scored, name) for name in bench.bundles}
    if not is_quick:
        runs[f"{_CLAIMED}, looking back on {len(bench.history):,} more"] = looking_back
        runs[f"{_CLAIMED}, trees by ONNX Runtime"] = partial(scored, program=_WITHOUT_KERNEL)
    runs["polars + LightGBM"] = partial(_by_hand, bench)
    # The first run compiles the kernels, which later processes find on the disk.
    scored()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            seconds[name].append(run())
    median = {name: statistics.median(values) for name, values in seconds.items()}
    rows = [(name, taken, min(seconds[name]), f"{_FILE_ROWS / taken:,.0f}") for name, taken in median.items()]
    print(f"{_FILE_ROWS:,} rows, Parquet to Parquet, the whole process; median of {repeats}\n")
    table(("how", "CPU-seconds", "least", "rows per CPU-second"), rows)
    return {name: _FILE_ROWS / taken for name, taken in median.items()}


def _by_hand(bench: _Bench) -> float:
    arguments = [str(bench.place / "train.parquet"), str(bench.new), str(bench.place / "by-hand.parquet")]
    command = [sys.executable, "-W", "ignore", "-c", _BY_HAND, *arguments]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _profile(bench: _Bench) -> None:
    """Print where the CPU time of one file goes, in this process and with the profiler's own share."""
    from quatrain.fintech.score.run import ScoreConfig, score

    os.environ["QUATRAIN_CORE__HOME"] = str(bench.place / "home")
    profile = cProfile.Profile(time.process_time)
    with tempfile.TemporaryDirectory(dir=bench.place) as out:
        os.environ["QUATRAIN_CORE__LEDGER"] = f"sqlite:///{out}/ledger.db"
        config = ScoreConfig(inputs=(bench.new,), bundle=str(bench.bundles[_CLAIMED]), out=Path(out))
        profile.enable()
        score(config)
        profile.disable()
        del os.environ["QUATRAIN_CORE__LEDGER"]
    stats: Any = pstats.Stats(profile)
    whole = stats.total_tt
    rows = [(label, _seconds_in(stats.stats, *where)) for label, *where in _STAGES]
    rows.append(
        ("everything else: start of Numba, ledger, reasons, this profiler", whole - sum(row[1] for row in rows))
    )
    print("Where the CPU time goes, imports apart\n")
    table(("stage", "CPU-seconds", "share"), [(label, taken, f"{taken / whole:.0%}") for label, taken in rows])


def _seconds_in(stats: dict[tuple[str, int, str], Sequence[Any]], file: str, function: str) -> float:
    """Return the seconds inside calls of a function, what they call included."""
    return float(sum(row[3] for (path, _, name), row in stats.items() if path.endswith(file) and name == function))


def _replay(bench: _Bench, n_rows: int) -> tuple[int, int, float]:
    """Print the latency of decisions; return how many differ from batch, how many scores do, and the p99 in ms."""
    from quatrain.fintech.decide import Decider
    from quatrain.fintech.features.transaction import transactions

    bench.keep_journal()
    with tempfile.TemporaryDirectory(dir=bench.place) as out:
        bench.score(Path(out))
        (path,) = (Path(out) / "scores").iterdir()
        batch = pq.read_table(path)
    rows = pq.read_table(bench.new)
    order = pa.compute.sort_indices(rows, [("timestamp", "ascending"), ("transaction_id", "ascending")]).slice(
        0, n_rows
    )
    began = time.perf_counter()
    decider = Decider(bench.bundles[_CLAIMED], has_reasons=False)
    print(f"online: {len(decider.features):,} past events taken in within {time.perf_counter() - began:.0f} s\n")
    is_alert, score = batch["is_alert"].take(order).to_numpy(), batch["score"].take(order).to_numpy()
    cpu_ns, wall_ns = np.empty(n_rows, dtype=np.int64), np.empty(n_rows, dtype=np.int64)
    n_decisions, n_scores = 0, 0
    # As a service would: the state makes no cycles, and looking for them takes longer than any decision.
    gc.disable()
    for i, transaction in enumerate(transactions(rows.take(order))):
        began_ns, wall_began_ns = time.thread_time_ns(), time.perf_counter_ns()
        decision = decider.decide(transaction)
        cpu_ns[i], wall_ns[i] = time.thread_time_ns() - began_ns, time.perf_counter_ns() - wall_began_ns
        n_decisions += decision.is_alert != is_alert[i]
        n_scores += decision.score != float(score[i])
    gc.enable()
    print(f"{n_rows:,} transactions decided one by one, {int(is_alert.sum()):,} alerts\n")
    measured = [
        (what, *(float(np.quantile(taken_ns, share)) / 1e3 for share in (0.5, 0.99, 0.999, 1)))
        for what, taken_ns in (("CPU time", cpu_ns), ("time passed", wall_ns))
    ]
    table(("one decision, us", "p50", "p99", "p99.9", "longest"), measured)
    return n_decisions, n_scores, float(np.quantile(cpu_ns, 0.99)) / 1e6


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
