"""The own LightGBM converter against booster.predict, at and beside every threshold."""

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

from quatrain.core import export
from quatrain.core.inference import open_session
from quatrain.core.trees import ExportError, float32_not_above, read_forest

QUIET = {"verbosity": -1, "num_threads": 1, "seed": 0, "deterministic": True, "min_data_in_leaf": 5}
N_FEATURES = 6


def rows(n: int, seed: int = 0) -> NDArray[np.float64]:
    """Return columns that break converters: heavy tails, zeros, tiny values, integers, few values, a constant."""
    rng = np.random.default_rng(seed)
    return np.column_stack(
        [
            rng.standard_cauchy(n) * 1e3,
            rng.lognormal(size=n) * (rng.random(n) < 0.5),
            rng.choice([-1e-30, -1e-36, 0.0, 1e-40, 1e-36, 1e-30, 1.0], n),
            rng.integers(-3, 4, n),
            rng.choice([0.1, 0.2, 0.3, 1 / 3, 16777217.0], n),
            np.full(n, 7.0),
        ]
    )


def labels(x: NDArray[np.float64], seed: int = 1) -> NDArray[np.int64]:
    """Return a target that needs every column but the constant one."""
    filled = np.nan_to_num(x)
    score = np.tanh(filled[:, 0] / 1e3) + filled[:, 1] - 2 * (filled[:, 2] < 0) + filled[:, 3] / 3 + 5 * filled[:, 4]
    return (score + np.random.default_rng(seed).normal(size=len(x)) > np.median(score)).astype(np.int64)


def train(x: NDArray[np.float64], y: NDArray[Any], n_trees: int = 40, **parameters: Any) -> lgb.Booster:
    """Return a booster that splits finely."""
    parameters = QUIET | {"objective": "binary", "num_leaves": 31, "max_bin": 1023} | parameters
    return lgb.train(parameters, lgb.Dataset(x, y), n_trees)


def thresholds(booster: lgb.Booster) -> NDArray[np.float64]:
    """Return every threshold as LightGBM itself writes it."""
    lines = [line for line in booster.model_to_string().splitlines() if line.startswith("threshold=")]
    return np.array([float(text) for line in lines for text in line.partition("=")[2].split()])


def adversarial(booster: lgb.Booster, x: NDArray[np.float64], n: int = 4000) -> NDArray[np.float32]:
    """Return rows whose values are thresholds, their float32 neighbours, and the values beside zero."""
    with np.errstate(over="ignore"):
        near = np.unique(thresholds(booster).astype(np.float32))
    up, down = np.float32(np.inf), np.float32(-np.inf)
    zero = np.float32(1e-35)
    beside_zero = [zero, np.nextafter(zero, up), np.nextafter(zero, down), np.float32(1e-45), np.float32(0)]
    extremes = [np.finfo(np.float32).max, np.float32(np.inf)]
    pool = np.concatenate(
        [
            near,
            np.nextafter(near, up),
            np.nextafter(near, down),
            beside_zero,
            extremes,
            -np.array(beside_zero + extremes),
        ]
    ).astype(np.float32)
    rng = np.random.default_rng(2)
    chosen = rng.choice(pool, (n, N_FEATURES))
    real = x[rng.integers(0, len(x), n)].astype(np.float32)
    return np.where(rng.random(chosen.shape) < 0.7, chosen, real)


