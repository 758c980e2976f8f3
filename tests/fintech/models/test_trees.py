"""Boosted trees: the average of several seeds is one booster."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from quatrain.core import export
from quatrain.core.errors import MissingExtraError
from quatrain.fintech.metrics.ranking import average_precision
from quatrain.fintech.metrics.scored import Labels
from quatrain.fintech.models import trees
from quatrain.fintech.models.baselines import BASELINES
from quatrain.fintech.models.fold import Fold, mean_ap
from quatrain.fintech.models.trees import TreeSettings

SETTINGS = TreeSettings(max_rounds=25, step=10, n_seeds=2, learning_rate=0.1)


def with_rounds(rounds: int) -> TreeSettings:
    """Return SETTINGS with another number of rounds."""
    return SETTINGS.model_copy(update={"max_rounds": rounds})


def fold(x: NDArray[np.float32], y: Labels, later_x: NDArray[np.float32], later_y: Labels) -> Fold:
    """Return a fold of these rows."""
    return Fold(x_train=x, y_train=y, x_valid=later_x, y_valid=later_y)


@pytest.fixture(scope="module")
def rows() -> tuple[NDArray[np.float32], Labels]:
    """Return inputs and labels with 5 % fraud that two inputs explain."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6000, 5)).astype(np.float32)
    y = rng.random(6000) < 1 / (1 + np.exp(4 - 2 * x[:, 0] - x[:, 1]))
    return x, y


def test_average_has_the_mean_log_odds(rows: tuple[NDArray[np.float32], Labels]) -> None:
    """Log-odds of the merged booster are those of its parts, averaged, also for fewer rounds."""
    boosters = trees._start(SETTINGS, *rows, seed=0)
    trees._advance(boosters, 25)
    for rounds in (25, 7):
        merged = trees.average(boosters, rounds=rounds)
        parts = [booster.predict(rows[0], raw_score=True, num_iteration=rounds) for booster in boosters]
        assert merged.num_trees() == 2 * rounds
        np.testing.assert_allclose(merged.predict(rows[0], raw_score=True), np.mean(parts, axis=0), atol=1e-12)


def test_the_first_trees_are_those_of_the_first_rounds(rows: tuple[NDArray[np.float32], Labels]) -> None:
    """Cut after so many rounds of every seed, the merged booster is the one that training had by then."""
    boosters = trees._start(SETTINGS, *rows, seed=0)
    trees._advance(boosters, 12)
    cut = trees.average(boosters, rounds=12).predict(rows[0], raw_score=True, num_iteration=2 * 5)
    earlier = trees.average(boosters, rounds=5).predict(rows[0], raw_score=True)
    np.testing.assert_allclose(cut, earlier, atol=1e-12)


def test_rounds_are_those_of_the_best_mean_over_the_folds(rows: tuple[NDArray[np.float32], Labels]) -> None:
    """Of the looks at the validation rows the best one counts; one number of rounds serves all folds."""
    x, y = rows
    folds = [fold(x[:2000], y[:2000], x[2000:4000], y[2000:4000]), fold(x[:4000], y[:4000], x[4000:], y[4000:])]
    found = trees.look(SETTINGS, folds, seed=0)
    looks = {}
    for rounds in (10, 20, 25):
        grown = [trees.grow(with_rounds(rounds), f.x_train, f.y_train, seed=0) for f in folds]
        odds = [booster.predict(f.x_valid, raw_score=True) for booster, f in zip(grown, folds, strict=True)]
        looks[rounds] = mean_ap(folds, odds), odds
    assert found.rounds == max(looks, key=lambda rounds: looks[rounds][0])
    ap, odds = looks[found.rounds]
    assert found.ap == pytest.approx(ap)
    for ours, theirs in zip(found.odds, odds, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_patience_ends_the_growth(rows: tuple[NDArray[np.float32], Labels], monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels without a pattern stop long before the last round."""
    rng = np.random.default_rng(1)
    noise = rng.random(len(rows[1])) < 0.05
    grown: list[int] = []
    advance = trees._advance
    monkeypatch.setattr(trees, "_advance", lambda boosters, n: (grown.append(n), advance(boosters, n)))
    settings = TreeSettings(max_rounds=400, step=5, patience=2, n_seeds=1, learning_rate=0.3)
    found = trees.look(settings, [fold(rows[0], noise, rows[0], rng.permutation(noise))], seed=0)
    assert found.rounds + 10 <= sum(grown) < 200


def test_same_seed_grows_the_same_trees(rows: tuple[NDArray[np.float32], Labels]) -> None:
    """Training again gives the same model; another seed another."""
    texts = [trees.grow(SETTINGS, *rows, seed=seed).model_to_string() for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_the_average_exports_exactly(rows: tuple[NDArray[np.float32], Labels]) -> None:
    """The graph gives the merged booster's probabilities to float32."""
    booster = trees.grow(SETTINGS, *rows, seed=0)
    x = rows[0][:300]
    expected = {"probability": trees.predict(booster, x).astype(np.float32)}
    assert export.check_parity(export.lightgbm_model(booster), {"features": x}, expected) < 1e-6


def test_baselines_learn_something(rows: tuple[NDArray[np.float32], Labels]) -> None:
    """Both rank held-out frauds far above chance, 5 %."""
    x, y = rows
    for name, fit_and_score in BASELINES.items():
        score = fit_and_score(x[:4000], y[:4000], x[4000:])
        assert score.min() >= 0, name
        assert score.max() <= 1, name
        assert average_precision(y[4000:], score) > 0.3, name


def without_system_openmp(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
    """Let the first import of lightgbm fail as it does where libgomp.so.1 is missing."""
    answers: list[ModuleType | OSError] = [OSError("libgomp.so.1: cannot open shared object file"), module]

    def require(_name: str, *, package: str) -> ModuleType:
        assert package == "quatrain-fintech[train]"
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(trees, "require", require)


def test_a_system_without_openmp_takes_that_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slim machine has no libgomp; the copy in PyTorch's wheel makes LightGBM load."""
    without_system_openmp(monkeypatch, np)
    assert trees.load_lightgbm() is np


def test_no_openmp_at_all_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torch either, the error names the package of the system."""
    without_system_openmp(monkeypatch, np)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match="apt-get install libgomp1"):
        trees.load_lightgbm()
