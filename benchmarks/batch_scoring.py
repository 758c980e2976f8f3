"""How many rows a CPU-second scores, Parquet to Parquet: the real job beside pandas + scikit-learn.

Quatrain runs `quatrain fintech score` as cron does: validation of every row, ledger, alerts with
reasons, atomic outputs. The baseline is what one would write by hand: pandas reads the file, a
fitted scikit-learn pipeline or LightGBM's own predict scores it, pandas writes it; it checks
nothing. Quatrain's CPU seconds are those of the whole process, imports and model loading included;
the baseline's are those of reading, predicting and writing alone. Median of interleaved repeats.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
from _report import claim, finish, parser, table

_TRAIN_ROWS = 50_000
_MODEL = "LightGBM, 300 trees of 31 leaves"
# Of a fixed size, so that the figures do not depend on where training stopped; the inputs are those of the baselines.
_SETTINGS = (
    'recipe.trees={"large" = {max_rounds = 300, step = 300, n_seeds = 1, num_leaves = 31, min_child_samples = 20}}',
    "features=none",
    "n_folds=1",
)
_BASELINE = """
import sys
import numpy, pandas
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

def matrix(frame):
    amount, at = frame["amount"], frame["timestamp"].dt
    return numpy.column_stack([amount, numpy.log1p(amount), at.hour, at.day_of_week, at.day_of_week >= 5])

kind, history, source, target = sys.argv[1:]
model = {
    "logistic regression": make_pipeline(StandardScaler(), LogisticRegression()),
    "random forest": RandomForestClassifier(100, min_samples_leaf=20, random_state=0),
    "histogram boosting": HistGradientBoostingClassifier(max_iter=300, early_stopping=False, random_state=0),
}[kind]
past = pandas.read_parquet(history)
model.fit(matrix(past), past["is_fraud"])
import resource
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
began = cpu()
frame = pandas.read_parquet(source)
frame["score"] = model.predict_proba(matrix(frame))[:, 1]
frame[["transaction_id", "timestamp", "score"]].to_parquet(target)
print(cpu() - began)
"""


def main() -> None:
    """Measure and print the claims."""
    arguments = parser(__doc__)
    arguments.add_argument("--rows", type=int, default=None, help="Rows of the file to score.")
    options = arguments.parse_args()
    n_rows = options.rows or (500_000 if options.quick else 1_000_000)
    repeats = 1 if options.quick else 5
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _prepare(place, n_rows)
        _train(place)
        results = _measure(place, repeats)
    speeds = {name: n_rows / seconds for name, seconds in results.items()}
    best = max(speed for name, speed in speeds.items() if name.startswith("pandas"))
    rows = [(name, results[name], f"{speed:,.0f}", speed / best) for name, speed in speeds.items()]
    print(f"{n_rows:,} rows, Parquet to Parquet, median of {repeats}\n")
    table(("how", "CPU-seconds", "rows per CPU-second", "x the best baseline"), rows)
    ours = f"Quatrain, {_MODEL}"
    finish([claim(f"{ours}: rows per CPU-second", speeds[ours], 80_000, at_least=True)])


def _measure(place: Path, repeats: int) -> dict[str, float]:
    baselines = ("logistic regression", "random forest", "histogram boosting")
    runs: dict[str, Callable[[], float]] = {
        f"Quatrain, {_MODEL}": _quatrain(place),
        **{f"pandas + sklearn, {kind}": _baseline(place, kind) for kind in baselines},
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            seconds[name].append(run())
    return {name: statistics.median(values) for name, values in seconds.items()}


def _prepare(place: Path, n_rows: int) -> None:
    """Write `history.parquet` (labelled) and `new/day.parquet` with SYNTHETIC transactions."""
    _generate(place / "history.parquet", n_rows=_TRAIN_ROWS, seed=1, labelled=True)
    (place / "new").mkdir()
    _generate(place / "new" / "day.parquet", n_rows=n_rows, seed=0, labelled=False)


def _generate(path: Path, *, n_rows: int, seed: int, labelled: bool) -> None:
    from quatrain.fintech.simulation.handbook import SimulatorConfig, write_handbook_like

    # A customer makes two transactions a day on average; a third more days make sure there are enough rows.
    config = SimulatorConfig(customers=n_rows // 50, terminals=n_rows // 25, days=34)
    write_handbook_like(path, seed=seed, **config.model_dump())
    rows = pq.read_table(path).slice(0, n_rows)
    if rows.num_rows < n_rows:
        raise SystemExit(f"the generator gave {rows.num_rows} rows, {n_rows} are wanted")
    pq.write_table(rows if labelled else rows.drop_columns(["is_fraud"]), path)


def _train(place: Path) -> None:
    settings = [word for setting in _SETTINGS for word in ("--set", setting)]
    _run(place, "train", "--data", str(place / "history.parquet"), "--out", str(place / "model"), *settings)


def _quatrain(place: Path) -> Callable[[], float]:
    def run() -> float:
        before = _children_cpu()
        with tempfile.TemporaryDirectory(dir=place) as out:
            new, bundle = str(place / "new"), str(place / "model")
            _run(place, "score", "--data", new, "--bundle", bundle, "--out", out, ledger=f"sqlite:///{out}/ledger.db")
        return _children_cpu() - before

    return run


def _run(place: Path, *arguments: str, ledger: str = "") -> None:
    command = [sys.executable, "-c", "from quatrain.core.cli.main import main; main()", "fintech", *arguments, "-q"]
    environment = {**os.environ, "QUATRAIN_CORE__HOME": str(place / "home"), "QUATRAIN_CORE__LEDGER": ledger}
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def _baseline(place: Path, kind: str) -> Callable[[], float]:
    def run() -> float:
        target = place / "baseline.parquet"
        arguments = [kind, str(place / "history.parquet"), str(place / "new" / "day.parquet"), str(target)]
        done = subprocess.run(
            [sys.executable, "-c", _BASELINE, *arguments], check=True, stdout=subprocess.PIPE, text=True
        )
        return float(done.stdout)

    return run


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
