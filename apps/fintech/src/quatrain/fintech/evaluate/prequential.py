"""Fold after fold: train, wait until the labels are known, test on the days after; nothing is known too early.

The protocol of the fraud-detection handbook (Le Borgne et al. 2022, chapter 5.3). Whatever is
chosen is chosen once, on validation folds all of whose labels are known before the first test day.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.errors import BadDataError
from quatrain.core.inference import Model, load_model
from quatrain.fintech.data.columns import ColumnMap
from quatrain.fintech.data.named import TASK, NamedData, find_data
from quatrain.fintech.data.table import Labelled, load_labelled
from quatrain.fintech.evaluate.config import EvaluateConfig
from quatrain.fintech.evaluate.folds import Fold, Timeline
from quatrain.fintech.evaluate.leaks import find_leaks
from quatrain.fintech.evaluate.protocol import Protocol
from quatrain.fintech.evaluate.sealed import predict, sealed_delay_us, warn_of_known_rows
from quatrain.fintech.evaluate.windows import Plan, day_text, plan
from quatrain.fintech.features.build import build
from quatrain.fintech.features.names import History, extra_names, feature_names
from quatrain.fintech.features.row import DAY_US
from quatrain.fintech.metrics.alerts import threshold_for_budget
from quatrain.fintech.metrics.scored import Floats, Labels, Scored
from quatrain.fintech.models import recipe as recipes
from quatrain.fintech.models.baselines import BASELINES, FOREST
from quatrain.fintech.models.calibration import apply, fit_calibration

_LOG = logging.getLogger(__name__)
_BUDGET = 0.001
# A last day with a smaller share than this of the usual rows was cut short.
_PART_OF_A_DAY = 0.5
_NO_CARDS = (
    "no row names a customer: cards known to be compromised cannot be removed from the tests, "
    "and Card Precision is not defined"
)

X = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A model of the table: how it scores rows after learning from others."""

    name: str
    inputs: tuple[str, ...]
    x: X
    # (train inputs, train labels, inputs to score) -> (scores, probabilities).
    score: Callable[[X, Labels, X], tuple[Floats, Floats]]
    facts: dict[str, Any]
    # The score from which it alerts; None: set in each fold, on the rows that wait for their labels.
    threshold: float | None = None


@dataclass(frozen=True, kw_only=True)
class Material:
    """What every contender is measured on."""

    data: NamedData
    labelled: Labelled
    timeline: Timeline
    plan: Plan
    folds: tuple[Fold, ...]
    model: Model | None

    def inputs(self, history: History, *, delay_days: int) -> tuple[str, ...]:
        """Return the inputs that the columns allow, and of which the first train days hold a whole window."""
        first_us = int(self.labelled.timestamp_us[0])
        return feature_names(
            self.labelled.table.column_names,
            self.labelled.extras,
            span_us=self.plan.test[0].train_stop * DAY_US - first_us,
            label_delay_us=delay_days * DAY_US,
            history=history,
        )


def evaluate_folds(config: EvaluateConfig) -> dict[str, Any]:
    """Return the table as JSON values: the recipe or the sealed model first, then the baselines.

    A row's metrics are means over the folds; `intervals` come from resampling the test days of all
    folds; `differences` are taken from the random forest on the same days. Raises BadDataError for
    data that is too short, saying how many days are needed.
    """
    material = _material(config)
    notes = list(_notes(material))
    for note in notes:
        _LOG.warning(note)
    budget = config.alert_budget or _sealed_budget(material.model) or _BUDGET
    protocol = Protocol(
        alert_budget=budget,
        cards_per_day=config.cards_per_day,
        n_resamples=config.n_resamples,
        seed=config.seed,
        alerts_per_day=config.alerts_per_day,
        block_days=config.block_days,
    )
    scored, facts = {}, {}
    for contender in _contenders(config, material):
        scored[contender.name] = _scored(contender, material, budget=budget)
        facts[contender.name] = {"inputs": list(contender.inputs), **contender.facts}
    rows = [protocol.measure(name, "prequential", folds) for name, folds in scored.items()]
    return {
        "app": "fintech",
        "task": TASK,
        "data": material.data.name,
        "is_synthetic": material.labelled.is_synthetic or material.data.is_synthetic,
        "split": "prequential",
        "n": rows[0].n,
        "protocol": _protocol_facts(config, material, budget=budget),
        "notes": notes,
        "rows": [row.to_dict() for row in rows],
        "differences": list(_differences(protocol, scored)),
        "models": facts,
        "leaks": [leak.to_dict() for leak in find_leaks(material.labelled, seed=config.seed)],
    }


def _material(config: EvaluateConfig) -> Material:
    model = load_model(config.bundle) if config.bundle else None
    sealed = ColumnMap.model_validate(model.manifest.decision["columns"]) if model else None
    data = find_data(config.data, columns=config.columns, default=sealed)
    extras = extra_names(model.manifest.inputs[0].columns) if model else None
    labelled = load_labelled(data.path, data.mapping, extras=extras, max_bad_ratio=config.max_bad_ratio)
    if not len(labelled):
        raise BadDataError(f"{data.path.name} has no good row to learn from or to test on")
    timeline = Timeline(labelled, delay_days=config.shape.delay_days)
    days = plan(int(timeline.day[0]), int(timeline.day[-1]), config.shape, folds=config.n_folds, chooses=model is None)
    folds = tuple(timeline.fold(window) for window in days.test)
    for fold in folds:
        _LOG.info("fold %s", fold.to_dict())
    return Material(data=data, labelled=labelled, timeline=timeline, plan=days, folds=folds, model=model)


