"""`train --search N`: trees found on the validation folds are one more way that the recipe compares."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from quatrain.core.errors import UsageError
from quatrain.fintech.models.fold import Fold
from quatrain.fintech.models.recipe import choose
from quatrain.fintech.models.recipe_settings import RecipeSettings
from quatrain.fintech.models.trees import TreeSettings
from quatrain.fintech.train.config import TrainConfig
from quatrain.fintech.train.searched import SEARCHED, searched, searches_folder

pytest.importorskip("optuna")
# Stumps cannot see a product of two columns: easy to beat.
STUMPS = TreeSettings(num_leaves=2, max_rounds=8, step=4, n_seeds=1, min_child_samples=5)


def material(seed: int = 0) -> Any:
    """Return one fold of rows whose label follows from two columns."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(600, 4)).astype(np.float32)
    y = x[:, 0] * x[:, 1] > 1
    fold = Fold(x_train=x[:400], y_train=y[:400], x_valid=x[400:], y_valid=y[400:])
    return SimpleNamespace(folds=[fold], names=("a", "b", "c", "d"))


def config(**changes: Any) -> TrainConfig:
    """Return a config of four trials."""
    recipe = RecipeSettings(trees={"stumps": STUMPS}, ratios=False)
    return TrainConfig(**({"data": "x", "search": 4, "recipe": recipe} | changes))


def test_what_was_found_is_one_more_way_beside_those_that_were_given() -> None:
    """The first trial is the way given; the recipe then decides as it does among all."""
    given = material()
    settings, report = searched(config(), given)
    assert report.trials[0].settings["num_leaves"] == 2
    assert report.best_value > (report.first_value or 0.0)
    assert list(settings.trees) == ["stumps", SEARCHED]
    assert settings.trees[SEARCHED].max_rounds == STUMPS.max_rounds
    recipe = choose(given.folds, settings, seed=0, names=given.names)
    assert set(recipe.valid_ap) == {"stumps", SEARCHED}


def test_a_search_goes_on_for_the_same_rows_only() -> None:
    """More trials are added to those kept; other rows begin anew."""
    _, four = searched(config(), material())
    _, six = searched(config(search=6), material())
    assert six.trials[:4] == four.trials
    assert len(six.trials) == 6
    searched(config(search=1), material(seed=1))
    assert len(list(searches_folder().iterdir())) == 2


def test_where_nothing_is_better_the_settings_stay_as_they_are() -> None:
    """One trial is the way that was given."""
    settings, report = searched(config(search=1), material())
    assert settings == config().recipe
    assert report.best["num_leaves"] == STUMPS.num_leaves


def test_a_recipe_without_trees_is_refused() -> None:
    """There is nothing to search."""
    with pytest.raises(UsageError, match="--search tries settings of trees, and the recipe's model is mlp"):
        searched(config(recipe=RecipeSettings(model="mlp")), material())
