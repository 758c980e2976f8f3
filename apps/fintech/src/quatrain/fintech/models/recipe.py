"""The recipe of the shipped model: chosen on validation folds only, then trained wherever it is needed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from quatrain.fintech.metrics.scored import Floats, Labels
from quatrain.fintech.models import trees
from quatrain.fintech.models.ensemble import Ensemble
from quatrain.fintech.models.fold import Exported, Fold, X, is_better, mean_ap
from quatrain.fintech.models.isolation import grow_isolation
from quatrain.fintech.models.network_recipe import Network, NetworkRecipe, best_epochs, choose_network, fit_network
from quatrain.fintech.models.ratios import Pairs, ratios_of, with_ratios
from quatrain.fintech.models.recipe_settings import IsolationSettings, RecipeSettings
from quatrain.fintech.models.stacking import Stack, fit_stack
from quatrain.fintech.models.tabm_settings import TabmSettings
from quatrain.fintech.models.trees import TreeSettings

__all__ = ["Ensemble", "Exported", "Fold", "Network", "NetworkRecipe", "Recipe", "choose", "fit"]

_LOG = logging.getLogger(__name__)

# Told of each look at the validation rows: which part, its rounds or epochs so far, the mean average precision.
OnLook = Callable[[str, int, float], None]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What was chosen: the parts, with the rounds and epochs that each is trained for."""

    name: str
    settings: TreeSettings
    # Mean average precision over the folds of everything that was compared.
    valid_ap: Mapping[str, float]
    # Places of the inputs whose quotients are further columns.
    ratios: Pairs = ()
    # A further column of the trees: how odd a row is.
    isolation: IsolationSettings | None = None
    # The network and what it counts for beside the trees; both or none.
    tabm: TabmSettings | None = None
    stack: Stack | None = None

    def summary(self) -> dict[str, Any]:
        """Return what a manifest, a card or a report says of it."""
        return {
            "trees": self.name,
            **self.settings.model_dump(mode="json"),
            "ratios": len(self.ratios),
            "isolation": self.isolation.model_dump(mode="json") if self.isolation else None,
            "tabm": self.tabm.model_dump(mode="json", exclude={"device"}) if self.tabm else None,
            "stack": {"weights": [*self.stack.weights], "intercept": self.stack.intercept} if self.stack else None,
            "valid_ap": dict(self.valid_ap),
        }


def choose(
    folds: Sequence[Fold],
    settings: RecipeSettings,
    *,
    seed: int,
    names: Sequence[str] = (),
    on_look: OnLook = lambda _part, _step, _ap: None,
) -> Recipe | NetworkRecipe:
    """Return the parts that raise the average precision on the folds' later rows, or the network's best epochs.

    `names` are those of the inputs; ratios are read off them. Each step builds on the one before:
    ratios, how the trees grow, the isolation column, the network beside the trees. `on_look` is
    told how far each part has grown and its mean average precision there. Raises ValueError where
    no fold has both labels in both of its parts.
    """
    folds = [fold for fold in folds if _has_both(fold.y_train) and _has_both(fold.y_valid)]
    if not folds:
        raise ValueError("choosing a recipe needs at least one fold with both labels in both of its parts")
    ratios = ratios_of(names) if settings.ratios else ()
    if settings.network is not None:
        kind, of_network = settings.network
        return choose_network(kind, of_network, folds, ratios=ratios, seed=seed, on_epoch=partial(on_look, kind))
    bench = _Bench(settings=settings, folds=folds, seed=seed, on_look=on_look, valid_ap={})
    trial = bench.grown(ratios)
    if settings.isolation:
        trial = bench.isolated(trial, settings.isolation)
    n_rows = max(len(fold.x_train) for fold in folds)
    if settings.tabm and n_rows > settings.tabm_rows:
        _LOG.warning(
            "no network is tried: %d rows to learn from are more than tabm_rows=%d", n_rows, settings.tabm_rows
        )
    elif settings.tabm:
        trial = bench.stacked(trial, settings.tabm)
    return replace(trial.recipe, valid_ap=bench.valid_ap)


