"""Graphs made of graphs against NumPy, scikit-learn and the parts they are made of."""

from __future__ import annotations

from typing import Any

import lightgbm as lgb
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from quatrain.core import export, graphs
from quatrain.core.inference import open_session

Rows = NDArray[np.float32]
PAIRS = ((0, 1), (2, 1), (1, 1), (0, 2))


def rows(n: int, *, columns: int = 3, seed: int = 0) -> Rows:
    """Return heavy-tailed values."""
    return np.exp(2 * np.random.default_rng(seed).normal(size=(n, columns))).astype(np.float32)


def booster(*, columns: int = 3, seed: int = 0) -> lgb.Booster:
    """Return a few trees."""
    x = rows(600, columns=columns, seed=seed)
    y = x[:, 0] > x[:, -1] * (1 + seed)
    parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 7, "seed": seed}
    return lgb.train(parameters, lgb.Dataset(x, y), 12)


def run(graph: bytes, x: Rows, *, batch: int | None = None) -> NDArray[Any]:
    """Return the graph's only output, computed in batches."""
    session = open_session(graph, threads=1)
    size = batch or len(x)
    parts = [session.run(None, {session.get_inputs()[0].name: x[i : i + size]})[0] for i in range(0, len(x), size)]
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def members() -> list[lgb.Booster]:
    """Return two models of the same columns."""
    return [booster(seed=0), booster(seed=1)]


def test_a_blend_weighs_the_log_odds_of_its_models(members: list[lgb.Booster]) -> None:
    """sigmoid(c + sum w logit p), as written out in NumPy, at every batch size."""
    x = rows(130, seed=2)
    graph = graphs.blend([export.lightgbm_model(member) for member in members], [0.7, 0.4], -0.5)
    p = [np.asarray(member.predict(x)).astype(np.float32).astype(np.float64) for member in members]
    odds = -0.5 + 0.7 * np.log(p[0] / (1 - p[0])) + 0.4 * np.log(p[1] / (1 - p[1]))
    expected = (1 / (1 + np.exp(-odds))).astype(np.float32)
    assert export.check_parity(graph, {"features": x}, {"probability": expected}, atol=1e-6) < 1e-6


def test_the_blend_in_numpy_is_that_of_the_graph(members: list[lgb.Booster]) -> None:
    """What a caller computes without the graph is what the graph will give."""
    x = rows(130, seed=3)
    parts = [export.lightgbm_model(member) for member in members]
    expected = graphs.blended([run(part, x) for part in parts], [1.3, 0.0], 0.25)
    graph = graphs.blend(parts, [1.3, 0.0], 0.25)
    np.testing.assert_allclose(run(graph, x), expected, rtol=1e-6)


def test_certain_models_blend_to_finite_odds() -> None:
    """Probabilities of 0 and 1 have no log odds; they count as 2^-30 and as the float32 before 1."""
    p = np.array([0.0, 1.0, 0.5], dtype=np.float32)
    assert graphs.log_odds(p) == pytest.approx([np.log(2.0**-30), np.log(2.0**25 - 1), 0.0], rel=1e-6)
    assert graphs.blended([p, 1 - p], [1, 1], 0) == pytest.approx([1 / 33, 1 / 33, 0.5], rel=1e-6)


@pytest.mark.parametrize("weights", [[1.0], [1.0, np.nan], [1.0, 1.0, 1.0]])
def test_a_blend_needs_a_finite_weight_for_each_model(members: list[lgb.Booster], weights: list[float]) -> None:
    """One too few, one too many, one that is no number."""
    with pytest.raises(ValueError, match="2 models need as many finite weights and an intercept"):
        graphs.blend([export.lightgbm_model(member) for member in members], weights, 0.0)


def test_models_of_different_columns_do_not_blend(members: list[lgb.Booster]) -> None:
    """Their inputs are not one input."""
    parts = [export.lightgbm_model(members[0]), export.lightgbm_model(booster(columns=4))]
    with pytest.raises(ValueError, match="the graphs need one common input"):
        graphs.blend(parts, [1.0, 1.0], 0.0)


@settings(max_examples=100, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.just(3)),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
        | st.sampled_from([0.0, -0.0, 1e-30, 3e38, -1.0]),
    )
)
def test_quotients_of_the_graph_and_of_numpy_are_the_same_bits(x: Rows) -> None:
    """Trees compare them, so a last digit would send a row elsewhere."""
    graph = graphs.quotients_model(PAIRS, n_columns=3)
    np.testing.assert_array_equal(run(graph, x), graphs.quotients(x, PAIRS))