def predict(graph: bytes, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the graph's only output."""
    session = open_session(graph, threads=1)
    (answer,) = session.run(None, {session.get_inputs()[0].name: x})
    return np.asarray(answer)


X = rows(3000)
BINARY = train(X, labels(X))
BINARY_GRAPH = export.lightgbm_model(BINARY)


def test_probabilities_match_at_and_beside_every_threshold() -> None:
    """A wrong branch moves a score by far more than 1e-6; the adversarial rows find it."""
    x = adversarial(BINARY, X)
    np.testing.assert_allclose(predict(BINARY_GRAPH, x), BINARY.predict(x), rtol=1e-6, atol=0)


@settings(max_examples=200, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.just(N_FEATURES)),
        elements=st.floats(width=32, allow_nan=True, allow_infinity=True)
        | st.sampled_from([float(t) for t in thresholds(BINARY).astype(np.float32)]),
    )
)
def test_probabilities_match_for_any_float32(x: NDArray[np.float32]) -> None:
    """Denormals, NaN, infinities and thresholds included."""
    np.testing.assert_allclose(predict(BINARY_GRAPH, x), BINARY.predict(x), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("parameters", "is_binary"),
    [
        ({"sigmoid": 2.5}, True),
        ({"objective": "cross_entropy"}, True),
        ({"boosting": "dart"}, True),
        ({"is_unbalance": True}, True),
        ({"objective": "regression"}, False),
        ({"objective": "regression_l1"}, False),
        ({"objective": "huber"}, False),
        ({"objective": "quantile", "alpha": 0.9}, False),
        ({"extra_trees": True, "max_depth": 3}, False),
    ],
    ids=str,
)
def test_every_supported_objective_matches(parameters: dict[str, Any], is_binary: bool) -> None:
    """Slopes, dropped trees and raw outputs are booster.predict's own."""
    y = labels(X).astype(float) if is_binary else X[:, 3] * 100 + X[:, 1]
    objective = {} if "objective" in parameters or is_binary else {"objective": "regression"}
    booster = train(X, y, 15, **(parameters | objective))
    x = adversarial(booster, X)
    np.testing.assert_allclose(predict(export.lightgbm_model(booster), x), booster.predict(x), rtol=2e-6, atol=1e-6)


def test_missing_values_go_where_the_booster_sends_them() -> None:
    """NaN seen in training goes its learnt way; NaN never seen in training is read as zero."""
    x = rows(3000)
    x[::3, 0], x[1::4, 3] = np.nan, np.nan
    booster = train(x, labels(x))
    test = adversarial(booster, x)
    test[np.random.default_rng(3).random(test.shape) < 0.3] = np.nan
    np.testing.assert_allclose(predict(export.lightgbm_model(booster), test), booster.predict(test), rtol=1e-6)


def test_only_the_best_iterations_are_exported() -> None:
    """Early stopping's choice is what booster.predict uses, and so does the graph."""
    booster = train(X, labels(X), 20)
    booster.best_iteration = 7
    assert len(read_forest(booster).trees) == 7
    x = adversarial(booster, X, 500)
    np.testing.assert_allclose(predict(export.lightgbm_model(booster), x), booster.predict(x), rtol=1e-6)


def test_a_model_that_learnt_nothing_gives_the_base_rate() -> None:
    """A tree may be a single leaf."""
    x = np.zeros((100, N_FEATURES))
    booster = train(x, np.arange(100) % 5 == 0, 3)
    answer = predict(export.lightgbm_model(booster), np.zeros((2, N_FEATURES), dtype=np.float32))
    np.testing.assert_allclose(answer, [0.2, 0.2], rtol=1e-6)


def test_small_probabilities_keep_their_digits() -> None:
    """Ranking the rarest alerts needs relative precision, which a float32 sigmoid loses below 1e-7."""
    x = np.linspace(-1, 1, 4000)[:, None].repeat(N_FEATURES, axis=1)
    booster = train(x, (x[:, 0] > 0).astype(int), 45, learning_rate=0.5, min_sum_hessian_in_leaf=1e-12)
    wanted = booster.predict(x.astype(np.float32))
    assert 1e-12 < np.min(wanted) < 1e-9
    np.testing.assert_allclose(predict(export.lightgbm_model(booster), x.astype(np.float32)), wanted, rtol=1e-4)


def test_many_trees_do_not_drift() -> None:
    """A thousand leaf values are added in float64."""
    booster = train(X, labels(X), 1000, num_leaves=7)
    x = adversarial(booster, X, 1000)
    np.testing.assert_allclose(predict(export.lightgbm_model(booster), x), booster.predict(x), rtol=2e-6)


def test_names_and_shapes_are_the_contracts() -> None:
    """Tabular models take features (batch, F) and give probability (batch,)."""
    model = onnx.load_from_string(BINARY_GRAPH)
    session = open_session(export.lightgbm_model(BINARY, input_name="x", output_name="y"))
    assert model.graph.input[0].name == "features"
    assert model.graph.output[0].name == "probability"
    assert session.get_inputs()[0].shape == ["batch", N_FEATURES]
    assert session.get_inputs()[0].name == "x"
    assert session.get_outputs()[0].shape == ["batch"]
    assert session.get_outputs()[0].type == "tensor(float)"


