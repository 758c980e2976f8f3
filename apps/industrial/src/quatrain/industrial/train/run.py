"""From a folder of good parts to a sealed inspector: `quatrain industrial train`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from quatrain.core.data.catalogue import find
from quatrain.core.errors import BadDataError, UsageError
from quatrain.core.inference import open_session
from quatrain.core.tracking import start_run
from quatrain.industrial.data.layouts import Folder, read_folder
from quatrain.industrial.data.samples import select
from quatrain.industrial.decision import Rule, rule_for, suspects
from quatrain.industrial.features.pixels import PixelSpec, survey
from quatrain.industrial.metrics.intervals import clopper_pearson
from quatrain.industrial.models.extractor import Extractor, geometry_for
from quatrain.industrial.train.choice import Choice, choose, cross_scores
from quatrain.industrial.train.config import TASK, TrainConfig
from quatrain.industrial.train.graph import extractor_and_graph
from quatrain.industrial.train.material import MIN_PARTS, Material, gather, read_parts
from quatrain.industrial.train.sealing import Fitted, publish, seal_inspector

if TYPE_CHECKING:
    from quatrain.core.bundle.open import Bundle
    from quatrain.core.store import Version

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A sealed inspector, what it was measured at, and where it went."""

    bundle: Bundle
    version: Version | None
    run_id: str
    row: dict[str, Any]
    rule: Rule
    choice: Choice
    suspects: tuple[dict[str, Any], ...]
    unread: tuple[tuple[str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what `train --json` prints."""
        return {
            "app": "industrial",
            "task": TASK,
            "bundle": str(self.bundle.path),
            "digest": self.bundle.digest,
            "version": self.version.reference if self.version else None,
            "run": self.run_id,
            "promise": self.rule.promise.text(),
            "rule": self.rule.model_dump(mode="json"),
            "choice": self.choice.to_dict(),
            "suspects": list(self.suspects),
            "unread": [{"file": name, "reason": reason} for name, reason in self.unread],
            "rows": [self.row],
        }


def train(config: TrainConfig) -> TrainResult:
    """Return the inspector of these good parts, sealed, and published unless `config.out` says where to put it.

    Nothing but good parts is needed: the scorer is chosen on pasted defects, the thresholds come
    from scores of parts that the scorer had not seen. Raises UsageError at once when `config.out`
    exists, BadDataError for less than four readable parts.
    """
    if config.out is not None and config.out.exists():
        raise UsageError(f"{config.out} exists already; give --out a new folder, or leave it out to publish the model")
    with start_run(app="industrial", command="train", config=config.model_dump(mode="json")) as run, torch.no_grad():
        folder = read_folder(find(config.data), seed=config.seed)
        prepared = _prepare(config, folder)
        material, choice, scores, told = _without_suspects(config, prepared)
        rule = rule_for(scores, target=config.target_overkill)
        _LOG.info("%s", rule.promise.text())
        row = _row(choice, rule, scores)
        fitted = Fitted(
            extractor=prepared.extractor,
            extractor_onnx=prepared.onnx,
            head=choice.head(material.good),
            spec=prepared.spec,
            choice=choice,
            rule=rule,
            scores=scores,
            suspects=told,
        )
        bundle = seal_inspector(
            config.out or run.folder / "bundle",
            fitted=fitted,
            material=material,
            folder=folder,
            row=row,
            config=config,
            run_id=run.id,
        )
        version = None if config.out else publish(bundle, promote=config.promote)
        run.finish(metrics=row["metrics"], bundle=bundle.digest)
        return TrainResult(
            bundle=bundle,
            version=version,
            run_id=run.id,
            row=row,
            rule=rule,
            choice=choice,
            suspects=told,
            unread=material.unread,
        )


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    extractor: Extractor
    onnx: bytes
    spec: PixelSpec
    material: Material


def _prepare(config: TrainConfig, folder: Folder) -> _Prepared:
    """Return the good parts' features, taken by the very graph that will be sealed."""
    paths = _good_parts(config, folder)
    kept, images, unread = read_parts(paths)
    spec = survey(images)
    geometry = geometry_for(*spec.median_hw, side_px=config.side_px)
    extractor, onnx = extractor_and_graph(
        config.backbone, geometry, n_channels=spec.channels, full_scale=spec.full_scale, dtype=spec.dtype
    )
    material = gather(
        kept,
        images,
        unread,
        spec=spec,
        geometry=geometry,
        session=open_session(onnx),
        n_pasted=config.n_pasted,
        seed=config.seed,
    )
    return _Prepared(extractor=extractor, onnx=onnx, spec=spec, material=material)


def _good_parts(config: TrainConfig, folder: Folder) -> Sequence[Path]:
    samples = [*select(folder.samples, split="train", is_defective=False), *select(folder.samples, split="valid")]
    paths = [sample.path for sample in samples if sample.is_defective is False]
    if len(paths) < MIN_PARTS:
        raise BadDataError(
            f"{folder.path} ({folder.layout}) holds {len(paths)} good parts to train on, at least {MIN_PARTS} needed"
        )
    if len(paths) > config.max_parts:
        _LOG.warning("training on %d of %d good parts; raise max_parts for all", config.max_parts, len(paths))
        drawn = np.random.default_rng(config.seed).choice(len(paths), config.max_parts, replace=False)
        return [paths[place] for place in np.sort(drawn)]
    return paths


def _without_suspects(
    config: TrainConfig, prepared: _Prepared
) -> tuple[Material, Choice, NDArray[np.float64], tuple[dict[str, Any], ...]]:
    """Return material, choice and scores without the parts that stand out among the good ones, and which those were."""
    material = prepared.material
    choice = choose(material, scorer=config.scorer, seed=config.seed)
    scores = cross_scores(choice, material.good, seed=config.seed)
    found = suspects(scores)
    told = tuple({"file": material.paths[place].name, "score": float(scores[place])} for place in found)
    for suspect in told:
        _LOG.warning(
            "%s stands out among the good parts (score %.1f, usual is %.1f): look at it; it is %s",
            suspect["file"],
            suspect["score"],
            float(np.median(scores)),
            "left out" if config.suspects == "leave-out" else "trained on all the same",
        )
    if not found or config.suspects == "warn" or len(material.paths) - len(found) < MIN_PARTS:
        return material, choice, scores, told
    material = material.without(found)
    choice = choose(material, scorer=config.scorer, seed=config.seed)
    return material, choice, cross_scores(choice, material.good, seed=config.seed), told


def _row(choice: Choice, rule: Rule, scores: NDArray[np.float64]) -> dict[str, Any]:
    """Return the measures on parts that their scorer had not seen; the defects in them were pasted."""
    best = next(trial for trial in choice.trials if trial.names == choice.names)
    verdicts = rule.verdicts(scores)
    n_fail, n_review = verdicts.count("fail"), verdicts.count("review")
    return {
        "name": "quatrain",
        "split": "valid",
        "n": len(scores),
        "metrics": {
            "image_auroc": best.image_auroc,
            "pixel_auroc": best.pixel_auroc,
            "overkill": n_fail / len(scores),
            "review_good": n_review / len(scores),
        },
        "intervals": {
            "overkill": clopper_pearson(n_fail, len(scores)),
            "review_good": clopper_pearson(n_review, len(scores)),
        },
    }
