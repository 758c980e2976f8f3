"""From labelled images to a sealed model: `quatrain healthcare train`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from quatrain.core.errors import BadDataError, UsageError
from quatrain.core.tracking import start_run
from quatrain.healthcare.checks import Checks
from quatrain.healthcare.data.duplicates import Duplicate, find_duplicates
from quatrain.healthcare.data.known_sets import known_set
from quatrain.healthcare.data.labelled import Labelled
from quatrain.healthcare.data.named import TASK, find_data
from quatrain.healthcare.decision import NOT_FOR_DIAGNOSIS, Decision, fit_floors
from quatrain.healthcare.evaluate.subgroups import audit
from quatrain.healthcare.metrics.measure import Row, measure
from quatrain.healthcare.models.outputs import DISTANCE, PROBABILITY
from quatrain.healthcare.train.checks_fitting import fit_checks
from quatrain.healthcare.train.config import TrainConfig
from quatrain.healthcare.train.fitting import Fitted, fit_model, known_rows
from quatrain.healthcare.train.sealing import model_name, publish, seal_model

if TYPE_CHECKING:
    from quatrain.core.bundle.open import Bundle
    from quatrain.core.store import Version

_LOG = logging.getLogger(__name__)
NAME = "quatrain"
# Balanced training puts even odds where both kinds of error are equally likely.
_THRESHOLD = 0.5
# Beyond so many pairs of pictures the search for near copies would take minutes.
_MAX_PAIRS = 400_000_000


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A sealed model, its table and where it went."""

    bundle: Bundle
    version: Version | None
    rows: tuple[Row, ...]
    run_id: str
    duplicates: tuple[Duplicate, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what `train --json` prints."""
        return {
            "app": "healthcare",
            "task": TASK,
            "note": NOT_FOR_DIAGNOSIS,
            "bundle": str(self.bundle.path),
            "digest": self.bundle.digest,
            "version": self.version.reference if self.version else None,
            "run": self.run_id,
            "copies_across_splits": len(self.duplicates),
            "rows": [row.to_dict() for row in self.rows],
        }


def train(config: TrainConfig) -> TrainResult:
    """Return the model, sealed, and published unless `config.out` says where to put it.

    The test split, if there is one, is measured once at the end and decides nothing. Raises UsageError at once when
    `config.out` exists, and BadDataError for a set without both kinds of label in train.
    """
    if config.out is not None and config.out.exists():
        raise UsageError(f"{config.out} exists already; give --out a new folder, or leave it out to publish the model")
    data = find_data(config.data, kind=config.kind, side=config.side, seed=config.seed)
    data = data.with_validation(share=config.val_share, seed=config.seed)
    _require_classes(data)
    duplicates = _duplicates(data)
    with start_run(app="healthcare", command="train", config=config.model_dump(mode="json")) as run:
        fitted = fit_model(data, config, run)
        decision = decide(fitted, data, config)
        rows = [
            measure(
                NAME,
                split,
                fitted.answer(data.part(split).images)[PROBABILITY],
                data.part(split).labels,
                decision,
                n_resamples=config.n_resamples,
                seed=config.seed,
            )
            for split in ("test", "val")
            if split in data.parts
        ]
        bundle = seal_model(
            config.out or run.folder / "bundle",
            name=model_name(config.name, data),
            fitted=fitted,
            data=data,
            decision=decision,
            checks=_checks(data, config),
            rows=rows,
            duplicates=duplicates,
            training={
                "model": fitted.settings.model_dump(mode="json"),
                "temperature": fitted.temperature,
                "n_views": config.n_views,
                "seed": config.seed,
                "run": run.id,
                "groups": _groups(fitted, data, decision, config),
            },
        )
        version = None if config.out else publish(bundle, promote=config.promote)
        run.finish(metrics=rows[0].metrics, bundle=bundle.digest)
        return TrainResult(
            bundle=bundle, version=version, rows=tuple(rows), run_id=run.id, duplicates=tuple(duplicates)
        )


def decide(fitted: Fitted, data: Labelled, config: TrainConfig) -> Decision:
    """Return thresholds, promised sets and the limit of distance, all from the validation split."""
    val = data.part("val")
    answers = fitted.answer(val.images)
    return Decision(
        kind=data.kind,
        classes=data.classes,
        threshold=_THRESHOLD,
        level=config.level,
        floors=fit_floors(answers[PROBABILITY], val.labels, kind=data.kind, level=config.level),
        distance_limit=float(np.quantile(answers[DISTANCE], 1 - config.false_alarms)),
        false_alarms=config.false_alarms,
    )


def _groups(fitted: Fitted, data: Labelled, decision: Decision, config: TrainConfig) -> list[dict[str, Any]]:
    """Return the subgroup audit of the split that measures: test if there is one."""
    part = data.parts.get("test", data.part("val"))
    if not part.groups:
        return []
    found = audit(fitted.answer(part.images)[PROBABILITY], part, decision, n_resamples=config.n_resamples)
    return [group.to_dict() for group in found]


def _checks(data: Labelled, config: TrainConfig) -> Checks:
    known = known_set(data.name)
    # What may be flipped up and down lies no way in particular.
    flips = config.flips if config.flips is not None else known.flips if known else ""
    return fit_checks(
        data.part("train").images,
        data.part("val").images,
        false_alarms=config.false_alarms,
        has_pose="v" not in flips,
        seed=config.seed,
    )


def _require_classes(data: Labelled) -> None:
    labels = known_rows(data.part("train").labels)
    if labels.ndim == 1 and len(np.unique(labels)) < 2:  # noqa: PLR2004 - a choice needs two
        raise BadDataError(f"{data.name}: every training image is of one class; a model needs two or more")


def _duplicates(data: Labelled) -> list[Duplicate]:
    sizes = [len(part) for part in data.parts.values()]
    if sum(sizes) ** 2 > _MAX_PAIRS:
        _LOG.warning("%d images are too many to look for copies across splits within minutes", sum(sizes))
        return []
    found = find_duplicates(data.parts)
    if found:
        _LOG.warning("%d images lie in two splits: results on them look better than they are", len(found))
    return found
