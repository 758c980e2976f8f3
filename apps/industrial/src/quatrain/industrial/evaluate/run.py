"""`quatrain industrial evaluate`: a sealed inspector on labelled parts it has not seen."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from quatrain.core.config import Config
from quatrain.core.data.catalogue import find
from quatrain.core.errors import BadDataError
from quatrain.core.images import read_image
from quatrain.core.inference import load_model
from quatrain.industrial.data.layouts import read_folder
from quatrain.industrial.data.samples import Sample, mask_of, select
from quatrain.industrial.evaluate.kept import Evaluated, keep
from quatrain.industrial.metrics.intervals import bootstrap, clopper_pearson
from quatrain.industrial.metrics.pixels import PixelTally
from quatrain.industrial.metrics.ranking import auroc
from quatrain.industrial.score.inspect import Inspection, Inspector, enlarged

_LOG = logging.getLogger(__name__)
TASK = "anomaly"
_PROD = "industrial/surface@prod"
_MIN_OF_KIND = 2


class EvaluateConfig(Config):
    """Which model, on which parts: the `[industrial.evaluate]` section."""

    data: str
    bundle: str = _PROD
    seed: int = Field(default=0, ge=0)
    n_resamples: int = Field(default=500, ge=10)


@dataclass(frozen=True)
class _Seen:
    """The images that the inspector took, and those that it refused."""

    samples: list[Sample]
    found: list[Inspection]
    refused: list[tuple[str, str]]


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Return the table as JSON values: the model's row, one row per kind of defect, and what was refused.

    `overkill` is the share of good parts that fail, `escape` that of bad parts that pass;
    `review_good` and `review_bad` go to a person, `escape_unreviewed` counts bad ones there, too.
    Raises BadDataError unless the test holds good and bad parts.
    """
    folder = read_folder(find(config.data), seed=config.seed)
    samples = [sample for sample in select(folder.samples, split="test") if sample.is_defective is not None]
    if len({sample.is_defective for sample in samples}) < _MIN_OF_KIND:
        raise BadDataError(
            f"{folder.path} ({folder.layout}) has {len(samples)} labelled parts in its test, expected good and bad ones"
        )
    inspector = Inspector(load_model(config.bundle))
    seen = _inspect(inspector, samples)
    is_bad = np.array([sample.is_defective for sample in seen.samples], dtype=np.bool_)
    score = np.array([one.score for one in seen.found])
    row = _row(inspector.model.reference, seen, is_bad, score, config)
    keep(
        Evaluated(
            data=folder.path.name,
            kinds=tuple(str(sample.kind) for sample in seen.samples),
            scores=tuple(score.tolist()),
        ),
        digest=inspector.model.digest,
    )
    return {
        "app": "industrial",
        "task": TASK,
        "data": folder.path.name,
        "layout": folder.layout,
        "split": "test",
        "n": len(seen.samples),
        "promise": inspector.rule.promise.text(),
        "rows": [row, *_rows_of_kinds(inspector.model.reference, seen, is_bad, score)],
        "refused": [{"file": name, "reason": reason} for name, reason in seen.refused],
    }


def _inspect(inspector: Inspector, samples: Sequence[Sample]) -> _Seen:
    seen = _Seen([], [], [])
    for sample in samples:
        try:
            found = inspector.inspect(read_image(sample.path), name=sample.path.name)
        except BadDataError as error:
            seen.refused.append((sample.path.name, str(error)))
            _LOG.warning("not measured: %s", error)
            continue
        seen.samples.append(sample)
        seen.found.append(found)
    if len({sample.is_defective for sample in seen.samples}) < _MIN_OF_KIND:
        raise BadDataError(
            f"of {len(samples)} parts the model takes {len(seen.samples)}, too few to measure; "
            f"the first refusal: {seen.refused[0][1] if seen.refused else 'none'}"
        )
    return seen


def _row(
    name: str, seen: _Seen, is_bad: NDArray[np.bool_], score: NDArray[np.float64], config: EvaluateConfig
) -> dict[str, Any]:
    metrics = {"image_auroc": auroc(is_bad, score)} | _pixel_measures(seen)
    intervals = {"image_auroc": bootstrap(auroc, is_bad, score, n_resamples=config.n_resamples, seed=config.seed)}
    verdict = np.array([one.verdict for one in seen.found])
    shares = {
        "overkill": verdict[~is_bad] == "fail",
        "escape": verdict[is_bad] == "pass",
        "review_good": verdict[~is_bad] == "review",
        "review_bad": verdict[is_bad] == "review",
        "escape_unreviewed": verdict[is_bad] != "fail",
    }
    for measure, hits in shares.items():
        metrics[measure] = float(hits.mean())
        intervals[measure] = clopper_pearson(int(hits.sum()), len(hits))
    return _json_row(name, "test", len(score), metrics, intervals)


def _rows_of_kinds(
    name: str, seen: _Seen, is_bad: NDArray[np.bool_], score: NDArray[np.float64]
) -> list[dict[str, Any]]:
    kinds = np.array([sample.kind for sample in seen.samples])
    verdict = np.array([one.verdict for one in seen.found])
    rows = []
    for kind in sorted(set(kinds[is_bad].tolist())):
        of_kind = kinds == kind
        told = of_kind | ~is_bad
        passed = verdict[of_kind] == "pass"
        metrics = {"image_auroc": auroc(is_bad[told], score[told]), "escape": float(passed.mean())}
        intervals = {"escape": clopper_pearson(int(passed.sum()), len(passed))}
        rows.append(_json_row(f"{name} on {kind}", f"test {kind}", int(of_kind.sum()), metrics, intervals))
    return rows


def _pixel_measures(seen: _Seen) -> dict[str, float]:
    """Return pixel AUROC and AUPRO over the images whose every pixel has a label; nothing where no mask is."""
    marked = [(sample, one) for sample, one in zip(seen.samples, seen.found, strict=True) if sample.has_mask]
    if not any(sample.masks for sample, _ in marked):
        return {}
    tally = PixelTally(np.concatenate([one.map.ravel() for _, one in marked]))
    for sample, one in marked:
        tally.add(enlarged(one.map, one.shape_hw), mask_of(sample, one.shape_hw))
    return {"pixel_auroc": tally.auroc(), "aupro_30": tally.aupro(limit=0.3)}


def _json_row(
    name: str, split: str, n: int, metrics: dict[str, float], intervals: dict[str, tuple[float, float]]
) -> dict[str, Any]:
    return {"name": name, "split": split, "n": n, "metrics": metrics, "intervals": intervals}
