"""How long a fresh process takes to its first prediction, and `quatrain --help` to its last line.

A nightly job, a shell completion and a health probe all pay this. The model is 300 LightGBM trees
over 30 columns in a store of its own; importing ONNX Runtime alone, and torch, are measured beside it.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _report import claim, finish, parser, table

N_COLUMNS = 30
MODEL = "benchmark/cold-start"
PREDICT = f"""
import sys
import numpy as np
from quatrain.core import inference
model = inference.load_model({MODEL!r})
answer = model.predict(np.zeros((1, {N_COLUMNS}), dtype=np.float32))
assert answer["probability"].shape == (1,)
assert not {{"torch", "onnx", "sqlalchemy", "pandas"}} & set(sys.modules)
"""
COMMANDS = {
    "load_model -> predict": [sys.executable, "-c", PREDICT],
    "import numpy, onnxruntime": [sys.executable, "-c", "import numpy, onnxruntime"],
    "import torch": [sys.executable, "-c", "import torch"],
    "quatrain --help": [str(Path(sys.executable).with_name("quatrain")), "--help"],
}


def main() -> None:
    """Measure every command in fresh processes, interleaved, and report the medians."""
    arguments = parser(__doc__).parse_args()
    n_runs = 3 if arguments.quick else 11
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"QUATRAIN_CORE__HOME": home, "QUATRAIN_CORE__CACHE": f"{home}/cache"}
        os.environ |= environment
        publish(Path(home))
        measured = measure(n_runs, environment)
    rows = [
        (name, *(statistics.median(column) for column in zip(*runs, strict=True))) for name, runs in measured.items()
    ]
    table(("fresh process", "CPU s", "wall s"), rows)
    medians = {name: (cpu_s, wall_s) for name, cpu_s, wall_s in rows}
    finish(
        [
            claim("cold load_model -> predict, CPU-seconds", medians["load_model -> predict"][0], 0.6, at_least=False),
            claim("quatrain --help, wall seconds", medians["quatrain --help"][1], 1.0, at_least=False),
        ]
    )


def publish(home: Path) -> None:
    """Train the trees and publish them in the store of this benchmark's home."""
    import lightgbm as lgb

    from quatrain.core.bundle.manifest import TensorSpec
    from quatrain.core.bundle.seal import seal
    from quatrain.core.export import lightgbm_model
    from quatrain.core.store import Store

    rng = np.random.default_rng(0)
    features = rng.normal(size=(5000, N_COLUMNS)).astype(np.float32)
    labels = features[:, 0] + features[:, 1] * features[:, 2] + rng.normal(size=5000) > 1
    booster = lgb.train({"objective": "binary", "verbosity": -1, "seed": 0}, lgb.Dataset(features, labels), 300)
    golden = features[:16]
    bundle = seal(
        home / "bundle",
        name=MODEL,
        task="binary classification",
        onnx=lightgbm_model(booster),
        inputs=[TensorSpec(name="features", dtype="float32", shape=("batch", N_COLUMNS))],
        outputs=[TensorSpec(name="probability", dtype="float32", shape=("batch",), low=0.0, high=1.0)],
        golden_inputs={"features": golden},
        golden_outputs={"probability": np.asarray(booster.predict(golden)).astype(np.float32)},
        card="# Trees for the cold start benchmark\n",
    )
    Store().publish(bundle)


def measure(n_runs: int, environment: dict[str, str]) -> dict[str, list[tuple[float, float]]]:
    """Return (CPU seconds, wall seconds) of each run; a first round fills the file cache and is not counted."""
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for round_number in range(n_runs + 1):
        for name, command in COMMANDS.items():
            before, start = cpu_of_children(), time.perf_counter()
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
            if round_number:
                measured[name].append((cpu_of_children() - before, time.perf_counter() - start))
    return measured


def cpu_of_children() -> float:
    """Return the CPU seconds of every finished child so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
