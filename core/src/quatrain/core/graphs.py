"""Graphs made of graphs: models on one input blended into one, and columns computed ahead of a model.

Every graph here has one input, float32 (batch, columns), and one output.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quatrain.core.ensemble import ensemble_node
from quatrain.core.errors import require
from quatrain.core.export import finished, model_of
from quatrain.core.trees import Forest, Tree, float32_not_above

if TYPE_CHECKING:
    import onnx

# Probabilities are read as if they lay between these; the larger is between the last two float32 of [0, 1].
SMALLEST, LARGEST = 2.0**-30, 1 - 2.0**-25
# No quotient is farther from 0: what comes after it may multiply it, and float32 ends at 3e38.
LARGEST_QUOTIENT = 1e15
# Path lengths are multiples of this: their sums are exact in float64, in whatever order trees are added.
_PATH_STEP = 2.0**-20
_NO_CHILD = -1
_MATRIX = 2
_EXTRA = "quatrain-core[train]"


class IsolationTree(Protocol):
    """What is needed of a fitted sklearn tree, `estimator.tree_`; a child of -1 is none."""

    children_left: NDArray[np.intp]
    children_right: NDArray[np.intp]
    feature: NDArray[np.intp]
    threshold: NDArray[np.float64]
    n_node_samples: NDArray[np.intp]


def blended(
    probabilities: Sequence[NDArray[np.float32]], weights: Sequence[float], intercept: float
) -> NDArray[np.float64]:
    """Return sigmoid(intercept + sum of weight x log odds), of shape (n,): what the graph of `blend` gives."""
    odds = np.full(len(probabilities[0]), float(intercept))
    for probability, weight in zip(probabilities, weights, strict=True):
        odds += weight * log_odds(probability)
    return np.asarray(np.exp(-np.logaddexp(0, -odds)))


def log_odds(probability: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the log odds of probabilities, finite also of 0 and 1."""
    inside = np.clip(probability.astype(np.float64), SMALLEST, LARGEST)
    return np.asarray(np.log(inside) - np.log(1 - inside))


