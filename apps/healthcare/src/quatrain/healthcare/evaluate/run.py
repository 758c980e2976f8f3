"""`quatrain healthcare evaluate`: a sealed model on a split, baselines after it, and whether the site changed."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.inference import Model, load_model
from quatrain.healthcare.checks import Checks
from quatrain.healthcare.data.labelled import Labelled, Part
from quatrain.healthcare.data.named import TASK
from quatrain.healthcare.decision import NOT_FOR_DIAGNOSIS, Decision, fit_floors
from quatrain.healthcare.evaluate.answers import answer, pixels_for, set_for
from quatrain.healthcare.evaluate.config import EvaluateConfig
from quatrain.healthcare.evaluate.site_shift import site_shift
from quatrain.healthcare.evaluate.subgroups import audit
from quatrain.healthcare.metrics.measure import Row, measure
from quatrain.healthcare.models.outputs import PROBABILITY

_LOG = logging.getLogger(__name__)


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Return the table as JSON values: the model's row first, baselines after it."""
    model = load_model(config.bundle)
    decision = Decision.from_json(model.manifest.decision)
    data = set_for(model, config.data, seed=config.seed)
    part = data.part(config.split)
    warn_of_known_images(model, data, config.split)
    answers = answer(model, part)
    probability = answers[PROBABILITY]
    rows = [_row(model.reference, probability, part, decision, config)]
    if config.baselines:
        rows += baseline_rows(data, part, decision, config)
    shift = site_shift(
        model.manifest.decision["reference"],
        answers,
        n_permutations=config.n_permutations,
        alarm_p=config.alarm_p,
        seed=config.seed,
    )
    beyond = float((answers["distance"] > decision.distance_limit).mean())
    faults = Checks.from_json(model.manifest.decision["checks"]).faults(pixels_for(model, part.images))
    return {
        "app": "healthcare",
        "task": TASK,
        "note": NOT_FOR_DIAGNOSIS,
        "data": data.name,
        "split": config.split,
        "n": len(part),
        "is_synthetic": data.is_synthetic or bool(model.manifest.decision["is_synthetic"]),
        "rows": [row.to_dict() for row in rows],
        "site_shift": shift.to_dict()
        | {"beyond_distance_limit": beyond, "faulty_images": float(np.mean([bool(fault) for fault in faults]))},
        "groups": [row.to_dict() for row in audit(probability, part, decision, n_resamples=config.n_resamples)],
    }


def baseline_rows(data: Labelled, part: Part, decision: Decision, config: EvaluateConfig) -> list[Row]:
    """Return the baselines' rows: trained on the data's own training split, with sets of answers from it, too."""
    from quatrain.healthcare.models.baselines import BASELINES

    if "train" not in data.parts:
        _LOG.warning("%s has no training split, so there are no baselines beside the model", data.name)
        return []
    train = data.part("train")
    known = data.parts.get("val", train)
    rows = []
    for name, predict in BASELINES.items():
        of_known, of_part = (
            predict(train, images, kind=decision.kind, n_classes=len(decision.classes)) for images in (known, part)
        )
        floors = fit_floors(of_known, known.labels, kind=decision.kind, level=decision.level)
        rows.append(_row(name, of_part, part, replace(decision, threshold=0.5, floors=floors), config))
    return rows


def warn_of_known_images(model: Model, data: Labelled, split: str) -> None:
    """Warn where the model learned from these very images."""
    if split in {"train", "val"} and data.sha256 == model.manifest.data.get("sha256"):
        _LOG.warning(
            "%s was made with the %s images of %s: it looks better here than it is", model.reference, split, data.name
        )


def _row(
    name: str, probability: NDArray[np.floating[Any]], part: Part, decision: Decision, config: EvaluateConfig
) -> Row:
    return measure(
        name, config.split, probability, part.labels, decision, n_resamples=config.n_resamples, seed=config.seed
    )
