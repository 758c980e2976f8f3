"""`quatrain healthcare adapt`: probabilities, threshold and coverage of a new site, repaired with few of its labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.calibration.platt import fit_platt
from quatrain.core.calibration.temperature import fit_temperature, sigmoid, softmax
from quatrain.core.errors import UsageError
from quatrain.core.inference import Model, load_model
from quatrain.healthcare.data.labelled import UNKNOWN, Labels
from quatrain.healthcare.data.named import TASK
from quatrain.healthcare.decision import NOT_FOR_DIAGNOSIS, Decision, fit_floors
from quatrain.healthcare.evaluate.answers import answer, set_for
from quatrain.healthcare.evaluate.config import AdaptConfig
from quatrain.healthcare.evaluate.site_shift import site_shift
from quatrain.healthcare.metrics.measure import Row, measure
from quatrain.healthcare.models.outputs import LOGITS, PROBABILITY

if TYPE_CHECKING:
    from quatrain.core.bundle.open import Bundle

# Intervals within one repeat are not reported: how repeats differ says more.
_FEWEST_RESAMPLES = 2


@dataclass(frozen=True, kw_only=True)
class Repair:
    """Slope and offset on the sealed logits, and the decision that goes with them."""

    slope: float
    offset: NDArray[np.float64]
    decision: Decision

    def probability(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        """Return repaired probabilities."""
        scaled = self.slope * np.asarray(logits, np.float64) + self.offset
        return sigmoid(scaled) if self.decision.kind in {"binary", "multilabel"} else softmax(scaled)


def fit_repair(logits: NDArray[Any], labels: Labels, *, sealed: Decision, slope: float, config: AdaptConfig) -> Repair:
    """Return the repair that labelled cases of a site ask for.

    Of a binary set slope and offset move under normal priors around the sealed ones; of several findings each offset
    does; of more classes the temperature does, and offsets follow the classes' shares. Sets of answers take their
    floors from these cases, between neighbours, so that coverage is the level on average.
    """
    z = np.asarray(logits, np.float64) * slope
    if sealed.kind == "binary":
        platt = fit_platt(z[:, 0], labels, slope_sd=config.slope_sd, offset_sd=config.offset_sd)
        new_slope, offset = slope * platt.slope, np.array([platt.offset])
    elif sealed.kind == "multilabel":
        new_slope, offset = slope, np.array([_offset(z[:, k], labels[:, k], config) for k in range(z.shape[1])])
    else:
        counts = np.bincount(labels, minlength=z.shape[1]) + 1.0
        said = softmax(z).mean(0)
        offset = np.log(counts / counts.sum()) - np.log(said)
        warmer = fit_temperature(z + offset, labels, link="softmax")
        new_slope, offset = slope / warmer, offset / warmer
    repaired = Repair(slope=new_slope, offset=offset, decision=sealed)
    floors = fit_floors(repaired.probability(logits), labels, kind=sealed.kind, level=sealed.level, interpolate=True)
    return replace(repaired, decision=replace(sealed, threshold=0.5, floors=floors))


def adapt(config: AdaptConfig) -> dict[str, Any]:
    """Return measures before and after as JSON values: means over the draws, on the cases that were not drawn.

    `intervals` hold the middle 95 % of the draws. Writes a repaired bundle where `config.out` says so.
    """
    if config.out is not None and config.out.exists():
        raise UsageError(f"{config.out} exists already; give --out a new folder")
    model = load_model(config.bundle)
    sealed = Decision.from_json(model.manifest.decision)
    slope = float(model.manifest.decision["slope"])
    data = set_for(model, config.data, seed=config.seed)
    part = data.part(config.split)
    if len(part) < 2 * config.labels:
        raise UsageError(
            f"{data.name} has {len(part)} {config.split} images; {config.labels} labels leave too few to measure "
            f"with: give --labels {len(part) // 2} or fewer"
        )
    answers = answer(model, part)
    before, after, first = [], [], None
    for repeat in range(config.repeats):
        rng = np.random.default_rng([config.seed, repeat])
        order = rng.permutation(len(part))
        seen, rest = order[: config.labels], order[config.labels :]
        repair = fit_repair(answers[LOGITS][seen], part.labels[seen], sealed=sealed, slope=slope, config=config)
        first = first or repair
        labels = part.labels[rest]
        before.append(_measured(answers[PROBABILITY][rest], labels, sealed, config))
        after.append(_measured(repair.probability(answers[LOGITS][rest]), labels, repair.decision, config))
    shift = site_shift(
        model.manifest.decision["reference"], answers, n_permutations=config.n_permutations, seed=config.seed
    )
    bundle = _sealed(config.out, model, first, config) if config.out is not None and first is not None else None
    return {
        "app": "healthcare",
        "task": TASK,
        "note": NOT_FOR_DIAGNOSIS,
        "data": data.name,
        "split": config.split,
        "n": len(part) - config.labels,
        "labels": config.labels,
        "repeats": config.repeats,
        "rows": [_mean("after", config.split, after), _mean("before", config.split, before)],
        "site_shift": shift.to_dict(),
        "bundle": str(bundle.path) if bundle else None,
        "digest": bundle.digest if bundle else None,
    }


def _offset(z: NDArray[np.float64], labels: Labels, config: AdaptConfig) -> float:
    known = labels != UNKNOWN
    if not known.any():
        return 0.0
    # A slope held at 1 leaves the order of findings as it was sealed.
    return fit_platt(z[known], labels[known], slope_sd=1e-6, offset_sd=config.offset_sd).offset


def _measured(probability: NDArray[Any], labels: Labels, decision: Decision, config: AdaptConfig) -> dict[str, float]:
    row = measure("", config.split, probability, labels, decision, n_resamples=_FEWEST_RESAMPLES, seed=config.seed)
    return row.metrics


def _mean(name: str, split: str, repeats: list[dict[str, float]]) -> dict[str, Any]:
    names = [key for key in repeats[0] if all(key in each for each in repeats)]
    table = {key: np.array([each[key] for each in repeats]) for key in names}
    row = Row(
        name=name,
        split=split,
        n=len(repeats),
        metrics={key: float(values.mean()) for key, values in table.items()},
        intervals={key: (float(np.quantile(v, 0.025)), float(np.quantile(v, 0.975))) for key, v in table.items()},
    )
    return row.to_dict()


def _sealed(path: Path, model: Model, repair: Repair, config: AdaptConfig) -> Bundle:
    from quatrain.healthcare.train.repaired import seal_repaired

    return seal_repaired(path, config.bundle, model=model, repair=repair, n_labels=config.labels, data=config.data)
