"""One shape for every kind of model: train, score, retrain on more rows, export."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quatrain.core.tracking import Run
from quatrain.fintech.metrics.intervals import paired_difference
from quatrain.fintech.metrics.ranking import average_precision
from quatrain.fintech.metrics.scored import Floats, Labels
from quatrain.fintech.models import trees
from quatrain.fintech.models.perceptron_settings import PerceptronSettings
from quatrain.fintech.models.trees import TreeSettings
from quatrain.fintech.train.config import TrainConfig

_LOG = logging.getLogger(__name__)

X = NDArray[np.float32]
Rows = tuple[X, Labels]

# A challenger must win this share of paired resamples on both sides to replace the one before it.
_CHALLENGE_LEVEL = 0.8


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A trained model as a graph, with its weights by name where it has any."""

    onnx: bytes
    weights: Mapping[str, NDArray[Any]] | None = None


class Fitted(Protocol):
    """A trained model."""

    # Rounds or epochs that it was trained for.
    length: int

    def predict(self, x: X) -> Floats:
        """Return probabilities of fraud."""

    def export(self) -> Exported:
        """Return the model as ONNX: float32 features in, float32 probability out."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A candidate trained on the past of the validation rows, and its scores there."""

    candidate: Candidate
    fitted: Fitted
    score: Floats
    ap: float


@dataclass(frozen=True, kw_only=True)
class Final:
    """A trial's candidate retrained on all rows before the test, and its graph's scores of the test rows."""

    trial: Trial
    fitted: Fitted
    exported: Exported
    test_score: Floats

    @property
    def name(self) -> str:
        """The candidate's name."""
        return self.trial.candidate.name


def candidates_of(config: TrainConfig) -> Iterator[Candidate]:
    """Yield the candidates in the order of preference."""
    for name, settings in config.trees.items():
        yield TreeCandidate(name=name, settings=settings, seed=config.seed)
    if config.perceptron:
        yield PerceptronCandidate(settings=config.perceptron, seed=config.seed, device=config.device)


def try_out(candidate: Candidate, rows: Rows, valid: Rows, *, run: Run) -> Trial:
    """Return the candidate's trial."""
    fitted = candidate.fit(rows, valid, run=run)
    score = fitted.predict(valid[0])
    ap = average_precision(valid[1], score)
    _LOG.info("candidate %s: validation AP %.4f after %d rounds or epochs", candidate.name, ap, fitted.length)
    return Trial(candidate=candidate, fitted=fitted, score=score, ap=ap)


def choose(trials: list[Trial], label: Labels, *, seed: int) -> Trial:
    """Return the first trial, or a later one that is better beyond what resampling the validation rows explains.

    The plain maximum would follow the noise of a few dozen frauds.
    """
    best = trials[0]
    for trial in trials[1:]:
        low, _ = paired_difference(
            average_precision, label=label, first=trial.score, second=best.score, level=_CHALLENGE_LEVEL, seed=seed
        )
        if low > 0:
            best = trial
    return best


@dataclass(frozen=True, kw_only=True)
class TreeCandidate:
    """LightGBM with one set of settings."""

    name: str
    settings: TreeSettings
    seed: int
    kind: str = "lightgbm"

    def fit(self, rows: Rows, valid: Rows, *, run: Run | None) -> Fitted:
        """Return the averaged booster, its rounds chosen on `valid`."""
        del run
        booster, rounds = trees.grow(self.settings, *rows, seed=self.seed, valid=valid)
        return _Trees(booster, rounds)

    def refit(self, rows: Rows, *, length: int) -> Fitted:
        """Return the averaged booster of `length` rounds."""
        settings = self.settings.model_copy(update={"max_rounds": length})
        return _Trees(*trees.grow(settings, *rows, seed=self.seed))


@dataclass(frozen=True, kw_only=True)
class PerceptronCandidate:
    """The perceptron; torch is imported when it is trained."""

    settings: PerceptronSettings
    seed: int
    device: str
    name: str = "perceptron"
    kind: str = "mlp"

    def fit(self, rows: Rows, valid: Rows, *, run: Run | None) -> Fitted:
        """Return the perceptron of the best epoch on `valid`, its history recorded in the run."""
        return self._train(rows, self.settings, valid=valid, run=run)

    def refit(self, rows: Rows, *, length: int) -> Fitted:
        """Return the perceptron after `length` epochs."""
        return self._train(rows, self.settings.model_copy(update={"epochs": length}), valid=None, run=None)

    def _train(self, rows: Rows, settings: PerceptronSettings, *, valid: Rows | None, run: Run | None) -> Fitted:
        from quatrain.fintech.models import perceptron

        model, epochs = perceptron.train_perceptron(
            settings, *rows, seed=self.seed, valid=valid, run=run, device=self.device
        )
        return _Perceptron(model, epochs)


Candidate = TreeCandidate | PerceptronCandidate


class _Trees:
    def __init__(self, booster: Any, rounds: int) -> None:
        self._booster = booster
        self.length = rounds

    def predict(self, x: X) -> Floats:
        return trees.predict(self._booster, x)

    def export(self) -> Exported:
        from quatrain.core import export

        return Exported(onnx=export.lightgbm_model(self._booster))


class _Perceptron:
    def __init__(self, model: Any, epochs: int) -> None:
        self._model = model
        self.length = epochs

    def predict(self, x: X) -> Floats:
        from quatrain.fintech.models import perceptron

        return perceptron.predict(self._model, x)

    def export(self) -> Exported:
        import torch

        from quatrain.core import export
        from quatrain.fintech.models.perceptron import Probability

        n_features = len(self._model.centre)
        example = {"features": torch.zeros(2, n_features)}
        onnx = export.torch_model(Probability(self._model), example, output_names=["probability"])
        weights = {name: value.numpy() for name, value in self._model.state_dict().items()}
        return Exported(onnx=onnx, weights=weights)
