"""NaN stays NaN: quantised graphs turn it into a plausible answer, unless a guard carries it past them.

An int8 number has no NaN: where fp32 gives NaN, the quantised graph rounds it to some level and goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.compression.measures import Arrays, Predict

if TYPE_CHECKING:
    import onnx

_FLOATS = frozenset({"float16", "float32", "float64"})
# Places of an input's row that are tried, spread evenly over it.
_MAX_PLACES = 64


def swallowed(parent: Predict, graph: Predict, specs: Sequence[TensorSpec], rows: Arrays) -> str | None:
    """Return where `graph` gives numbers for NaN or infinity though `parent` gives none, or None.

    The graphs are asked as they are, without the check that `Model.predict` makes at the door.
    """
    for spec in specs:
        if spec.dtype not in _FLOATS:
            continue
        for poison in (np.nan, np.inf, -np.inf):
            poisoned, places = _poisoned(spec.name, rows, poison)
            expected, actual = parent(poisoned), graph(poisoned)
            for name, answer in actual.items():
                is_lost = _is_number(answer) & ~_is_number(expected[name])
                if is_lost.any():
                    row = int(is_lost.argmax())
                    return (
                        f"{poison} in {spec.name} (value {places[row]} of a row) gives {name} = "
                        f"{np.asarray(answer[row]).reshape(-1)[0]:.4g}, where the model before gives "
                        f"{np.asarray(expected[name][row]).reshape(-1)[0]}"
                    )
    return None


def add_guard(model: onnx.ModelProto, *, whole_batch: bool) -> None:
    """Make every float output NaN for a row with NaN or infinity in a float input; other rows keep their bits.

    `whole_batch` makes it so for all rows of such a batch, for graphs that scale rows by their neighbours.
    A graph without float inputs needs no guard and is left alone.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    sums = []
    for place, value in enumerate(graph.input):
        width = len(value.type.tensor_type.shape.dim)
        if value.type.tensor_type.elem_type not in _float_types():
            continue
        nothing = f"guard{place}_nothing"
        nodes = [
            helper.make_node("Cast", [value.name], [f"guard{place}_wide"], to=_FLOAT),
            # NaN and infinity times 0 are NaN, anything else is 0.
            helper.make_node("Mul", [f"guard{place}_wide", "guard_zero"], [nothing]),
        ]
        if width > 1 or whole_batch:
            axes = np.arange(0 if whole_batch else 1, width)
            graph.initializer.append(numpy_helper.from_array(axes, f"guard{place}_axes"))
            nodes.append(
                helper.make_node("ReduceSum", [nothing, f"guard{place}_axes"], [f"guard{place}_sum"], keepdims=0)
            )
            nothing = f"guard{place}_sum"
        graph.node.extend(nodes)
        sums.append(nothing)
    if not sums:
        return
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), "guard_zero"))
    graph.node.append(helper.make_node("Sum", sums, ["guard"]))  # (batch,), or () for the whole batch
    for place, value in enumerate(graph.output):
        if value.type.tensor_type.elem_type in _float_types():
            _guard_output(graph, value, place, whole_batch=whole_batch)


_FLOAT = 1


def _float_types() -> frozenset[int]:
    from onnx import TensorProto

    return frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE})


def _guard_output(graph: onnx.GraphProto, value: onnx.ValueInfoProto, place: int, *, whole_batch: bool) -> None:
    from onnx import helper, numpy_helper

    name, free = value.name, f"guard{place}_free"
    for node in graph.node:
        for names in (node.input, node.output):
            for index, each in enumerate(names):
                if each == name:
                    names[index] = free
    shaped = "guard"
    if not whole_batch and len(value.type.tensor_type.shape.dim) > 1:
        axes = np.arange(1, len(value.type.tensor_type.shape.dim))
        graph.initializer.append(numpy_helper.from_array(axes, f"guard{place}_inner"))
        shaped = f"guard{place}_shaped"
        graph.node.append(helper.make_node("Unsqueeze", ["guard", f"guard{place}_inner"], [shaped]))  # (batch, 1, ...)
    typed = f"guard{place}_typed"
    graph.node.append(helper.make_node("Cast", [shaped], [typed], to=value.type.tensor_type.elem_type))
    graph.node.append(helper.make_node("Add", [free, typed], [name]))


def _poisoned(name: str, rows: Arrays, poison: float) -> tuple[dict[str, np.ndarray], list[int]]:
    """Return copies of the first row, each with `poison` at another place of input `name`, and those places."""
    width = rows[name][0].size
    places = np.unique(np.linspace(0, width - 1, min(width, _MAX_PLACES)).astype(int))
    copies = {each: np.repeat(array[:1], len(places), axis=0) for each, array in rows.items()}
    copies[name].reshape(len(places), -1)[np.arange(len(places)), places] = poison
    return copies, places.tolist()


def _is_number(array: np.ndarray) -> np.ndarray:
    """Return whether each row is finite throughout."""
    return np.asarray(np.isfinite(array).reshape(len(array), -1).all(axis=1))
