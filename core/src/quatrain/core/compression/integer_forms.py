"""Quantised graphs in the forms that ONNX Runtime has integer kernels for, the numbers staying what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quatrain.core.compression.graph_edits import SHAPING

if TYPE_CHECKING:
    import onnx

_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
# From int8's least to uint8's.
_OFFSET = 128


def unsign_activations(graph: onnx.GraphProto) -> None:
    """Make int8 activations uint8 of the same values: the other kind runs in float where several products read it."""
    from onnx import numpy_helper

    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    moved = {}
    for node in graph.node:
        zero = constants.get(node.input[2]) if node.op_type == _QUANTIZE and len(node.input) > 2 else None  # noqa: PLR2004 - the zero point
        if zero is None or zero.dtype != np.int8:
            continue
        name = f"{node.output[0]}_zero"
        graph.initializer.append(numpy_helper.from_array((zero.astype(np.int16) + _OFFSET).astype(np.uint8), name))
        node.input[2] = name
        moved[node.output[0]] = name
    for node in graph.node:
        if node.op_type == _DEQUANTIZE and node.input[0] in moved:
            node.input[2] = moved[node.input[0]]


def quantise_biases(graph: onnx.GraphProto) -> None:
    """Give each Gemm of two dequantized factors its constant bias as int32, in units of both factors' scales."""
    from onnx import helper, numpy_helper

    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    added = []
    for node in graph.node:
        if node.op_type != "Gemm" or len(node.input) < 3 or node.input[2] not in constants:  # noqa: PLR2004 - the bias
            continue
        scales = [_scale_of(name, producers, constants) for name in node.input[:2]]
        if scales[0] is None or scales[1] is None:
            continue
        bias = constants[node.input[2]]
        unit = np.broadcast_to(scales[0] * scales[1], bias.shape).astype(np.float32)
        whole = np.clip(np.round(bias / unit), np.iinfo(np.int32).min, np.iinfo(np.int32).max).astype(np.int32)
        name = f"{node.name}_bias"
        graph.initializer.extend([numpy_helper.from_array(whole, f"{name}_int32")])
        graph.initializer.extend([numpy_helper.from_array(unit.copy(), f"{name}_scale")])
        wide = helper.make_node(
            _DEQUANTIZE, [f"{name}_int32", f"{name}_scale"], [f"{name}_wide"], name=f"{name}_wide", axis=0
        )
        added.append(wide)
        node.input[2] = f"{name}_wide"
    nodes = [*added, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _scale_of(
    name: str, producers: dict[str, onnx.NodeProto], constants: dict[str, NDArray[np.generic]]
) -> NDArray[np.float32] | None:
    """Return the scale that `name` was dequantized by, None where it was not."""
    while name in producers and producers[name].op_type in SHAPING:
        name = producers[name].input[0]
    node = producers.get(name)
    if node is None or node.op_type != _DEQUANTIZE or node.input[1] not in constants:
        return None
    return np.asarray(constants[node.input[1]], np.float32)
