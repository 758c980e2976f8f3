"""The tree kernel: ONNX Runtime's own numbers to the last bit, or ONNX Runtime itself."""

from __future__ import annotations

import logging
from typing import Any

import lightgbm
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quatrain.core.export import lightgbm_model
from quatrain.core.inference import open_session
from quatrain.fintech.score import graph, session
from quatrain.fintech.score.forest import forest_of
from quatrain.fintech.score.session import ForestSession

N_FEATURES = 5
Floats32 = NDArray[np.float32]


def grown(*, leaves: int, rounds: int = 12, seed: int = 0, rows: int = 3000) -> bytes:
    """Return the graph of a small LightGBM model of 5 inputs."""
    rng = np.random.default_rng(seed)
    x = rng.lognormal(size=(rows, N_FEATURES)).astype(np.float32)
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
    return np.asarray(open_session(graph.showing(model, [name])).run([name], {"features": x})[0])


@settings(deadline=None, max_examples=12)
@given(leaves=st.integers(2, 80), seed=st.integers(0, 2**16), n=st.integers(1, 700))
def test_sums_are_those_of_onnx_runtime_to_the_last_bit(leaves: int, seed: int, n: int) -> None:
    """Trees of up to 32 leaves as they are, larger ones cut; rows anywhere, on thresholds, and beside them."""
    model = grown(leaves=leaves, seed=seed, rounds=6)
    (found,) = graph.ensembles(model, input_name="features")
    forest = forest_of(found)
    assert forest is not None
    for x in (inputs(n, seed), forest.probes(N_FEATURES)):
        np.testing.assert_array_equal(forest.sums(x), sums_of(model, x))


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
    rest = graph.without(model, [found.output])
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
    assert (ours._rest is not ours._whole) == (n >= session._WORTH_ROWS)
    assert [(each.name, each.type) for each in ours.get_inputs()] == [("features", "tensor(float)")]
    assert [each.name for each in ours.get_outputs()] == ["probability"]


def test_trees_too_large_for_the_kernel_stay_with_onnx_runtime() -> None:
    """Walking down one of a thousand leaves is faster than asking all of its nodes."""
    model, x = grown(leaves=400, rounds=3, rows=6000), inputs(session._WORTH_ROWS)
    ours = ForestSession(model)
    np.testing.assert_array_equal(ours.run(None, {"features": x})[0], open_session(model).run(None, {"features": x})[0])
    assert ours._rest is ours._whole


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


def test_two_forests_in_one_graph_are_both_taken_over() -> None:
    """As in a blend of boosters with two seeds."""
    first, second = (onnx.load_from_string(grown(leaves=16, seed=seed)) for seed in (1, 2))
    renamed = onnx.compose.add_prefix(second, "b/", rename_inputs=False)
    nodes = [*first.graph.node, *renamed.graph.node, helper.make_node("Max", ["probability", "b/probability"], ["top"])]
    for node in nodes:
        node.input[:] = ["features" if name == "b/features" else name for name in node.input]
    merged = helper.make_graph(
        nodes,
        "two",
        first.graph.input,
        [helper.make_tensor_value_info("top", TensorProto.FLOAT, ["batch"])],
        [*first.graph.initializer, *renamed.graph.initializer],
    )
    model = helper.make_model(merged, opset_imports=first.opset_import, ir_version=first.ir_version).SerializeToString()
    x, ours = inputs(session._WORTH_ROWS), ForestSession(model)
    np.testing.assert_array_equal(
        ours.run(["top"], {"features": x})[0], open_session(model).run(None, {"features": x})[0]
    )
    assert len(ours._prepared()) == 2


def test_a_kernel_that_differs_is_not_used(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """One unit in the last place on one row is enough; the bundle's graph is the truth."""
    model, x = grown(leaves=31), inputs(session._WORTH_ROWS)
    honest = session.ForestSession._found

    def nudged(self: ForestSession) -> dict[str, Any]:
        forests = honest(self)
        for forest in forests.values():
            leaf = forest.leaf.copy()
            leaf[0] += 1e-6
            object.__setattr__(forest, "leaf", leaf)
        return forests

    monkeypatch.setattr(ForestSession, "_found", nudged)
    with caplog.at_level(logging.WARNING):
        answer = ForestSession(model).run(["probability"], {"features": x})[0]
    assert "differs from ONNX Runtime" in caplog.text
    np.testing.assert_array_equal(answer, open_session(model).run(["probability"], {"features": x})[0])
