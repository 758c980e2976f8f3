"""Step functions of one score, exact in float32, and the one-tree lookup that gives them inside an ONNX graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

# As in core.export: the first version of ai.onnx.ml whose trees take tensors.
ML_DOMAIN = "ai.onnx.ml"
ML_OPSET = 3


@dataclass(frozen=True, eq=False)
class Steps:
    """Several step functions over common edges: column j of row i holds for edges[i - 1] < x <= edges[i].

    `edges` is float32 (K,), finite and strictly increasing; `values` float32 (K + 1, columns). Both
    are what the graph holds, so that the graph and `__call__` give the same bits.
    """

    edges: NDArray[np.float32]
    values: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Refuse what the lookup could not represent."""
        if self.edges.dtype != np.float32 or self.values.dtype != np.float32:
            raise ValueError(f"edges and values must be float32, got {self.edges.dtype} and {self.values.dtype}")
        if self.values.ndim != 2 or self.values.shape[0] != len(self.edges) + 1 or self.values.shape[1] == 0:  # noqa: PLR2004 - (rows, columns)
            raise ValueError(
                f"{len(self.edges)} edges need values of shape (edges + 1, columns), got {self.values.shape}"
            )
        if not np.isfinite(self.edges).all() or (np.diff(self.edges) <= 0).any():
            raise ValueError("edges must be finite and strictly increasing")

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the values at x, float32 of shape (n, columns); x must not be NaN."""
        if x.dtype != np.float32:
            raise ValueError(f"x must be float32, as the edges are; got {x.dtype}")
        return self.values[np.searchsorted(self.edges, x, side="left")]

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.values)


def before(edges: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the next smaller float32 of each edge, so that being at most that is being below the edge."""
    return np.nextafter(edges, np.float32(-np.inf))


def joined(*functions: Steps) -> Steps:
    """Return one function with the columns of all, over the edges of all; steps without a change are left out."""
    edges = np.unique(np.concatenate([function.edges for function in functions]))
    # A step's values are those at its right edge; the last one has none, and infinity stands for it.
    ends = np.append(edges, np.float32(np.inf))
    values = np.concatenate([function(ends) for function in functions], axis=1)
    is_kept = np.append((values[1:] != values[:-1]).any(axis=1), True)
    return Steps(edges[is_kept[:-1]], values[is_kept])


def lookup(steps: Steps, *, score: str, output: str) -> onnx.NodeProto:
    """Return the node that gives float32 (batch, columns) `output` at float32 (batch, 1) `score`.

    A balanced tree over one feature: about log2(K) comparisons a row, whatever the batch. There is
    one tree, so no sum can round its leaves. The node is of ai.onnx.ml, version 3.
    """
    from onnx import helper

    n_splits, n_columns = len(steps.edges), steps.values.shape[1]
    if n_splits == 0:
        raise ValueError("a function with one step is a constant and needs no lookup")
    edge, left, right = _balanced(n_splits)
    n_nodes = len(edge) + len(steps)
    leaf_ids = range(n_splits, n_nodes)
    no_child = [0] * len(steps)
    attributes: dict[str, Any] = {
        "nodes_treeids": [0] * n_nodes,
        "nodes_nodeids": range(n_nodes),
        "nodes_featureids": [0] * n_nodes,
        "nodes_modes": ["BRANCH_LEQ"] * n_splits + ["LEAF"] * len(steps),
        "nodes_values": [*steps.edges[edge].tolist(), *map(float, no_child)],
        "nodes_truenodeids": [*left.tolist(), *no_child],
        "nodes_falsenodeids": [*right.tolist(), *no_child],
        "target_treeids": [0] * (len(steps) * n_columns),
        "target_nodeids": [leaf for leaf in leaf_ids for _ in range(n_columns)],
        "target_ids": [*range(n_columns)] * len(steps),
        "target_weights": steps.values.ravel().tolist(),
    }
    return helper.make_node(
        "TreeEnsembleRegressor", [score], [output], None, None, ML_DOMAIN, n_targets=n_columns, **attributes
    )


def _balanced(n_splits: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return (edge, left child, right child) of each split; the root is split 0, step i is node n_splits + i."""
    edge, left, right = (np.empty(n_splits, dtype=np.int64) for _ in range(3))
    n_placed = 0

    # A subtree over the edges first..last - 1 decides between the steps first..last.
    def place(first: int, last: int) -> int:
        nonlocal n_placed
        if first == last:
            return n_splits + first
        node, middle = n_placed, (first + last) // 2
        n_placed += 1
        edge[node] = middle
        left[node], right[node] = place(first, middle), place(middle + 1, last)
        return node

    place(0, n_splits)
    return edge, left, right