def test_a_quotient_is_one_where_there_is_nothing_to_divide_by() -> None:
    """No mean yet, or none above 0: the value counts as usual; and no quotient is infinite."""
    x = np.array([[6, 3, 0], [5, 0, 2], [5, -1, 2], [3e38, 1e-38, 1]], dtype=np.float32)
    expected = [[2, 0, 1, 1], [1, 1, 1, 2.5], [1, 1, 1, 2.5], [1e15, 1e15, 1, 1e15]]
    np.testing.assert_allclose(graphs.quotients(x, PAIRS), np.array(expected, dtype=np.float32))


@pytest.fixture(scope="module")
def forest() -> IsolationForest:
    """Return trees of 64 rows each; the last column is constant."""
    x = rows(400)
    x[:, 2] = 7
    return IsolationForest(n_estimators=30, max_samples=64, random_state=0).fit(x)


def isolation_graph(forest: IsolationForest) -> bytes:
    """Return its graph."""
    return graphs.isolation_model([estimator.tree_ for estimator in forest.estimators_], n_columns=3)


def test_path_lengths_are_those_of_scikit_learn(forest: IsolationForest) -> None:
    """2^(-length / c(64)) is the score of its own implementation, with the sign it gives it."""
    x = rows(200, seed=5)
    lengths = run(isolation_graph(forest), x)[:, 0].astype(np.float64)
    score = 2 ** (-lengths / graphs.average_path(np.array([64]))[0])
    np.testing.assert_allclose(-score, forest.score_samples(x.astype(np.float64)), rtol=2e-6)


def test_path_lengths_are_the_same_bits_in_every_batch(forest: IsolationForest) -> None:
    """ONNX Runtime adds the trees in another order for one row than for many."""
    x = rows(200, seed=6)
    graph = isolation_graph(forest)
    whole = run(graph, x)
    for batch in (1, 7, 64):
        np.testing.assert_array_equal(run(graph, x, batch=batch), whole)


def test_a_forest_that_cannot_split_has_one_length() -> None:
    """Equal rows: every tree is a single leaf, c(samples) deep."""
    x = np.ones((50, 3))
    forest = IsolationForest(n_estimators=3, max_samples=16, random_state=0).fit(x)
    expected = graphs.average_path(np.array([16]))[0]
    np.testing.assert_allclose(run(isolation_graph(forest), x.astype(np.float32)), expected, rtol=1e-6)


def test_average_path_is_that_of_the_paper() -> None:
    """c(1) = 0, c(2) = 1, c(256) = 10.24."""
    assert graphs.average_path(np.array([1, 2, 256])) == pytest.approx([0, 1, 10.2448], abs=1e-4)


def test_a_model_reads_the_columns_that_other_graphs_computed(forest: IsolationForest) -> None:
    """Three columns, four quotients and a path length go to a model of eight."""
    x = rows(200, seed=7)
    model = booster(columns=8)
    parts = [graphs.quotients_model(PAIRS, n_columns=3), isolation_graph(forest)]
    graph = graphs.with_columns(export.lightgbm_model(model), parts)
    wide = np.column_stack([x, *(run(part, x) for part in parts)])
    expected = {"probability": np.asarray(model.predict(wide)).astype(np.float32)}
    assert export.check_parity(graph, {"features": x}, expected, atol=1e-6) < 1e-6


def test_columns_that_do_not_fit_the_model_are_refused(forest: IsolationForest) -> None:
    """Three and one are not eight."""
    with pytest.raises(ValueError, match=r"the model takes 8 columns, got 3 \+ 1"):
        graphs.with_columns(export.lightgbm_model(booster(columns=8)), [isolation_graph(forest)])


def test_a_graph_with_two_outputs_is_no_part(members: list[lgb.Booster]) -> None:
    """Which of them should be blended?"""
    model = onnx.load_from_string(export.lightgbm_model(members[0]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("sums", onnx.TensorProto.FLOAT, ["batch", 1]))
    with pytest.raises(ValueError, match="a part of a graph has one input, one output"):
        graphs.blend([model.SerializeToString()], [1.0], 0.0)
