"""The tree kernel: ONNX Runtime's own numbers to the last bit, or ONNX Runtime itself."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import lightgbm
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.ensemble import IsolationForest  # type: ignore[import-untyped]  # ships no types

from quatrain.core import graphs
from quatrain.core.ensemble import ensemble_node
from quatrain.core.export import finished, lightgbm_model, model_of
from quatrain.core.inference import open_session
from quatrain.core.trees import Forest, Tree
from quatrain.fintech.score import forest as forest_module
from quatrain.fintech.score import graph, session
from quatrain.fintech.score.forest import forest_of
from quatrain.fintech.score.session import ForestSession
from quatrain.fintech.score.tree_kernel import BLOCK

N_FEATURES = 5
Floats32 = NDArray[np.float32]


def grown(*, leaves: int, rounds: int = 12, seed: int = 0, rows: int = 3000, columns: int = N_FEATURES) -> bytes:
    """Return the graph of a small LightGBM model of 5 inputs, or of more columns."""
    rng = np.random.default_rng(seed)
    x = rng.lognormal(size=(rows, columns)).astype(np.float32)
    label = rng.random(rows) < 1 / (1 + np.exp(2 - x[:, 0] - np.sin(3 * x[:, 1]) * x[:, 2]))
    values = {"objective": "binary", "num_leaves": leaves, "min_child_samples": 5, "max_bin": 1023, "verbose": -1}
    options = values | {"num_threads": 1, "seed": seed}
    return lightgbm_model(lightgbm.train(options, lightgbm.Dataset(x, label), rounds))


def inputs(n: int, seed: int = 1) -> Floats32:
    """Return rows of inputs."""
    return np.random.default_rng(seed).lognormal(size=(n, N_FEATURES)).astype(np.float32)


def sums_of(model: bytes, x: Floats32) -> NDArray[Any]:
    """Return the raw sums of the graph's only ensemble, from ONNX Runtime."""
    name = next(node.output[0] for node in onnx.load_from_string(model).graph.node if "Tree" in node.op_type)
    return np.asarray(open_session(graph.part(model, given=[], wanted=[name])).run([name], {"features": x})[0])


def extremes(n: int, columns: int = N_FEATURES) -> Floats32:
    """Return rows of both zeros, the least and the largest numbers, infinities, and numbers of every size."""
    rng = np.random.default_rng(2)
    top = np.finfo(np.float32)
    few = [0.0, -0.0, top.smallest_subnormal, -top.smallest_subnormal, top.max, top.min, np.inf, -np.inf, 1.0, -1.0]
    some = rng.choice(np.array(few, np.float32), (n, columns))
    sizes = (rng.choice([-1, 1], (n, columns)) * 10.0 ** rng.uniform(-44, 38, (n, columns))).astype(np.float32)
    return np.where(rng.random((n, columns)) < 0.5, some, sizes)


@settings(deadline=None, max_examples=12)
@given(leaves=st.integers(2, 80), seed=st.integers(0, 2**16), n=st.integers(1, 700))
def test_sums_are_those_of_onnx_runtime_to_the_last_bit(leaves: int, seed: int, n: int) -> None:
    """Trees of up to 32 leaves as they are, larger ones cut; rows anywhere, on thresholds, and beside them."""
    model = grown(leaves=leaves, seed=seed, rounds=6)
    (found,) = graph.ensembles(model, input_name="features")
    forest = forest_of(found)
    assert forest is not None
    for x in (inputs(n, seed), extremes(n), forest.probes(N_FEATURES)):
        np.testing.assert_array_equal(forest.sums(x), sums_of(model, x))


@pytest.mark.parametrize("n", [BLOCK - 1, BLOCK, 2 * BLOCK + 1, 3 * forest_module._STRIP + 5])
@pytest.mark.parametrize("kind", ["spread", "clustered", "constant"])
def test_blocks_of_alike_rows_get_their_own_leaves(n: int, kind: str) -> None:
    """Where all rows of a block answer alike the comparison is not made; where some differ it is."""
    model, x = grown(leaves=31), inputs(n)
    if kind == "clustered":
        x = np.round(x)
    elif kind == "constant":
        x[:] = x[0]
    (found,) = graph.ensembles(model, input_name="features")
    forest = forest_of(found)
    assert forest is not None
    np.testing.assert_array_equal(forest.sums(x), sums_of(model, x))