def quotients(x: NDArray[np.float32], pairs: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
    """Return x[:, i] / x[:, j] for each pair (i, j), 1 where x[:, j] is not above 0: float32 (n, len(pairs)).

    One float32 division each, so that the graph of `quotients_model` gives the same bits.
    """
    above, below = x[:, [i for i, _ in pairs]], x[:, [j for _, j in pairs]]
    with np.errstate(over="ignore", invalid="ignore"):
        quotient = above / np.where(below > 0, below, np.float32(1))
    quotient = np.where(below > 0, quotient, np.float32(1))
    return np.clip(quotient, np.float32(-LARGEST_QUOTIENT), np.float32(LARGEST_QUOTIENT))


def quotients_model(pairs: Sequence[tuple[int, int]], *, n_columns: int, input_name: str = "features") -> bytes:
    """Return `quotients` as a graph with the output `quotients`."""
    require("onnx", package=_EXTRA)
    from onnx import helper

    nodes = [
        helper.make_node("Gather", [input_name, "above_at"], ["above"], axis=1),  # (batch, pairs)
        helper.make_node("Gather", [input_name, "below_at"], ["below"], axis=1),
        helper.make_node("Greater", ["below", "zero"], ["is_divisible"]),
        helper.make_node("Where", ["is_divisible", "below", "one"], ["divisor"]),
        helper.make_node("Div", ["above", "divisor"], ["raw_quotient"]),
        helper.make_node("Where", ["is_divisible", "raw_quotient", "one"], ["quotient"]),
        helper.make_node("Clip", ["quotient", "least", "most"], ["quotients"]),
    ]
    numbers = {"zero": 0.0, "one": 1.0, "least": -LARGEST_QUOTIENT, "most": LARGEST_QUOTIENT}
    constants: dict[str, NDArray[Any]] = {name: np.array(value, np.float32) for name, value in numbers.items()}
    constants |= {"above_at": np.array([i for i, _ in pairs]), "below_at": np.array([j for _, j in pairs])}
    return _assembled(nodes, constants, source=_Port(input_name, n_columns), output=_Port("quotients", len(pairs)))


def isolation_model(trees: Sequence[IsolationTree], *, n_columns: int, input_name: str = "features") -> bytes:
    """Return an isolation forest as a graph: `path_length`, float32 (batch, 1), the mean over the trees.

    The shorter, the odder: the anomaly score is 2^(-length / average_path(samples per tree)) (Liu,
    Ting and Zhou, "Isolation Forest", ICDM 2008). Every batch size gives the same bits.
    """
    require("onnx", package=_EXTRA)
    from onnx import TensorProto, helper

    forest = Forest(trees=tuple(_paths(tree, len(trees)) for tree in trees), n_features=n_columns, sigmoid=None)
    nodes = [
        helper.make_node("Cast", [input_name], ["wide"], to=TensorProto.DOUBLE),
        ensemble_node(forest, features="wide", output="path_length"),
    ]
    return _assembled(nodes, {}, source=_Port(input_name, n_columns), output=_Port("path_length", 1))


def average_path(n_samples: NDArray[np.number[Any]]) -> NDArray[np.float64]:
    """Return the expected path length of a search that fails in a tree of so many samples (Liu et al., equation 1)."""
    n = np.asarray(n_samples, dtype=np.float64)
    several = np.maximum(n, 3)
    harmonic = np.log(several - 1) + np.euler_gamma
    return np.where(n <= 1, 0.0, np.where(n == _MATRIX, 1.0, 2 * harmonic - 2 * (several - 1) / several))


def blend(models: Sequence[bytes], weights: Sequence[float], intercept: float) -> bytes:
    """Return one graph of several models' `probability`: their log odds weighted, added, and mapped back.

    The models give float32 (batch,) for one common input. Raises ValueError for inputs that differ,
    and for weights that are not one finite number for each model.
    """
    if not models or len(models) != len(weights) or not np.isfinite([*weights, intercept]).all():
        raise ValueError(f"{len(models)} models need as many finite weights and an intercept, got {[*weights]}")
    require("onnx", package=_EXTRA)
    from onnx import TensorProto, helper

    parts = [_Part(onnx, f"member{place}_") for place, onnx in enumerate(models)]
    source = _common(parts)
    nodes = [node for part in parts for node in part.nodes(source.name)]
    numbers = {"intercept": intercept, "one": 1.0, "smallest": SMALLEST, "largest": LARGEST}
    for place, (part, weight) in enumerate(zip(parts, weights, strict=True)):
        nodes += _term(part.output.name, f"blend{place}_")
        numbers[f"blend{place}_weight"] = weight
    nodes += [
        helper.make_node("Sum", ["intercept", *(f"blend{place}_term" for place in range(len(parts)))], ["odds"]),
        helper.make_node("Sigmoid", ["odds"], ["blend64"]),
        helper.make_node("Cast", ["blend64"], ["probability"], to=TensorProto.FLOAT),
    ]
    constants = {name: np.array(value, dtype=np.float64) for name, value in numbers.items()}
    return _assembled(nodes, constants, source=source, output=_Port("probability", None), parts=parts)


def with_columns(model: bytes, columns: Sequence[bytes]) -> bytes:
    """Return the model fed with the input's columns and, after them, what the other graphs make of these.

    Each of `columns` gives float32 (batch, m); the model takes all of them side by side. Raises
    ValueError where the widths do not add up, or the inputs differ.
    """
    require("onnx", package=_EXTRA)
    from onnx import helper

    parts = [_Part(onnx, f"column{place}_") for place, onnx in enumerate(columns)]
    last = _Part(model, "model_")
    source = _common(parts)
    widths = [port.width or 0 for port in (source, *(part.output for part in parts))]
    if last.input.width != sum(widths):
        raise ValueError(f"the model takes {last.input.width} columns, got {' + '.join(map(str, widths))}")
    nodes = [
        *(node for part in parts for node in part.nodes(source.name)),
        helper.make_node("Concat", [source.name, *(part.output.name for part in parts)], ["columns"], axis=1),
        *last.nodes("columns"),
        helper.make_node("Identity", [last.output.name], [last.named]),
    ]
    return _assembled(nodes, {}, source=source, output=_Port(last.named, last.output.width), parts=[*parts, last])


@dataclass(frozen=True)
class _Port:
    """A graph's input or output; a width of None means one value a row, of shape (batch,)."""

    name: str
    width: int | None


class _Part:
    """A graph about to become a part of another, its names made its own by a prefix."""

    def __init__(self, onnx: bytes, prefix: str) -> None:
        import onnx as package

        model = package.load_from_string(onnx)
        if model.functions or len(model.graph.input) != 1 or len(model.graph.output) != 1:
            raise ValueError("a part of a graph has one input, one output and no functions of its own")
        self.source = _port(model.graph.input[0])
        self.named = model.graph.output[0].name
        self.graph = package.compose.add_prefix(model, prefix).graph
        self.input, self.output = _port(self.graph.input[0]), _port(self.graph.output[0])

    def nodes(self, source: str) -> Iterable[onnx.NodeProto]:
        """Yield the nodes, reading `source` in place of the part's own input."""
        for node in self.graph.node:
            names = [source if name == self.input.name else name for name in node.input]
            del node.input[:]
            node.input.extend(names)
            yield node


def _port(value: onnx.ValueInfoProto) -> _Port:
    dims = value.type.tensor_type.shape.dim
    return _Port(value.name, dims[1].dim_value if len(dims) == _MATRIX else None)


def _common(parts: Sequence[_Part]) -> _Port:
    sources = {part.source for part in parts}
    if len(sources) != 1:
        raise ValueError(f"the graphs need one common input, got {sorted(map(str, sources))}")
    return sources.pop()


def _term(probability: str, prefix: str) -> list[onnx.NodeProto]:
    """Return the nodes of weight x log odds, in float64: near 1 a float32 has lost the digits of 1 - p."""
    from onnx import TensorProto, helper

    return [
        helper.make_node("Cast", [probability], [f"{prefix}wide"], to=TensorProto.DOUBLE),
        helper.make_node("Clip", [f"{prefix}wide", "smallest", "largest"], [f"{prefix}inside"]),
        helper.make_node("Log", [f"{prefix}inside"], [f"{prefix}log"]),
        helper.make_node("Sub", ["one", f"{prefix}inside"], [f"{prefix}rest"]),
        helper.make_node("Log", [f"{prefix}rest"], [f"{prefix}log_rest"]),
        helper.make_node("Sub", [f"{prefix}log", f"{prefix}log_rest"], [f"{prefix}odds"]),
        helper.make_node("Mul", [f"{prefix}weight", f"{prefix}odds"], [f"{prefix}term"]),
    ]


def _assembled(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, NDArray[Any]],
    *,
    source: _Port,
    output: _Port,
    parts: Sequence[_Part] = (),
) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    ends = [
        helper.make_tensor_value_info(port.name, TensorProto.FLOAT, ["batch"] + ([port.width] if port.width else []))
        for port in (source, output)
    ]
    tensors += [tensor for part in parts for tensor in part.graph.initializer]
    return finished(model_of(helper.make_graph(nodes, "quatrain", ends[:1], ends[1:], tensors)))


def _paths(tree: IsolationTree, n_trees: int) -> Tree:
    """Return the tree whose leaves hold their share of the mean path length."""
    left, right = np.asarray(tree.children_left), np.asarray(tree.children_right)
    is_leaf = left == _NO_CHILD
    # A child is named by its place among the splits, or by ~place among the leaves.
    place = np.where(is_leaf, ~(np.cumsum(is_leaf) - 1), np.cumsum(~is_leaf) - 1)
    depth = np.zeros(len(left))
    for node in np.flatnonzero(~is_leaf):  # a parent comes before its children
        depth[[left[node], right[node]]] = depth[node] + 1
    length = (depth + average_path(tree.n_node_samples))[is_leaf] / n_trees
    return Tree(
        feature=np.asarray(tree.feature)[~is_leaf].astype(np.int64),
        threshold=float32_not_above(np.asarray(tree.threshold)[~is_leaf]),
        nan_goes_left=np.zeros(int((~is_leaf).sum()), dtype=np.bool_),
        left=place[left[~is_leaf]].astype(np.int64),
        right=place[right[~is_leaf]].astype(np.int64),
        leaf_value=np.round(length / _PATH_STEP) * _PATH_STEP,
    )
