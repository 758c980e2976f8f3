"""The model that ships: the chosen recipe, calibrated on rows it had not seen, trained on all that was known."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quatrain.core import export
from quatrain.core.inference import open_session
from quatrain.fintech.features.row import DAY_US
from quatrain.fintech.metrics.scored import Floats, Ints
from quatrain.fintech.models.calibration import (
    Calibration,
    at_base_rate,
    base_rate_of,
    calibrated,
    fit_calibration,
)
from quatrain.fintech.models.recipe import Exported, NetworkRecipe, Recipe, fit
from quatrain.fintech.models.thresholds import AlertThreshold, threshold_from_unlabelled
from quatrain.fintech.train.config import TrainConfig
from quatrain.fintech.train.material import Material

_LOG = logging.getLogger(__name__)

Floats32 = NDArray[np.float32]
# Rows on which graph and model must agree before the graph is used, besides the frauds.
_PARITY_ROWS = 512
# Rows scored at a time.
_PREDICT_ROWS = 65_536
# Alerts among the rows that wait for their labels from which on a threshold is taken from them.
_LEAST_ALERTS = 20
OUTPUTS = ("probability", "low", "high", "score")


@dataclass(frozen=True, kw_only=True)
class Champion:
    """A trained recipe as a calibrated graph, with the threshold that keeps the alert budget."""

    recipe: Recipe | NetworkRecipe
    exported: Exported
    # The exported graph with calibration: outputs probability, low, high and score.
    onnx: bytes
    calibration: Calibration
    threshold: AlertThreshold
    # Scores of the validation rows by the recipe trained on what came before them.
    valid_score: Floats

    def predict(self, x: Floats32) -> dict[str, Floats32]:
        """Return the graph's outputs for each row."""
        session = open_session(self.onnx)
        starts = range(0, len(x), _PREDICT_ROWS)
        parts = [
            session.run(list(OUTPUTS), {"features": np.ascontiguousarray(x[i : i + _PREDICT_ROWS])}) for i in starts
        ]
        return {name: np.concatenate(arrays) for name, arrays in zip(OUTPUTS, zip(*parts, strict=True), strict=True)}


def make_champion(config: TrainConfig, material: Material, recipe: Recipe | NetworkRecipe) -> Champion:
    """Return the recipe trained on every label known before the test, and calibrated.

    Calibration comes from the latest matured rows as scored by a trial that had not seen them. The
    threshold comes from the rows that still wait for their labels: new to the final model, and a
    budget needs no labels; they also tell whether the share of frauds has changed. Where there are
    too few of them, both stay as the trial has them.
    """
    fold = material.latest_fold
    trial = fit(recipe, fold.x_train, fold.y_train, seed=config.seed)
    valid_score = trial.predict(fold.x_valid)
    valid_days = material.days(material.rows(material.split.valid))
    calibration = fit_calibration(valid_score.astype(np.float32), fold.y_valid, valid_days)
    final = fit(recipe, *material.known, seed=config.seed)
    exported = final.export()
    x, label = material.known
    rows = np.union1d(np.flatnonzero(label)[:_PARITY_ROWS], np.arange(0, len(x), max(len(x) // _PARITY_ROWS, 1)))
    expected = final.predict(x[rows]).astype(np.float32)
    worst = export.check_parity(exported.onnx, {"features": x[rows]}, {"probability": expected})
    _LOG.info("the graph differs by at most %.2g from the model", worst)
    champion = Champion(
        recipe=recipe,
        exported=exported,
        onnx=calibrated(exported.onnx, calibration),
        calibration=calibration,
        threshold=_threshold(config, valid_score.astype(np.float32), valid_days),
        valid_score=valid_score,
    )
    return _brought_up_to_date(config, material, champion)


def _brought_up_to_date(config: TrainConfig, material: Material, champion: Champion) -> Champion:
    """Return the champion with threshold and share of frauds as the rows that wait for their labels have them."""
    waiting = material.split.waiting
    n_rows = waiting.stop - waiting.start
    if config.alert_budget * n_rows < _LEAST_ALERTS:
        _LOG.info("the threshold is the trial's: only %d rows wait for their labels", n_rows)
        return champion
    score = champion.predict(material.x[waiting])["score"]
    calibration = champion.calibration
    base_rate = base_rate_of(calibration, score)
    # Scores that hardly tell frauds apart put the share at its limits, which no data has.
    if 0 < base_rate.rate < 1 and base_rate.excludes(calibration.base_rate):
        _LOG.info("the share of frauds went from %.4f to %.4f", calibration.base_rate, base_rate.rate)
        calibration = at_base_rate(calibration, base_rate.rate)
    days = np.asarray(material.labelled.timestamp_us[waiting] // DAY_US)
    return replace(
        champion,
        calibration=calibration,
        onnx=calibrated(champion.exported.onnx, calibration),
        threshold=_threshold(config, score, days),
    )


def _threshold(config: TrainConfig, score: Floats32, days: Ints) -> AlertThreshold:
    return threshold_from_unlabelled(score, days, budget=config.alert_budget)