def test_what_is_no_number_goes_where_it_is_not_above() -> None:
    """As in the plain comparison value > threshold, whatever else stands in its block."""
    (found,) = graph.ensembles(grown(leaves=31), input_name="features")
    forest = forest_of(found)
    assert forest is not None
    x = inputs(2 * BLOCK)
    x[:BLOCK:3] = np.nan
    least = np.where(np.isnan(x), np.float32(-np.inf), x)
    np.testing.assert_array_equal(forest.sums(x), forest.sums(least))


def test_trees_that_read_more_columns_than_there_are_raise() -> None:
    """The kernel would read past the rows."""
    (found,) = graph.ensembles(grown(leaves=31), input_name="features")
    forest = forest_of(found)
    assert forest is not None
    with pytest.raises(ValueError, match="the trees read column 4, and the input has 2"):
        forest.sums(inputs(10)[:, :2])


def test_probes_meet_every_kind_of_comparison() -> None:
    """Values equal to thresholds, just above and just below: a kernel with < for <= would be found out."""
    (found,) = graph.ensembles(grown(leaves=31), input_name="features")
    forest = forest_of(found)
    assert forest is not None
    x = forest.probes(N_FEATURES)
    for column in range(N_FEATURES):
        known = np.unique(forest.threshold[forest.feature == column])
        place = np.searchsorted(known, x[:, column])
        assert np.isin(x[:, column], known).any()
        assert (x[:, column] == np.nextafter(known[(place - 1).clip(0)], np.float32(np.inf))).any()


def test_an_ensemble_is_read_as_the_onnx_package_reads_it() -> None:
    """Field by field, the package being the second implementation."""
    model = grown(leaves=9)
    (found,) = graph.ensembles(model, input_name="features")
    node = next(node for node in onnx.load_from_string(model).graph.node if node.op_type == "TreeEnsembleRegressor")
    value = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    is_leaf = np.array([mode == b"LEAF" for mode in value["nodes_modes"]])
    assert found.output == node.output[0]
    np.testing.assert_array_equal(found.tree, value["nodes_treeids"])
    np.testing.assert_array_equal(found.feature[~is_leaf], np.array(value["nodes_featureids"])[~is_leaf])
    np.testing.assert_array_equal(found.threshold, numpy_helper.to_array(value["nodes_values_as_tensor"]))
    np.testing.assert_array_equal(found.weight[is_leaf], numpy_helper.to_array(value["target_weights_as_tensor"]))
    # In this exporter's files a tree's nodes stand together, in the order of their numbers.
    first = np.searchsorted(found.tree, found.tree)
    np.testing.assert_array_equal((found.if_true - first)[~is_leaf], np.array(value["nodes_truenodeids"])[~is_leaf])
    np.testing.assert_array_equal((found.if_false - first)[~is_leaf], np.array(value["nodes_falsenodeids"])[~is_leaf])


def test_a_graph_without_its_trees_is_a_graph() -> None:
    """The onnx package accepts it, and fed with the sums it gives the same probability."""
    model, x = grown(leaves=20), inputs(100)
    (found,) = graph.ensembles(model, input_name="features")
    rest = graph.part(model, given=[found.output])
    onnx.checker.check_model(onnx.load_from_string(rest))
    answer = open_session(rest).run(["probability"], {"features": x, found.output: sums_of(model, x)})[0]
    np.testing.assert_array_equal(answer, open_session(model).run(["probability"], {"features": x})[0])


@pytest.mark.parametrize("n", [1, session._WORTH_ROWS - 1, session._WORTH_ROWS, session._WORTH_ROWS + 77])
def test_a_session_gives_the_same_bits_at_every_size(n: int) -> None:
    """Few rows go to ONNX Runtime, many to the kernel; nobody can tell."""
    model, x = grown(leaves=31), inputs(n)
    ours = ForestSession(model)
    answer = ours.run(["probability"], {"features": x})[0]
    np.testing.assert_array_equal(answer, open_session(model).run(["probability"], {"features": x})[0])
    assert (ours._plan is not None) == (n >= session._WORTH_ROWS)
    assert [(each.name, each.type) for each in ours.get_inputs()] == [("features", "tensor(float)")]
    assert [each.name for each in ours.get_outputs()] == ["probability"]


