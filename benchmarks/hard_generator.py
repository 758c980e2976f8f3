"""How fast the harder world is made, and how hard it is: one LightGBM on three sets of inputs, recall by type of fraud.

Train 28 days, delay 7, test 7: a label counts in training only if it was known when the test began, and cards known as
compromised by then leave the test. The same small LightGBM for all inputs, nothing tuned. SYNTHETIC data: the figures
say what windows can see in this world, not how a model does on real fraud. --quick makes a quarter of the world and
one fold.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _report import claim, finish, parser, table
from numpy.typing import NDArray

from quatrain.fintech.data.arrays import to_numpy
from quatrain.fintech.data.kernels import mask, numbers, pc
from quatrain.fintech.features.build import build
from quatrain.fintech.features.names import History, feature_names
from quatrain.fintech.metrics.ranking import average_precision
from quatrain.fintech.simulation.config import HardConfig
from quatrain.fintech.simulation.events import FRAUD_TYPES
from quatrain.fintech.simulation.handbook import SimulatorConfig, write_handbook_like
from quatrain.fintech.simulation.hard import write_card_fraud_hard

_DAY_US = 86_400_000_000
_TRAIN, _DELAY, _TEST = 28, 7, 7
# Days between the beginnings of two test windows.
_STEP = 14
# Alerts per transaction.
_BUDGET = 0.005
_INPUTS: tuple[History, ...] = ("none", "standard", "full")
_TREES = {
    "objective": "binary",
    "learning_rate": 0.06,
    "num_leaves": 31,
    "min_data_in_leaf": 60,
    "feature_fraction": 0.5,
    "lambda_l2": 5.0,
    "verbosity": -1,
    "num_threads": 1,
    "deterministic": True,
    "seed": 0,
}
_ROUNDS = 140

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _World:
    """The file as a table, and what each row is in truth."""

    rows: pa.Table
    truth: pa.Table
    # Days since the first midnight, whether it has a label, whether that is fraud, and the day it became known.
    day: NDArray[np.float64]
    has_label: NDArray[np.bool_]
    label: NDArray[np.bool_]
    known_day: NDArray[np.float64]
    customer: NDArray[np.int64]


def main() -> None:
    """Time both generators, print the accuracy tables and the claims."""
    arguments = parser(__doc__)
    arguments.add_argument("--folds", type=int, default=3, help="Test weeks, the last ones of the span.")
    arguments.add_argument("--seed", type=int, default=0, help="Seed of the world.")
    options = arguments.parse_args()
    scale = 4 if options.quick else 1
    hard = HardConfig(customers=12_000 // scale)
    handbook = SimulatorConfig(customers=5_000 // scale)
    with tempfile.TemporaryDirectory() as folder:
        path, truth = Path(folder) / "hard.parquet", Path(folder) / "truth.parquet"
        speeds = {
            "handbook": _rows_per_s(
                lambda target: write_handbook_like(target, seed=options.seed, **handbook.model_dump()), path
            ),
            "hard": _rows_per_s(
                lambda target: write_card_fraud_hard(target, seed=options.seed, **hard.model_dump()), path
            ),
        }
        write_card_fraud_hard(path, seed=options.seed, truth=truth, **hard.model_dump())
        world = _read(path, truth)
    table(("generator", "rows per CPU-second, file written"), list(speeds.items()))
    ap = _accuracy(world, n_folds=1 if options.quick else options.folds)
    claims = [
        claim("hard: rows per CPU-second", speeds["hard"], 1e6 / 3, at_least=True),
        claim("AP with the handbook's windows above the row alone", ap["standard"] - ap["none"], 0, at_least=True),
        claim("AP with all windows above the handbook's", ap["full"] - ap["standard"], 0, at_least=True),
    ]
    if not options.quick:
        claims.append(claim("AP with all windows, not hopeless", ap["full"], 0.3, at_least=True))
        claims.append(claim("AP with all windows, not solved", ap["full"], 0.7, at_least=False))
    finish(claims)


def _rows_per_s(write: Callable[[Path], None], path: Path) -> float:
    started = time.process_time()
    write(path)
    return pq.read_metadata(path).num_rows / (time.process_time() - started)


def _read(path: Path, truth: Path) -> _World:
    rows = pq.read_table(path).combine_chunks()
    at_us = to_numpy(rows["timestamp"].cast(pa.int64()))
    midnight = at_us[0] // _DAY_US * _DAY_US
    label = rows["is_fraud"].combine_chunks()
    known = rows["labelled_at"].combine_chunks().cast(pa.int64())
    codes = pc.dictionary_encode(rows["customer_id"].combine_chunks()).indices
    return _World(
        rows=rows,
        truth=pq.read_table(truth),
        day=(at_us - midnight) / _DAY_US,
        has_label=mask(pc.is_valid(label)),
        label=mask(pc.fill_null(label, False)),
        known_day=np.where(mask(pc.is_valid(known)), (numbers(known) - midnight) / _DAY_US, np.inf),
        customer=to_numpy(codes).astype(np.int64),
    )


def _accuracy(world: _World, *, n_folds: int) -> dict[str, float]:
    """Print AP, and recall by type at the alert budget, for each set of inputs; return the mean AP."""
    span_us = int((world.day[-1] - world.day[0]) * _DAY_US)
    kind = np.array(world.truth["fraud_type"].to_pylist())
    n_days = int(np.ceil(world.day[-1]))
    starts = [n_days - _TEST - _STEP * fold for fold in range(n_folds)]
    ap: dict[str, list[float]] = {}
    recalls: dict[str, list[dict[str, float]]] = {}
    for inputs in _INPUTS:
        names = feature_names(world.rows.column_names, (), span_us=span_us, history=inputs)
        x = build(world.rows, names)
        for start in starts:
            test, score = _test(world, x, start)
            ap.setdefault(inputs, []).append(average_precision(world.label[test], score))
            alerts = np.argsort(-score, kind="stable")[: int(_BUDGET * len(test))]
            is_alert = np.zeros(len(test), dtype=bool)
            is_alert[alerts] = True
            found = {name: is_alert[kind[test] == name] for name in FRAUD_TYPES[1:]}
            found["all labelled"] = is_alert[world.label[test]]
            recalls.setdefault(inputs, []).append({name: float(hit.mean()) for name, hit in found.items() if len(hit)})
    header = ("", *_INPUTS)
    table(
        header, [(f"AP, test from day {start}", *(ap[i][fold] for i in _INPUTS)) for fold, start in enumerate(starts)]
    )
    table(
        (f"recall at {_BUDGET:.1%} alerts", *_INPUTS),
        [(name, *(_mean(recalls[inputs], name) for inputs in _INPUTS)) for name in ("all labelled", *FRAUD_TYPES[1:])],
    )
    return {inputs: float(np.mean(values)) for inputs, values in ap.items()}


def _test(world: _World, x: NDArray[np.float32], start: int) -> tuple[NDArray[np.int64], Floats]:
    """Return (test rows, their scores) of a model trained on what was known when the test began."""
    is_known = world.label & (world.known_day <= start)
    is_recent = world.day >= start - _DELAY - _TRAIN
    train = np.flatnonzero(world.has_label & is_recent & (world.day < start - _DELAY))
    compromised = np.unique(world.customer[is_known & is_recent & (world.day < start)])
    is_test = world.has_label & (world.day >= start) & (world.day < start + _TEST)
    test = np.flatnonzero(is_test & ~np.isin(world.customer, compromised))
    model = lightgbm.train(_TREES, lightgbm.Dataset(x[train], label=is_known[train]), num_boost_round=_ROUNDS)
    return test, np.asarray(model.predict(x[test]), dtype=np.float64)


def _mean(folds: list[dict[str, float]], name: str) -> float:
    found = [fold[name] for fold in folds if name in fold]
    return float(np.mean(found)) if found else float("nan")


if __name__ == "__main__":
    main()
