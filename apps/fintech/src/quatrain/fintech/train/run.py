"""From labelled transactions to a sealed, published model: `quatrain fintech train`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from quatrain.core import export
from quatrain.core.errors import UsageError
from quatrain.core.inference import open_session
from quatrain.core.tracking import Run, start_run
from quatrain.fintech.data.named import TASK
from quatrain.fintech.evaluate.protocol import Protocol, Row
from quatrain.fintech.evaluate.sealed import baseline_rows
from quatrain.fintech.train.candidates import Final, Trial, candidates_of, choose, try_out
from quatrain.fintech.train.config import TrainConfig
from quatrain.fintech.train.material import Material, prepare
from quatrain.fintech.train.report import REPORT, permutation_importance, write_report
from quatrain.fintech.train.sealing import decide, publish, seal_champion

if TYPE_CHECKING:
    from quatrain.core.bundle.open import Bundle
    from quatrain.core.store import Version

_LOG = logging.getLogger(__name__)
# Rows on which graph and model must agree before the graph is used, besides the frauds.
_PARITY_ROWS = 512


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A sealed model, its table and where it went."""

    bundle: Bundle
    version: Version | None
    rows: tuple[Row, ...]
    run_id: str

    def to_dict(self) -> dict[str, Any]:
        """Return what `train --json` prints."""
        return {
            "app": "fintech",
            "task": TASK,
            "bundle": str(self.bundle.path),
            "digest": self.bundle.digest,
            "version": self.version.reference if self.version else None,
            "run": self.run_id,
            "rows": [row.to_dict() for row in self.rows],
        }


def train(config: TrainConfig) -> TrainResult:
    """Return the champion, sealed, and published unless `config.out` says where to put it.

    Candidates are compared on validation rows only; the test rows are scored once, after every
    choice is made, by the exported graphs. Raises UsageError at once when `config.out` exists.
    """
    if config.out is not None and config.out.exists():
        raise UsageError(f"{config.out} exists already; give --out a new folder, or leave it out to publish the model")
    with start_run(app="fintech", command="train", config=config.model_dump(mode="json")) as run:
        material = prepare(config)
        trials = [try_out(c, material.train, material.valid, run=run) for c in candidates_of(config)]
        champion = choose(trials, material.valid[1], seed=config.seed)
        ordered = [champion, *(trial for trial in trials if trial is not champion)]
        _LOG.info("champion: %s", champion.candidate.name)
        finals = [_finish(trial, material) for trial in ordered]
        rows = _rows(config, material, ordered, finals)
        bundle = _seal(config, material, champion, finals[0], rows=rows, run=run)
        _report(config, material, champion, finals[0], rows=rows, run=run, bundle=bundle)
        # Last, so that whoever sees the version finds its report whole.
        version = None if config.out else publish(bundle, promote=config.promote)
        run.finish(metrics=rows[0].metrics, bundle=bundle.digest)
        return TrainResult(bundle=bundle, version=version, rows=tuple(rows), run_id=run.id)


def _finish(trial: Trial, material: Material) -> Final:
    """Return the candidate retrained on all rows before the test, with its graph's scores of the test."""
    fitted = trial.candidate.refit(material.past, length=trial.fitted.length)
    exported = fitted.export()
    x, label = material.past
    rows = np.union1d(np.flatnonzero(label)[:_PARITY_ROWS], np.arange(0, len(x), max(len(x) // _PARITY_ROWS, 1)))
    expected = fitted.predict(x[rows]).astype(np.float32)
    worst = export.check_parity(exported.onnx, {"features": x[rows]}, {"probability": expected})
    _LOG.info("%s: the graph differs by at most %.2g from the model", trial.candidate.name, worst)
    session = open_session(exported.onnx)
    answer = session.run(["probability"], {"features": np.ascontiguousarray(material.x[material.split.test])})[0]
    return Final(trial=trial, fitted=fitted, exported=exported, test_score=np.asarray(answer, dtype=np.float64))


def _rows(config: TrainConfig, material: Material, trials: Sequence[Trial], finals: Sequence[Final]) -> list[Row]:
    protocol = Protocol(
        alert_budget=config.alert_budget,
        cards_per_day=config.cards_per_day,
        n_resamples=config.n_resamples,
        seed=config.seed,
    )
    tests = [protocol.measure(f.name, "test", material.scored("test", f.test_score)) for f in finals]
    baselines = baseline_rows(material.labelled, material.x, material.split.test, protocol, split="test")
    valids = [protocol.measure(t.candidate.name, "valid", material.scored("valid", t.score)) for t in trials]
    return [*tests, *baselines, *valids]


def _seal(
    config: TrainConfig, material: Material, champion: Trial, final: Final, *, rows: Sequence[Row], run: Run
) -> Bundle:
    training = {
        "candidate": final.name,
        "settings": champion.candidate.settings.model_dump(mode="json"),
        "length": final.fitted.length,
        "seed": config.seed,
        "run": run.id,
    }
    return seal_champion(
        config.out or run.folder / "bundle",
        final=final,
        material=material,
        rows=rows,
        decision=decide(config, material, champion),
        training=training,
    )


def _report(
    config: TrainConfig,
    material: Material,
    champion: Trial,
    final: Final,
    *,
    rows: Sequence[Row],
    run: Run,
    bundle: Bundle,
) -> None:
    importance = permutation_importance(
        champion.fitted.predict, *material.valid, names=material.names, seed=config.seed
    )
    write_report(
        run.folder / REPORT,
        rows=rows,
        test=material.scored("test", final.test_score),
        importance=importance,
        champion=final.name,
        digest=bundle.digest,
        data=bundle.manifest.data,
        alert_budget=config.alert_budget,
        threshold=bundle.manifest.decision["threshold"],
    )
