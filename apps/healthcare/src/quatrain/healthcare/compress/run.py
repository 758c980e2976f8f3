"""`quatrain healthcare compress`: int8 and other steps behind a gate on the area under the ROC curve."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quatrain.core.bundle.open import Bundle
from quatrain.core.compression.gate import Gate
from quatrain.core.compression.measures import Arrays, held_back
from quatrain.core.compression.plan import compress as run_plan
from quatrain.core.compression.planned import Materials
from quatrain.core.compression.plans import steps_of
from quatrain.core.compression.report import PlanReport
from quatrain.core.config import settings
from quatrain.core.inference import find_bundle, load_model
from quatrain.core.tracking import start_run
from quatrain.healthcare.compress.config import CompressConfig
from quatrain.healthcare.data.named import TASK
from quatrain.healthcare.decision import NOT_FOR_DIAGNOSIS, Decision
from quatrain.healthcare.evaluate.answers import pixels_for, set_for
from quatrain.healthcare.metrics.measure import mean_auc
from quatrain.healthcare.models.outputs import INPUT, PROBABILITY
from quatrain.healthcare.train.sealing import publish

if TYPE_CHECKING:
    from quatrain.core.store import Version

_LOG = logging.getLogger(__name__)
_PREDICT_ROWS = 256
_SHORT = 12


@dataclass(frozen=True, kw_only=True)
class CompressResult:
    """The report of every step, and the new bundle with its place where there is one."""

    report: PlanReport
    parent: Bundle
    bundle: Bundle | None
    version: Version | None
    folder: Path

    def told(self) -> str:
        """Return the table of all steps, and what came of them."""
        if self.bundle is None:
            return self.report.table()
        place = self.version.reference if self.version else self.bundle.path
        return f"{self.report.table()}sealed {place} (digest {self.bundle.digest[:_SHORT]})\n{NOT_FOR_DIAGNOSIS}\n"

    def to_dict(self) -> dict[str, Any]:
        """Return what `compress --json` prints."""
        return {
            "app": "healthcare",
            "task": TASK,
            "note": NOT_FOR_DIAGNOSIS,
            "parent": self.parent.digest,
            "bundle": str(self.bundle.path) if self.bundle else None,
            "digest": self.bundle.digest if self.bundle else None,
            "version": self.version.reference if self.version else None,
            "refusal": self.report.refusal,
            "folder": str(self.folder),
            "report": self.report.model_dump(mode="json"),
        }


def compress(config: CompressConfig) -> CompressResult:
    """Return the compressed model, sealed and, unless `config.out` is given, published; or why there is none.

    Thresholds, promised sets and checks stay as they were sealed: what is called must stay the same for 99.5 % of
    the images that it is measured on.
    """
    parent, _ = find_bundle(config.bundle)
    model = load_model(config.bundle)
    decision = Decision.from_json(model.manifest.decision)
    data = set_for(model, config.data, seed=config.seed)
    seen, unseen = data.part("train"), data.part(config.split)
    rows = np.random.default_rng(config.seed).permutation(len(seen))[: config.calibration_images]
    calibration = {INPUT: pixels_for(model, seen.images[rows])}
    folder = config.out or settings().home / "compressed" / "healthcare" / parent.digest[:_SHORT]
    gate = Gate(
        metric=lambda targets, scores: mean_auc(targets, scores) if scores.shape[1] > 1 else _area(targets, scores),
        metric_name="auc",
        metric_drop=config.metric_drop,
        min_speedup=config.min_speedup,
        label=lambda outputs: _called(decision, outputs),
        batch_size=config.batch_size,
        n_resamples=config.n_resamples,
        seed=config.seed,
    )
    evaluate = held_back(
        {INPUT: pixels_for(model, unseen.images)}, unseen.labels, output=PROBABILITY, batch_size=_PREDICT_ROWS
    )
    with start_run(app="healthcare", command="compress", config=config.model_dump(mode="json")) as run:
        steps = steps_of(config.plan, Materials(calibration=calibration))
        made = run_plan(parent, steps, gate=gate, evaluate=evaluate, folder=folder, overwrite=True)
        version = publish(made.bundle, promote=config.promote) if made.bundle and config.out is None else None
        run.finish(bundle=made.bundle.digest if made.bundle else None)
    return CompressResult(report=made.report, parent=parent, bundle=made.bundle, version=version, folder=folder)


def _area(targets: Any, scores: Any) -> float:
    return mean_auc((targets > 0).astype(np.int64)[:, None], scores)


def _called(decision: Decision, outputs: Arrays) -> Any:
    """Return what images are called, one number each."""
    named = decision.named(outputs[PROBABILITY])
    return named if named.ndim == 1 else named @ (1 << np.arange(named.shape[1]))
