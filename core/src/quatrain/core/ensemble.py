"""A forest as the ONNX node that evaluates it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.trees import Forest, Tree

if TYPE_CHECKING:
    import onnx

ML_DOMAIN = "ai.onnx.ml"
# TreeEnsembleRegressor takes float64 thresholds and leaves from this version of ai.onnx.ml on.
ML_OPSET = 3


def ensemble_node(forest: Forest, *, features: str, output: str) -> onnx.NodeProto:
    """Return the node that adds the forest's leaves: float64 (batch, features) in, float32 (batch, 1) out.

    Leaves are added in float64, times the slope of the forest's sigmoid where it has one.
    """
    from onnx import helper

    return helper.make_node("TreeEnsembleRegressor", [features], [output], domain=ML_DOMAIN, **_attributes(forest))


def _attributes(forest: Forest) -> dict[str, Any]:
    """Return the node's attributes: in each tree the splits first, then the leaves."""
    from onnx import numpy_helper

    attributes: dict[str, list[Any]] = {}
    thresholds: list[NDArray[np.float64]] = []
    leaves: list[NDArray[np.float64]] = []
    for index, tree in enumerate(forest.trees):
        for name, values in _nodes(tree, index).items():
            attributes.setdefault(name, []).extend(values)
        thresholds += [tree.threshold, np.zeros(len(tree.leaf_value))]
        leaves.append(tree.leaf_value * (forest.sigmoid or 1.0))
    return {
        **attributes,
        "nodes_values_as_tensor": numpy_helper.from_array(np.concatenate(thresholds)),
        "target_weights_as_tensor": numpy_helper.from_array(np.concatenate(leaves)),
        "n_targets": 1,
    }


def _nodes(tree: Tree, index: int) -> dict[str, Iterable[Any]]:
    n_splits, n_leaves = len(tree.threshold), len(tree.leaf_value)
    n_nodes = n_splits + n_leaves
    no_child = [0] * n_leaves

    def child(places: NDArray[np.int64]) -> list[int]:
        return [*np.where(places >= 0, places, n_splits + ~places).tolist(), *no_child]

    return {
        "nodes_treeids": [index] * n_nodes,
        "nodes_nodeids": range(n_nodes),
        "nodes_featureids": [*tree.feature.tolist(), *no_child],
        "nodes_modes": ["BRANCH_LEQ"] * n_splits + ["LEAF"] * n_leaves,
        "nodes_truenodeids": child(tree.left),
        "nodes_falsenodeids": child(tree.right),
        "nodes_missing_value_tracks_true": [*tree.nan_goes_left.astype(int).tolist(), *no_child],
        "target_treeids": [index] * n_leaves,
        "target_nodeids": range(n_splits, n_nodes),
        "target_ids": no_child,
    }
