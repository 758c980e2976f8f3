"""Fewer boosted trees: the first ones hold most of what was learned, and each costs as much as any other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.compression.artifact import Artifact, Step
from quatrain.core.compression.gate import Promise, RefusedError
from quatrain.core.errors import require
from quatrain.core.export import finished

if TYPE_CHECKING:
    import onnx

_ENSEMBLE = "TreeEnsembleRegressor"
# Lists with one entry for each node of each tree begin so, lists with one for each leaf begin so.
_OF_NODES, _OF_LEAVES = "nodes_", "target_"
_EXTRA = "quatrain-core[train]"


@dataclass(frozen=True, kw_only=True)
class TrimTrees:
    """Keep the first `keep` trees in boosting order, or below 1 that share of them, leaves as they are.

    It needs no training data: what is left is what training had after so many rounds. Every boosted
    ensemble of the graph is cut alike; trees that are averaged, and tables written as one tree, are
    left alone. Where too much is lost, twice milder cuts are tried.
    """

    keep: float

    promise = Promise()

    def __post_init__(self) -> None:
        """Refuse to keep nothing, and parts of trees."""
        if self.keep <= 0 or (self.keep >= 1 and self.keep != int(self.keep)):
            raise ValueError(f"expected a whole number of trees, or a share of them between 0 and 1, got {self.keep}")

    @property
    def name(self) -> str:
        """What the report calls it."""
        return (
            f"first {self.keep:.0f} trees" if self.keep >= 1 else f"first {self.keep:.0%} of trees".replace("%", " %")
        )

    def settings(self) -> Mapping[str, Any]:
        """Return what decides the outcome."""
        return {"step": "trim trees", "keep": self.keep}

    def fallbacks(self, before: Artifact) -> Iterable[Step]:
        """Yield the step that takes half as many trees away, then a quarter."""
        require("onnx", package=_EXTRA)
        import onnx

        n_trees = max((len(_trees_of(node)) for node in _boosted(onnx.load_from_string(before.onnx).graph)), default=0)
        kept = _number(self.keep, n_trees)
        for part in (2, 4):
            more = n_trees - (n_trees - kept) // part
            if kept < more < n_trees:
                yield TrimTrees(keep=more)

    def apply(self, before: Artifact) -> Artifact:
        """Return the graph with fewer trees; raises RefusedError where there are no more than these."""
        require("onnx", package=_EXTRA)
        import onnx

        model = onnx.load_from_string(before.onnx)
        notes = []
        for node in _boosted(model.graph):
            trees = _trees_of(node)
            kept = _number(self.keep, len(trees))
            if kept < len(trees):
                _cut(node, trees[:kept])
                notes.append(f"{len(trees)} trees to {kept}")
        if not notes:
            raise RefusedError(f"no boosted ensemble of the graph has more trees than {self.name} keeps")
        return replace(before, onnx=finished(model), module=None, notes=tuple(notes))


def _number(keep: float, n_trees: int) -> int:
    return int(keep) if keep >= 1 else max(1, round(keep * n_trees))


def _boosted(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the ensembles whose trees correct one another.

    After the first tree their leaves have both signs; averaged trees, such as path lengths, do not.
    """
    found = []
    for node in graph.node:
        if node.op_type != _ENSEMBLE or len(trees := _trees_of(node)) < 2:  # noqa: PLR2004 - one tree is a table
            continue
        weights = _list(node, "target_weights")[_list(node, "target_treeids") != trees[0]]
        if (weights < 0).any() and (weights > 0).any():
            found.append(node)
    return found


def _trees_of(node: onnx.NodeProto) -> list[int]:
    """Return the ids of the node's trees in their order."""
    return list(dict.fromkeys(_list(node, "nodes_treeids").tolist()))


def _cut(node: onnx.NodeProto, trees: list[int]) -> None:
    """Leave these trees only."""
    from onnx import helper, numpy_helper

    stays = {
        _OF_NODES: np.isin(_list(node, "nodes_treeids"), trees),
        _OF_LEAVES: np.isin(_list(node, "target_treeids"), trees),
    }
    for attribute in list(node.attribute):
        prefix = next((prefix for prefix in stays if attribute.name.startswith(prefix)), None)
        if prefix is None:
            continue
        value = helper.get_attribute_value(attribute)
        if hasattr(value, "dims"):
            array = numpy_helper.to_array(value)[stays[prefix]]
            attribute.CopyFrom(helper.make_attribute(attribute.name, numpy_helper.from_array(array)))
        else:
            left = [item for item, is_kept in zip(value, stays[prefix], strict=True) if is_kept]
            attribute.CopyFrom(helper.make_attribute(attribute.name, left))


def _list(node: onnx.NodeProto, name: str) -> NDArray[Any]:
    """Return an attribute as an array, whether it came as a list or as a tensor."""
    from onnx import helper, numpy_helper

    for attribute in node.attribute:
        if attribute.name in (name, f"{name}_as_tensor"):
            value = helper.get_attribute_value(attribute)
            return numpy_helper.to_array(value) if hasattr(value, "dims") else np.array(value)
    return np.array([])