def fit(recipe: Recipe | NetworkRecipe, x: X, y: Labels, *, seed: int) -> Ensemble | Network:
    """Return the recipe trained on these rows."""
    if isinstance(recipe, NetworkRecipe):
        return fit_network(recipe, x, y, seed=seed)
    wide = with_ratios(x, recipe.ratios)
    isolation = grow_isolation(recipe.isolation, x, seed=seed) if recipe.isolation else None
    of_trees = np.column_stack([wide, isolation.column(x)]) if isolation else wide
    network = None
    if recipe.tabm:
        from quatrain.fintech.models.network import train

        network, _ = train("tabm", recipe.tabm, wide, y, seed=seed)
    return Ensemble(
        booster=trees.grow(recipe.settings, of_trees, y, seed=seed),
        ratios=recipe.ratios,
        isolation=isolation,
        tabm=network,
        stack=recipe.stack,
    )


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """A recipe, the folds with its columns, and the log odds that it gives their later rows."""

    recipe: Recipe
    folds: Sequence[Fold]
    odds: Sequence[Floats]


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """Where trials are compared: each method returns the trial that it was given, or a better one."""

    settings: RecipeSettings
    # With the inputs as they came.
    folds: Sequence[Fold]
    seed: int
    on_look: OnLook
    # Filled with every trial's mean average precision.
    valid_ap: dict[str, float]

    def grown(self, ratios: Pairs) -> _Trial:
        """Return the first way of growing trees, or a later one that is better; with ratios where they help."""
        (name, first), *others = self.settings.trees.items()
        best = self._look(name, name, first, self.folds)
        if ratios:
            wide = [_fed(fold, lambda x: with_ratios(x, ratios)) for fold in self.folds]
            trial = self._look(f"{name} + ratios", name, first, wide)
            if self.valid_ap[f"{name} + ratios"] > self.valid_ap[name]:
                best = replace(trial, recipe=replace(trial.recipe, ratios=ratios))
        for name, candidate in others:
            trial = self._look(name, name, candidate, best.folds)
            if self._is_better(trial, best):
                best = replace(trial, recipe=replace(trial.recipe, ratios=best.recipe.ratios))
        return best

    def isolated(self, best: _Trial, settings: IsolationSettings) -> _Trial:
        """Return the trial whose trees also see how odd a row is."""
        columns = [grow_isolation(settings, fold.x_train, seed=self.seed).column for fold in self.folds]
        wide = [
            replace(
                fold,
                x_train=np.column_stack([fold.x_train, column(raw.x_train)]),
                x_valid=np.column_stack([fold.x_valid, column(raw.x_valid)]),
            )
            for fold, raw, column in zip(best.folds, self.folds, columns, strict=True)
        ]
        # As many rounds as were tried without it.
        rounds = self.settings.trees[best.recipe.name].max_rounds
        candidate = best.recipe.settings.model_copy(update={"max_rounds": rounds})
        trial = self._look(f"{best.recipe.name} + isolation", best.recipe.name, candidate, wide)
        if not self._is_better(trial, best):
            return best
        recipe = replace(trial.recipe, ratios=best.recipe.ratios, isolation=settings)
        # The network reads the inputs and ratios only: its own encoding tells what is odd.
        return _Trial(recipe=recipe, folds=best.folds, odds=trial.odds)

    def stacked(self, best: _Trial, settings: TabmSettings) -> _Trial:
        """Return the trial beside whose trees a network answers, weighted on the latest fold.

        Weights that are judged are of its first half, and judged on the second and the folds before.
        """
        latest = best.folds[-1]
        half = len(latest.y_valid) // 2
        if not (_has_both(latest.y_valid[:half]) and _has_both(latest.y_valid[half:])):
            _LOG.warning("no network is tried: half of the latest validation rows has only one of the labels")
            return best
        epochs, network = self._epochs(settings, best.folds)
        members = [np.column_stack(pair) for pair in zip(best.odds, network, strict=True)]
        early = fit_stack(members[-1][:half], latest.y_valid[:half])
        judged = [*best.folds[:-1], _from(latest, half)]
        odds = [early(of_fold) for of_fold in [*members[:-1], members[-1][half:]]]
        alone = [*best.odds[:-1], best.odds[-1][half:]]
        self.valid_ap["stack"] = mean_ap(judged, odds)
        self.valid_ap["stack's trees alone"] = mean_ap(judged, alone)
        if not is_better(judged, odds, alone, level=self.settings.level, seed=self.seed):
            return best
        stack = fit_stack(members[-1], latest.y_valid)
        return _Trial(
            recipe=replace(best.recipe, tabm=settings.model_copy(update={"epochs": epochs}), stack=stack),
            folds=best.folds,
            odds=[stack(of_fold) for of_fold in members],
        )

    def _epochs(self, settings: TabmSettings, folds: Sequence[Fold]) -> tuple[int, list[Floats]]:
        """Return the epochs with the highest mean average precision of the network alone, and its log odds there."""
        on_epoch = partial(self.on_look, "tabm")
        epochs, odds = best_epochs("tabm", settings, folds, seed=self.seed, on_epoch=on_epoch)
        self._note("tabm", odds)
        return epochs, odds

    def _look(self, title: str, name: str, candidate: TreeSettings, folds: Sequence[Fold]) -> _Trial:
        found = trees.look(
            candidate.model_copy(update={"n_seeds": self.settings.trial_seeds}),
            folds,
            seed=self.seed,
            on_look=partial(self.on_look, title),
        )
        self._note(title, found.odds)
        settings = candidate.model_copy(update={"max_rounds": found.rounds})
        return _Trial(recipe=Recipe(name=name, settings=settings, valid_ap={}), folds=folds, odds=found.odds)

    def _note(self, title: str, odds: Sequence[Floats]) -> None:
        self.valid_ap[title] = mean_ap(self.folds, odds)
        _LOG.info("%s: validation AP %.4f", title, self.valid_ap[title])

    def _is_better(self, trial: _Trial, than: _Trial) -> bool:
        return is_better(self.folds, trial.odds, than.odds, level=self.settings.level, seed=self.seed)


def _has_both(label: Labels) -> bool:
    return bool(label.any() and not label.all())


def _from(fold: Fold, first: int) -> Fold:
    days = None if fold.day_valid is None else fold.day_valid[first:]
    return replace(fold, x_valid=fold.x_valid[first:], y_valid=fold.y_valid[first:], day_valid=days)


def _fed(fold: Fold, columns: Callable[[X], X]) -> Fold:
    return replace(fold, x_train=columns(fold.x_train), x_valid=columns(fold.x_valid))
