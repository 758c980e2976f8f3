"""SHAP values of trees: Shapley's own formula, LightGBM's own implementation, and sums that must hold."""

from __future__ import annotations

import itertools
import math
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from numpy.typing import NDArray

from quatrain.core.explain.trees import TreeShap, tree_shap

pytest.importorskip("shap")
pytestmark = pytest.mark.filterwarnings("ignore")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 4))


def trained(n_trees: int = 20, leaves: int = 6) -> lgb.Booster:
    """Return a small classifier."""
    labels = (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype(int)
    parameters = {"objective": "binary", "verbosity": -1, "seed": 0, "num_leaves": leaves, "num_threads": 1}
    return lgb.train(parameters, lgb.Dataset(X, labels), n_trees)


def expected_score(node: dict[str, Any], x: NDArray[np.float64], known: set[int]) -> float:
    """Return a tree's mean value over its training rows where only some columns of x are known."""
    if "leaf_value" in node:
        return float(node["leaf_value"])
    left, right = node["left_child"], node["right_child"]
    if node["split_feature"] in known:
        return expected_score(left if x[node["split_feature"]] <= node["threshold"] else right, x, known)
    counts = [child.get("internal_count", child.get("leaf_count")) for child in (left, right)]
    values = [expected_score(child, x, known) for child in (left, right)]
    return float(np.average(values, weights=counts))


def shapley(booster: lgb.Booster, x: NDArray[np.float64]) -> list[float]:
    """Return Shapley values by his formula, over all subsets of the columns."""
    trees = [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]

    def score(known: set[int]) -> float:
        return sum(expected_score(tree, x, known) for tree in trees)

    found = []
    for column in range(4):
        others = [each for each in range(4) if each != column]
        total = 0.0
        for size in range(4):
            weight = math.factorial(size) * math.factorial(3 - size) / math.factorial(4)
            for subset in itertools.combinations(others, size):
                total += weight * (score({*subset, column}) - score(set(subset)))
        found.append(total)
    return found


def test_values_are_shapleys() -> None:
    """By his formula, on rows of a model small enough for all subsets."""
    booster = trained(n_trees=5)
    found = tree_shap(booster, X[:5])
    np.testing.assert_allclose(found.values, [shapley(booster, x) for x in X[:5]], atol=1e-6)


def test_values_are_lightgbms_own() -> None:
    """A second, independent implementation, base included."""
    booster = trained()
    own = np.asarray(booster.predict(X, pred_contrib=True))
    found = tree_shap(booster, X)
    np.testing.assert_allclose(found.values, own[:, :-1], atol=1e-6)
    assert found.base == pytest.approx(own[0, -1], abs=1e-6)


def test_an_explanation_of_another_model_is_refused() -> None:
    """Values must add up to the scores of the booster that was asked about."""

    class Another:
        """The booster's trees with other scores."""

        def __init__(self, booster: lgb.Booster) -> None:
            self.booster = booster

        def predict(self, x: NDArray[np.float64], **options: Any) -> NDArray[np.float64]:
            """Return scores that are off by one."""
            return np.asarray(self.booster.predict(x, **options)) + 1

    import shap

    another = Another(trained())
    with pytest.MonkeyPatch.context() as patch:
        real = shap.TreeExplainer
        patch.setattr(shap, "TreeExplainer", lambda given, **options: real(given.booster, **options))
        with pytest.raises(ValueError, match="differ from the raw scores by 1"):
            tree_shap(another, X[:9])


def test_the_strongest_columns_come_first() -> None:
    """By size, whatever the sign."""
    found = TreeShap(np.array([[0.1, -3.0, 2.0], [0.0, 0.5, -0.1]]), base=0.0)
    assert found.strongest(2).tolist() == [[1, 2], [1, 2]]
