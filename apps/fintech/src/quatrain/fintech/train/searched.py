"""Settings of the trees searched on the validation folds: `quatrain fintech train --search N`."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quatrain.core.config import settings
from quatrain.core.errors import UsageError, require
from quatrain.core.search import SearchReport, search
from quatrain.fintech.models import trees
from quatrain.fintech.models.recipe_settings import RecipeSettings
from quatrain.fintech.models.trees import TreeSettings
from quatrain.fintech.train.config import TrainConfig
from quatrain.fintech.train.material import Material

if TYPE_CHECKING:
    from optuna import Trial

_LOG = logging.getLogger(__name__)
# The name under which the recipe compares what was found with everything else.
SEARCHED = "searched"
# What is searched, between which values: around those that real card data were kind to.
_RANGES: dict[str, tuple[float, float]] = {
    "learning_rate": (0.005, 0.2),
    "num_leaves": (4, 64),
    "min_child_samples": (5, 500),
    "lambda_l2": (0.01, 100.0),
    "feature_fraction": (0.2, 1.0),
    "bagging_fraction": (0.4, 1.0),
}
_SHARES = frozenset({"feature_fraction", "bagging_fraction"})


def searched(config: TrainConfig, material: Material) -> tuple[RecipeSettings, SearchReport]:
    """Return the recipe's settings with the best trees of `config.search` trials as one more way to compare.

    The first trial is the first way of the settings; whatever is found must then beat it beyond
    chance as any other way must, so a search over noise changes nothing. Trials are kept under the
    home by what they depend on, and an interrupted search goes on. Raises UsageError for a recipe
    without trees.
    """
    if config.recipe.network is not None:
        raise UsageError(f"--search tries settings of trees, and the recipe's model is {config.recipe.model}")
    optuna = require("optuna", package="quatrain-core[search]")
    folds = material.folds
    first = next(iter(config.recipe.trees.values()))

    def objective(trial: Trial) -> float:
        def on_look(rounds: int, ap: float) -> None:
            trial.report(ap, step=rounds)
            if trial.should_prune():
                raise optuna.TrialPruned

        candidate = _suggested(trial, first).model_copy(update={"n_seeds": config.recipe.trial_seeds})
        return trees.look(candidate, folds, seed=config.seed, on_look=on_look).ap

    key = _key(config, material)
    report = search(
        objective,
        name=f"fintech trees {key}",
        n_trials=config.search,
        folder=searches_folder() / f"fintech-{key}",
        first=_searchable(first),
        seed=config.seed,
    )
    _LOG.info(
        "best of %d trials: validation AP %.4f, first %s", len(report.trials), report.best_value, report.first_value
    )
    if report.best == _searchable(first):
        return config.recipe, report
    found = {**config.recipe.trees, SEARCHED: first.model_copy(update=report.best)}
    return config.recipe.model_copy(update={"trees": found}), report


def searches_folder() -> Path:
    """Return the folder that keeps every search of this home."""
    return settings().home / "searches"


def _suggested(trial: Trial, first: TreeSettings) -> TreeSettings:
    found: dict[str, float] = {}
    for name, (lowest, highest) in _RANGES.items():
        given = getattr(first, name)
        # What was given must be within reach; nothing has no logarithm.
        low, high, is_log = min(lowest, given), max(highest, given), name not in _SHARES and given > 0
        if isinstance(given, int):
            found[name] = trial.suggest_int(name, int(low), int(high), log=is_log)
        else:
            found[name] = trial.suggest_float(name, low, high, log=is_log)
    return first.model_copy(update=found)


def _searchable(first: TreeSettings) -> dict[str, float]:
    return first.model_dump(include=set(_RANGES))


def _key(config: TrainConfig, material: Material) -> str:
    """Return a digest of what trials depend on: settings, columns, and the rows of all folds."""
    digest = hashlib.sha256()
    parts = config.model_dump(mode="json", exclude={"search", "out", "promote", "n_resamples", "cards_per_day"})
    digest.update(json.dumps([parts, list(material.names)], sort_keys=True).encode())
    for fold in material.folds:
        for array in (fold.x_train, fold.y_train, fold.x_valid, fold.y_valid):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:12]
