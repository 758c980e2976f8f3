"""Step functions: what they give, and that a graph gives the same bits."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from quatrain.core.inference import open_session
from quatrain.core.steps import ML_DOMAIN, ML_OPSET, Steps, before, joined, lookup

Floats = NDArray[np.float32]
numbers = st.floats(-10, 10, width=32)


def steps(edges: list[float], *columns: list[float]) -> Steps:
    """Return a step function from plain numbers."""
    return Steps(np.array(edges, dtype=np.float32), np.array(columns, dtype=np.float32).T)


def around(edges: Floats) -> Floats:
    """Return every edge, its two neighbours in float32, and what lies far outside."""
    far = np.array([-np.inf, -3e38, 0, 3e38, np.inf], dtype=np.float32)
    return np.concatenate([edges, before(edges), -before(-edges), far])


def in_graph(function: Steps, x: Floats, *, batch: int | None = None) -> Floats:
    """Return what a graph that is nothing but the lookup gives."""
    graph = helper.make_graph(
        [lookup(function, score="x", output="y")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", function.values.shape[1]])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(ML_DOMAIN, ML_OPSET)]
    session = open_session(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    size = batch or len(x)
    parts = [session.run(["y"], {"x": x[i : i + size, None]})[0] for i in range(0, len(x), size)]
    return np.concatenate(parts)


def test_a_step_ends_at_its_edge() -> None:
    """An edge belongs to the step on its left, the next float32 to the one on its right."""
    function = steps([0.25, 0.5], [1, 2, 3])
    x = np.array([0, 0.25, np.nextafter(np.float32(0.25), np.float32(1)), 0.5, 1], dtype=np.float32)
    assert function(x)[:, 0].tolist() == [1, 1, 2, 2, 3]
    assert len(function) == 3


@given(edges=st.sets(numbers, min_size=1, max_size=40), n_columns=st.integers(1, 3))
@settings(deadline=None, max_examples=60)
def test_the_graph_gives_the_same_bits(edges: set[float], n_columns: int) -> None:
    """At every edge and beside it, for any number of steps and columns."""
    values = np.random.default_rng(len(edges)).normal(size=(len(edges) + 1, n_columns)).astype(np.float32)
    function = Steps(np.array(sorted(edges), dtype=np.float32) + np.float32(0), values)
    x = around(function.edges)
    np.testing.assert_array_equal(in_graph(function, x), function(x))


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_a_thousand_steps_are_exact_at_every_batch_size(batch: int) -> None:
    """ONNX Runtime has other code for one row and for many."""
    rng = np.random.default_rng(0)
    edges = np.unique(rng.random(1000).astype(np.float32))
    function = Steps(edges, rng.random((len(edges) + 1, 2)).astype(np.float32))
    x = around(edges)[::7]
    np.testing.assert_array_equal(in_graph(function, x, batch=batch), function(x))


def test_the_lookup_is_as_shallow_as_a_tree_can_be() -> None:
    """1,023 edges take ten comparisons whatever the score."""
    edges = np.arange(1023, dtype=np.float32)
    node = lookup(Steps(edges, np.arange(1024, dtype=np.float32)[:, None]), score="x", output="y")
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    depth = {0: 0}
    for at, (yes, no) in enumerate(zip(attributes["nodes_truenodeids"], attributes["nodes_falsenodeids"], strict=True)):
        if at < 1023:
            depth[yes] = depth[no] = depth[at] + 1
    assert set(range(2047)) == set(depth)
    assert {depth[leaf] for leaf in range(1023, 2047)} == {10}


def test_a_constant_needs_no_lookup() -> None:
    """A tree without a split is no tree."""
    with pytest.raises(ValueError, match="a constant and needs no lookup"):
        lookup(steps([], [1]), score="x", output="y")


@given(first=st.sets(numbers, max_size=12), second=st.sets(numbers, max_size=12))
@settings(deadline=None)
def test_joined_functions_keep_their_values(first: set[float], second: set[float]) -> None:
    """Each column is its function, everywhere."""
    functions = [
        Steps(np.array(sorted(edges), dtype=np.float32), np.arange(len(edges) + 1, dtype=np.float32)[:, None])
        for edges in (first, second)
    ]
    x = around(np.array(sorted(first | second), dtype=np.float32))
    np.testing.assert_array_equal(joined(*functions)(x), np.hstack([function(x) for function in functions]))


def test_joined_leaves_out_steps_without_a_change() -> None:
    """Two equal steps are one, and an edge where any column changes stays."""
    both = joined(steps([1, 2, 3], [5, 5, 6, 6]), steps([3], [0, 1]))
    assert both.edges.tolist() == [2, 3]
    assert both.values.tolist() == [[5, 0], [6, 0], [6, 1]]


@pytest.mark.parametrize(
    ("edges", "values", "message"),
    [
        (np.zeros(1), np.zeros((2, 1), dtype=np.float32), "must be float32, got float64"),
        (
            np.zeros(1, dtype=np.float32),
            np.zeros((1, 1), dtype=np.float32),
            "values of shape (edges + 1, columns), got (1, 1)",
        ),
        (np.zeros(2, dtype=np.float32), np.zeros((3, 1), dtype=np.float32), "strictly increasing"),
        (np.array([np.nan], dtype=np.float32), np.zeros((2, 1), dtype=np.float32), "must be finite"),
    ],
    ids=["float64", "too few values", "repeated edge", "NaN"],
)
def test_what_no_lookup_can_hold_is_refused(edges: Floats, values: Floats, message: str) -> None:
    """A wrong table is refused where it is made."""
    with pytest.raises(ValueError, match=re.escape(message)):
        Steps(edges, values)


def test_scores_of_another_type_are_refused() -> None:
    """A float64 between two float32 would fall on the side of an edge that the graph never sees."""
    with pytest.raises(ValueError, match="x must be float32"):
        steps([0.5], [0, 1])(np.zeros(3))
