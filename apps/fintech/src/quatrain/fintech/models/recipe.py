"""The recipe of the shipped model: chosen on validation folds only, then trained wherever it is needed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core import export
from quatrain.fintech.metrics.ranking import average_precision
from quatrain.fintech.metrics.scored import Floats, Labels
from quatrain.fintech.models import trees
from quatrain.fintech.models.recipe_settings import RecipeSettings
from quatrain.fintech.models.trees import TreeSettings

if TYPE_CHECKING:
    import lightgbm

_LOG = logging.getLogger(__name__)

X = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Rows to learn from, and later ones to be compared on."""

    x_train: X
    y_train: Labels
    x_valid: X
    y_valid: Labels


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A trained model as a graph, with its weights by name where it has any."""

    onnx: bytes
    weights: Mapping[str, NDArray[Any]] | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What was chosen: settings with the number of rounds in them."""

    name: str
    settings: TreeSettings
    # Mean average precision over the folds of every candidate.
    valid_ap: Mapping[str, float]

    def summary(self) -> dict[str, Any]:
        """Return what a manifest, a card or a report says of it."""
        return {"trees": self.name, **self.settings.model_dump(mode="json"), "valid_ap": dict(self.valid_ap)}


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """A trained recipe."""

    booster: lightgbm.Booster

    def predict(self, x: X) -> Floats:
        """Return the score of each row, float64 of shape (n,), in [0, 1]."""
        return trees.predict(self.booster, x)

    def export(self) -> Exported:
        """Return the model as one graph: float32 features in, float32 probability out."""
        return Exported(onnx=export.lightgbm_model(self.booster))


def choose(folds: Sequence[Fold], settings: RecipeSettings, *, seed: int) -> Recipe:
    """Return the way of growing trees with the highest mean average precision over the folds, and its rounds."""
    if not folds:
        raise ValueError("choosing a recipe needs at least one fold")
    valid_ap: dict[str, float] = {}
    recipes: dict[str, TreeSettings] = {}
    for name, candidate in settings.trees.items():
        grown = [trees.grow(candidate, f.x_train, f.y_train, seed=seed, valid=(f.x_valid, f.y_valid)) for f in folds]
        scores = [trees.predict(booster, f.x_valid) for (booster, _), f in zip(grown, folds, strict=True)]
        valid_ap[name] = float(np.mean([average_precision(f.y_valid, s) for f, s in zip(folds, scores, strict=True)]))
        recipes[name] = candidate.model_copy(update={"max_rounds": round(median(rounds for _, rounds in grown))})
        _LOG.info("%s: validation AP %.4f with %d rounds", name, valid_ap[name], recipes[name].max_rounds)
    best = max(valid_ap, key=lambda name: valid_ap[name])
    return Recipe(name=best, settings=recipes[best], valid_ap=valid_ap)


def fit(recipe: Recipe, x: X, y: Labels, *, seed: int) -> Ensemble:
    """Return the recipe trained on these rows."""
    booster, _ = trees.grow(recipe.settings, x, y, seed=seed)
    return Ensemble(booster=booster)