def _notes(material: Material) -> Iterator[str]:
    """Yield what a reader of the table should know."""
    if material.timeline.customer is None:
        yield _NO_CARDS
    n_rows = np.bincount(material.timeline.day - material.timeline.day[0])
    if n_rows[-1] < _PART_OF_A_DAY * np.median(n_rows):
        day = day_text(int(material.timeline.day[-1]))
        yield f"the last day, {day}, holds {n_rows[-1]:,} rows, fewer than half of the usual: was the export cut short?"


def _contenders(config: EvaluateConfig, material: Material) -> Iterator[Contender]:
    delay_days = config.shape.delay_days
    table = material.labelled.table
    if material.model:
        yield _sealed(material.model, material)
    names = material.inputs("standard", delay_days=delay_days)
    if not material.model and config.features == "full":
        full = material.inputs("full", delay_days=delay_days)
        x = build(table, full, label_delay_us=delay_days * DAY_US)
        yield _recipe("quatrain", full, x, config, material)
    x = build(table, names, label_delay_us=delay_days * DAY_US)
    if not material.model:
        yield _recipe("quatrain (standard features)", names, x, config, material)
    for name, fit_and_score in BASELINES.items():
        yield Contender(name=name, inputs=names, x=x, score=_as_it_is(fit_and_score), facts={})


def _recipe(name: str, names: tuple[str, ...], x: X, config: EvaluateConfig, material: Material) -> Contender:
    """Return the recipe: chosen on the validation folds, calibrated on the latest of them."""
    label = material.timeline.label
    valid = [fold for window in material.plan.valid if label[(fold := material.timeline.fold(window)).test].any()]
    if not valid:
        dates = material.plan.valid[0].to_dict()["test_from"], material.plan.valid[-1].to_dict()["test_to"]
        raise BadDataError(f"there are no frauds to choose on from {dates[0]} to {dates[1]}; give longer --test-days")
    day = material.timeline.day
    folds = [
        recipes.Fold(
            x_train=x[f.train], y_train=f.y_train, x_valid=x[f.test], y_valid=label[f.test], day_valid=day[f.test]
        )
        for f in valid
    ]
    chosen = recipes.choose(folds, config.recipe, seed=config.seed, names=names)

    def learned(x_train: X, y_train: Labels, rows: X) -> NDArray[np.float32]:
        return recipes.fit(chosen, x_train, y_train, seed=config.seed).predict(rows).astype(np.float32)

    last = folds[-1]
    latest = learned(last.x_train, last.y_train, last.x_valid)
    calibration = fit_calibration(latest, last.y_valid, day[valid[-1].test])

    def score(x_train: X, y_train: Labels, rows: X) -> tuple[Floats, Floats]:
        raw = learned(x_train, y_train, rows)
        return raw.astype(np.float64), apply(calibration, raw)["probability"].astype(np.float64)

    facts = {"recipe": chosen.summary(), "calibration": calibration.summary()}
    return Contender(name=name, inputs=names, x=x, score=score, facts=facts)


def _sealed(model: Model, material: Material) -> Contender:
    """Return a sealed model, which learns nothing more."""
    names = model.manifest.inputs[0].columns
    x = build(material.labelled.table, names, label_delay_us=sealed_delay_us(model))
    tested = np.concatenate([fold.test for fold in material.folds])
    warn_of_known_rows(model, material.labelled.timestamp_us[tested])

    def score(_x: X, _y: Labels, rows: X) -> tuple[Floats, Floats]:
        return predict(model, rows)

    return Contender(
        name=model.reference,
        inputs=tuple(names),
        x=x,
        score=score,
        facts={"digest": model.digest},
        threshold=float(model.manifest.decision["threshold"]),
    )


def _as_it_is(fit_and_score: Callable[[X, Labels, X], Floats]) -> Callable[[X, Labels, X], tuple[Floats, Floats]]:
    """Return a baseline whose scores are taken for probabilities."""

    def score(x_train: X, y_train: Labels, rows: X) -> tuple[Floats, Floats]:
        found = fit_and_score(x_train, y_train, rows)
        return found, found

    return score


def _scored(contender: Contender, material: Material, *, budget: float) -> list[Scored]:
    found = []
    for fold in material.folds:
        rows = np.concatenate([fold.waiting, fold.test])
        score, probability = contender.score(contender.x[fold.train], fold.y_train, contender.x[rows])
        waiting, test = np.split(score, [len(fold.waiting)])
        threshold = contender.threshold
        if threshold is None and len(waiting):
            threshold = threshold_for_budget(waiting, budget=budget)
        found.append(material.timeline.scored(fold, test, probability[len(waiting) :], threshold=threshold))
        _LOG.info("%s: tested from %s", contender.name, fold.to_dict()["test_from"])
    return found


def _differences(protocol: Protocol, scored: dict[str, list[Scored]]) -> Iterator[dict[str, Any]]:
    for name, folds in scored.items():
        if name != FOREST:
            found = protocol.compare(folds, scored[FOREST])
            yield {
                "name": name,
                "against": FOREST,
                "metrics": {measure: of.value for measure, of in found.items()},
                "intervals": {measure: (of.low, of.high) for measure, of in found.items()},
            }


def _protocol_facts(config: EvaluateConfig, material: Material, *, budget: float) -> dict[str, Any]:
    return {
        **vars(config.shape),
        "folds": [fold.to_dict() for fold in material.folds],
        "chosen_on": [window.to_dict() for window in material.plan.valid],
        "alert_budget": budget,
        "alerts_per_day": config.alerts_per_day,
        "cards_per_day": config.cards_per_day,
        "block_days": config.block_days,
        "n_resamples": config.n_resamples,
        "seed": config.seed,
    }


def _sealed_budget(model: Model | None) -> float | None:
    return float(model.manifest.decision["alert_budget"]) if model else None
