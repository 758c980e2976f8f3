"""The inspection app from drawn parts to verdicts, for `quatrain demo`; everything in it is SYNTHETIC."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from quatrain.core.demo import DemoRow
from quatrain.core.errors import UserError
from quatrain.core.store import Store
from quatrain.industrial.simulation.parts import write_parts

_SEED = 7
_KIND = "disc"
_N_TRAIN, _N_GOOD, _N_BAD = 60, 40, 5
# Of 60 good parts 5 % is a promise, 2 % barely one.
_OVERKILL = 0.05
# One file is damaged on purpose, so that the quarantine has something to show.
_MAX_BAD_RATIO = 0.3
_SHOWN = ("image_auroc", "pixel_auroc", "aupro_30", "overkill", "escape")
_RESULTS = "results.json"


def demo(folder: Path) -> list[DemoRow]:
    """Return the results of an inspector of drawn discs, after it looked at a folder of new ones.

    Leaves a published model, verdicts and a quarantine in the configured home. A second call in
    the same folder trains and inspects nothing again.
    """
    from quatrain.industrial.score.run import ScoreConfig, score

    parts, incoming = folder / "parts", folder / "incoming"
    if not incoming.exists():
        _draw(parts, incoming)
    results = folder / _RESULTS
    if not _is_current(results):
        _train(parts, results)
    report = score(ScoreConfig(inputs=(incoming,), max_bad_ratio=_MAX_BAD_RATIO))
    if report.exit_code:
        raise UserError(f"inspecting the demo's parts ended as {report.status}: {report.error}")
    row = json.loads(results.read_text(encoding="utf-8"))["row"]
    shown = [name for name in _SHOWN if name in row["metrics"]]
    return [
        DemoRow(
            app="industrial",
            data=f"drawn {_KIND}s",
            model="quatrain",
            metrics={name: row["metrics"][name] for name in shown},
            intervals={name: tuple(row["intervals"][name]) for name in shown if name in row["intervals"]},
        )
    ]


def _draw(parts: Path, incoming: Path) -> None:
    """Draw the labelled parts, and a day's new ones from another seed in one folder, unlabelled."""
    for path in (parts, folder := incoming.with_name("new")):
        shutil.rmtree(path, ignore_errors=True)
    write_parts(parts, seed=_SEED, kind=_KIND, n_train=_N_TRAIN, n_good=_N_GOOD, n_bad=_N_BAD)
    write_parts(folder, seed=_SEED + 1, kind=_KIND, n_train=12, n_good=0, n_bad=1)
    part = incoming.with_name("incoming.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for number, image in enumerate(sorted(folder.rglob("train/**/*.png")) + sorted(folder.rglob("test/**/*.png"))):
        shutil.copyfile(image, part / f"part-{number:03d}.png")
    (part / "part-broken.png").write_bytes((part / "part-000.png").read_bytes()[:4000])
    shutil.rmtree(folder)
    # Renamed last: a demo that was cut short draws again.
    part.replace(incoming)


def _train(parts: Path, results: Path) -> None:
    from quatrain.industrial.evaluate.run import EvaluateConfig, evaluate
    from quatrain.industrial.train.config import TrainConfig
    from quatrain.industrial.train.run import train

    result = train(TrainConfig(data=str(parts), promote="yes", seed=_SEED, target_overkill=_OVERKILL, n_pasted=48))
    version: Any = result.to_dict()["version"]
    row = evaluate(EvaluateConfig(data=str(parts), bundle=version, n_resamples=200))["rows"][0]
    results.write_text(json.dumps({"version": version, "row": row}), encoding="utf-8")


def _is_current(results: Path) -> bool:
    """Return whether the demo's model is already in the store and in production."""
    if not results.exists():
        return False
    version = json.loads(results.read_text(encoding="utf-8"))["version"]
    store = Store()
    name = str(version).partition(":")[0]
    return name in store.names() and f"{name}:{store.aliases(name).get('prod')}" == version