def test_a_kernel_that_is_loaded_answers_smaller_calls_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alerts are explained by some hundred rows at a time."""
    model = grown(leaves=31)
    sizes: list[int] = []
    ours, whole = ForestSession(model), open_session(model)
    ours.run(None, {"features": inputs(session._WORTH_ROWS)})
    plain = forest_module.Forest.sums

    def counted(forest: forest_module.Forest, x: Floats32) -> Floats32:
        sizes.append(len(x))
        return plain(forest, x)

    monkeypatch.setattr(forest_module.Forest, "sums", counted)
    for n in (1, session._LEAST_ROWS - 1, session._LEAST_ROWS, 700):
        x = inputs(n, seed=n)
        np.testing.assert_array_equal(ours.run(None, {"features": x})[0], whole.run(None, {"features": x})[0])
    assert sizes == [session._LEAST_ROWS, 700]


def test_trees_too_large_for_the_kernel_stay_with_onnx_runtime() -> None:
    """Walking down one of a thousand leaves is faster than asking all of its nodes."""
    model, x = grown(leaves=1500, rounds=2, rows=20_000), inputs(session._WORTH_ROWS)
    ours = ForestSession(model)
    np.testing.assert_array_equal(ours.run(None, {"features": x})[0], open_session(model).run(None, {"features": x})[0])
    assert ours._plan is None


def graph_of(tree: Tree) -> bytes:
    """Return the graph of a tree's leaves, twice."""
    twice = Forest(trees=(tree, tree), n_features=N_FEATURES, sigmoid=None)
    nodes = [
        helper.make_node("Cast", ["features"], ["wide"], to=TensorProto.DOUBLE),
        ensemble_node(twice, features="wide", output="sums"),
    ]
    first, last = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", n])]
        for name, n in (("features", N_FEATURES), ("sums", 1))
    )
    return finished(model_of(helper.make_graph(nodes, "trees", first, last)))


@pytest.mark.parametrize("falls", ["left", "right"])
@pytest.mark.parametrize("depth", [31, 32, 33, 70])
def test_a_tree_like_a_ladder_is_cut_or_left_to_onnx_runtime(falls: str, depth: int) -> None:
    """A way down of more than 32 comparisons cannot be shared by the parts of a tree."""
    splits = np.arange(depth)
    leaves, rungs = ~splits, np.append(splits[1:], ~depth)
    ladder = Tree(
        feature=splits % N_FEATURES,
        threshold=np.linspace(0.1, 2, depth)[:: -1 if falls == "left" else 1],
        nan_goes_left=np.zeros(depth, dtype=np.bool_),
        left=rungs if falls == "left" else leaves,
        right=leaves if falls == "left" else rungs,
        leaf_value=np.random.default_rng(0).normal(size=depth + 1),
    )
    model = graph_of(ladder)
    x, ours = inputs(session._WORTH_ROWS), ForestSession(model)
    np.testing.assert_array_equal(ours.run(None, {"features": x})[0], open_session(model).run(None, {"features": x})[0])


def test_trees_of_one_leaf_are_no_forest() -> None:
    """A booster that found nothing to split on gives its constant."""
    booster = lightgbm.train(
        {"objective": "binary", "verbose": -1, "num_threads": 1},
        lightgbm.Dataset(np.zeros((100, N_FEATURES)), np.arange(100) % 2),
        2,
    )
    model = lightgbm_model(booster)
    ours, x = ForestSession(model), inputs(session._WORTH_ROWS)
    np.testing.assert_array_equal(ours.run(None, {"features": x})[0], open_session(model).run(None, {"features": x})[0])