def test_the_gate_passes_at_every_batch_size() -> None:
    """The converter holds the house's parity gate."""
    x = X.astype(np.float32)[:200]
    wanted = {"probability": np.asarray(BINARY.predict(x))}
    assert export.check_parity(BINARY_GRAPH, {"features": x}, wanted, atol=1e-6) < 1e-6


def test_a_float64_threshold_cast_to_float32_would_fail_the_gate() -> None:
    """The plain cast rounds some thresholds up: values between take the wrong branch, and the gate sees it."""
    model = onnx.load_from_string(BINARY_GRAPH)
    ensemble = next(node for node in model.graph.node if node.op_type == "TreeEnsembleRegressor")
    values = next(a for a in ensemble.attribute if a.name == "nodes_values_as_tensor")
    splits = [t.threshold for t in read_forest(BINARY).trees]
    with np.errstate(over="ignore"):
        plain = iter(thresholds(BINARY).astype(np.float32).astype(np.float64))
    flat = np.concatenate(
        [np.concatenate([[next(plain) for _ in split], np.zeros(len(split) + 1)]) for split in splits]
    )
    values.t.CopyFrom(onnx.numpy_helper.from_array(flat))
    x = adversarial(BINARY, X)
    with pytest.raises(export.ParityError, match="output probability differs"):
        export.check_parity(
            model.SerializeToString(), {"features": x}, {"probability": np.asarray(BINARY.predict(x))}, batches=(64,)
        )


@given(st.floats(allow_nan=False))
def test_rounded_thresholds_keep_every_comparison(threshold: float) -> None:
    """For float32 x on either side, x <= t and x <= rounded t agree; the rounded one is a float32."""
    rounded = float(float32_not_above(np.array([threshold]))[0])
    with np.errstate(over="ignore"):
        nearest = np.float32(threshold)
        beside = [np.nextafter(nearest, np.float32(end)) for end in (-np.inf, np.inf)]
    assert float(np.float32(rounded)) == rounded
    for x in (nearest, *beside):
        assert (float(x) <= threshold) == (float(x) <= rounded)


def categorical() -> lgb.Booster:
    """Return a booster with category splits."""
    x = np.column_stack([np.random.default_rng(0).integers(0, 9, 900), np.zeros(900)])
    data = lgb.Dataset(x, x[:, 0] % 3 == 0, feature_name=["country", "zero"], categorical_feature=["country"])
    return lgb.train(QUIET | {"objective": "binary"}, data, 2)


def no_trees() -> lgb.Booster:
    """Return a booster before its first iteration."""
    return lgb.Booster(QUIET | {"objective": "binary"}, lgb.Dataset(X, labels(X)))


def custom_objective() -> lgb.Booster:
    """Return a booster whose output only its author knows."""
    booster = lgb.Booster(QUIET | {"objective": "none"}, lgb.Dataset(X, labels(X)))
    booster.update(fobj=lambda raw, _: (raw - 1.0, np.ones_like(raw)))
    return booster


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (categorical, "column country cannot be exported: the model splits on categories; give the column as a number"),
        (lambda: train(X, labels(X), 5, zero_as_missing=True), "reads zero as missing; train with zero_as_missing"),
        (lambda: train(X, X[:, 3], 5, objective="regression", linear_tree=True), "linear_tree = false"),
        (lambda: train(X, X[:, 3] + 3, 5, objective="multiclass", num_class=7), "expected one output, got 7 classes"),
        (
            lambda: train(X, labels(X), 5, boosting="rf", bagging_freq=1, bagging_fraction=0.5),
            "random forests .* cannot be exported",
        ),
        (lambda: train(X, X[:, 1], 5, objective="poisson"), "got 'poisson', whose output is a different function"),
        (lambda: train(X, X[:, 1], 5, objective="regression", reg_sqrt=True), "got 'regression sqrt'"),
        (custom_objective, "got 'a custom function'"),
        (no_trees, "the model has no trees; train it for at least one iteration"),
    ],
    ids=["categories", "zero", "linear", "multiclass", "forest", "poisson", "sqrt", "custom", "empty"],
)
def test_what_the_graph_cannot_keep_is_refused(make: Any, message: str) -> None:
    """A graph that would answer differently is never made; the reason and the fix are in the message."""
    with pytest.raises(ExportError, match=message):
        export.lightgbm_model(make())