def changed(model: bytes, change: str) -> bytes:
    """Return the graph with another function in place of plain float64 trees."""
    proto = onnx.load_from_string(model)
    node = next(node for node in proto.graph.node if node.op_type == "TreeEnsembleRegressor")
    if change == "aggregate":
        node.attribute.append(helper.make_attribute("aggregate_function", "MAX"))
    elif change == "mode":
        modes = next(each for each in node.attribute if each.name == "nodes_modes")
        modes.strings[:] = [b"BRANCH_LT" if mode == b"BRANCH_LEQ" else mode for mode in modes.strings]
    else:
        doubled = next(each for each in proto.graph.node if each.op_type == "Cast" and each.input[0] == "features")
        proto.graph.initializer.append(numpy_helper.from_array(np.array(2, np.float32), "two"))
        proto.graph.node.insert(0, helper.make_node("Mul", ["features", "two"], ["twice"]))
        doubled.input[0] = "twice"
    onnx.checker.check_model(proto)
    content: bytes = proto.SerializeToString()
    return content


@pytest.mark.parametrize("change", ["aggregate", "mode", "input"])
def test_other_functions_stay_with_onnx_runtime(change: str) -> None:
    """A maximum of trees, < in place of <=, trees of something else than the input: none of them is taken over."""
    model = changed(grown(leaves=8), change)
    assert graph.ensembles(model, input_name="features") == []
    assert len(onnx.load_from_string(model).graph.input) == 1


def network(columns: int) -> bytes:
    """Return a graph that no trees are in: one layer, squashed."""
    weights = np.random.default_rng(3).normal(size=(columns, 1)).astype(np.float32) / 10
    nodes = [
        helper.make_node("Tanh", ["features"], ["squashed"]),
        helper.make_node("MatMul", ["squashed", "weights"], ["sum"]),
        helper.make_node("Squeeze", ["sum", "axis"], ["flat"]),
        helper.make_node("Sigmoid", ["flat"], ["probability"]),
    ]
    first = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", columns])]
    last = [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["batch"])]
    tensors = [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.array([1]), "axis")]
    made = helper.make_graph(nodes, "network", first, last, tensors)
    content: bytes = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    ).SerializeToString()
    return content


PAIRS = ((0, 1), (2, 3), (4, 0))
QUOTIENTS = graphs.quotients_model(PAIRS, n_columns=N_FEATURES)


def isolation(leaves: int = 64) -> bytes:
    """Return the graph of an isolation forest."""
    forest = IsolationForest(n_estimators=10, max_samples=leaves, random_state=0).fit(inputs(2000))
    return graphs.isolation_model([each.tree_ for each in forest.estimators_], n_columns=N_FEATURES)


def composed(kind: str) -> bytes:
    """Return a graph made of graphs."""
    wide = N_FEATURES + len(PAIRS)
    if kind == "quotients":
        return graphs.with_columns(grown(leaves=16, columns=wide), [QUOTIENTS])
    if kind == "isolation":
        return graphs.with_columns(grown(leaves=16, columns=wide + 1), [QUOTIENTS, isolation()])
    if kind == "blend of trees":
        return graphs.blend([grown(leaves=16, seed=seed) for seed in (1, 2, 3)], [0.5, 0.3, 0.4], -0.1)
    if kind == "blend with quotients":
        members = [graphs.with_columns(grown(leaves=n, columns=wide), [QUOTIENTS]) for n in (8, 40)]
        return graphs.blend(members, [0.7, 0.2], 0.05)
    members = [graphs.with_columns(grown(leaves=16, columns=wide + 1), [QUOTIENTS, isolation()]), network(N_FEATURES)]
    return graphs.blend(members, [0.7, 0.2], 0.05)


@pytest.mark.parametrize(
    ("kind", "n_forests"),
    [("quotients", 1), ("isolation", 2), ("blend of trees", 3), ("blend with quotients", 2), ("network", 2)],
)
def test_forests_inside_larger_graphs_are_taken_over(kind: str, n_forests: int) -> None:
    """Quotients of inputs, an isolation forest's column, a blend, a network beside: the bits of the whole graph."""
    model = composed(kind)
    ours, whole = ForestSession(model), open_session(model)
    n = session._WORTH_ROWS
    for x in (inputs(n), inputs(n + 3, seed=5), np.clip(extremes(n), -1e30, 1e30)):
        expected = whole.run(["probability"], {"features": x})[0]
        np.testing.assert_array_equal(ours.run(["probability"], {"features": x})[0], expected)
    assert ours._plan is not None
    assert len(ours._plan.steps) == n_forests


def test_a_forest_behind_one_that_stays_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel does not take, ONNX Runtime does on the way."""
    model, x = composed("isolation"), inputs(session._WORTH_ROWS)
    honest = forest_module.forest_of
    monkeypatch.setattr(forest_module, "forest_of", lambda found: None if "path" in found.output else honest(found))
    ours = ForestSession(model)
    np.testing.assert_array_equal(ours.run(None, {"features": x})[0], open_session(model).run(None, {"features": x})[0])
    assert ours._plan is not None
    assert [step.source for step in ours._plan.steps] == ["columns"]


def test_a_graph_with_graphs_inside_is_left_alone() -> None:
    """A branch may read any value of the graph around it, and says so nowhere."""
    proto = onnx.load_from_string(grown(leaves=8))
    proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
    branch = helper.make_graph(
        [helper.make_node("Identity", ["probability"], ["inside"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inside", TensorProto.FLOAT, ["batch"])],
    )
    proto.graph.node.append(helper.make_node("If", ["always"], ["copy"], then_branch=branch, else_branch=branch))
    proto.graph.output[0].name = "copy"
    model, x = proto.SerializeToString(), inputs(session._WORTH_ROWS)
    assert graph.ensembles(model, input_name="features") == []
    ours = ForestSession(model)
    np.testing.assert_array_equal(ours.run(None, {"features": x})[0], open_session(model).run(None, {"features": x})[0])


def test_a_part_holds_what_its_values_need_and_no_more() -> None:
    """The columns ahead of the trees, without the trees; the onnx package accepts it."""
    part = onnx.load_from_string(graph.part(composed("isolation"), given=["column1_path_length"], wanted=["columns"]))
    onnx.checker.check_model(part)
    kinds = [node.op_type for node in part.graph.node]
    assert "TreeEnsembleRegressor" not in kinds
    assert kinds[-1] == "Concat"
    assert [each.name for each in part.graph.input] == ["features", "column1_path_length"]
    assert [each.name for each in part.graph.output] == ["columns"]


@pytest.mark.parametrize("kind", ["plain", "blend of trees"])
def test_a_kernel_that_differs_is_not_used(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One unit in the last place on one row is enough; the bundle's graph is the truth."""
    model = grown(leaves=31) if kind == "plain" else composed(kind)
    x = inputs(session._WORTH_ROWS)
    honest = forest_module.forest_of

    def nudged(found: graph.Ensemble) -> forest_module.Forest:
        forest = honest(found)
        assert forest is not None
        leaf = forest.leaf.copy()
        leaf[0] += 1e-6
        return replace(forest, leaf=leaf)

    monkeypatch.setattr(forest_module, "forest_of", nudged)
    with caplog.at_level(logging.WARNING):
        answer = ForestSession(model).run(["probability"], {"features": x})[0]
    assert "the tree kernel differs from ONNX Runtime" in caplog.text
    np.testing.assert_array_equal(answer, open_session(model).run(["probability"], {"features": x})[0])


def test_a_graph_that_differs_without_its_trees_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The last look, on the rows of the call itself, is at what the graph gives in the end."""
    model, x = grown(leaves=31), inputs(session._WORTH_ROWS)
    monkeypatch.setattr(ForestSession, "_gives_the_same", lambda *_: True)
    honest = forest_module.forest_of

    def other(found: graph.Ensemble) -> forest_module.Forest:
        forest = honest(found)
        assert forest is not None
        return replace(forest, leaf=forest.leaf + 1e-3)

    monkeypatch.setattr(forest_module, "forest_of", other)
    with caplog.at_level(logging.WARNING):
        answer = ForestSession(model).run(["probability"], {"features": x})[0]
    assert "the graph without its trees differs" in caplog.text
    np.testing.assert_array_equal(answer, open_session(model).run(["probability"], {"features": x})[0])
