"""Bias correction: what rounding adds to a product's mean is taken off its bias.

Rounded weights and activations shift the mean of what a convolution gives, depthwise ones most, and
the layers after it pass the shift on (Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction", ICCV 2019, section 4.2; here with calibration rows, layer after layer).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from quatrain.core.compression.graph_edits import copy_of
from quatrain.core.compression.measures import Array, Arrays
from quatrain.core.inference import open_session

if TYPE_CHECKING:
    import onnx

# A mean settles with few rows, and every product needs a run of its own.
N_ROWS = 128
# Rows at a time: all that every product gives is in memory together.
_CHUNK = 16
_CHANNEL_AXIS = 1
_CORRECTED = frozenset({"Conv", "Gemm"})


@dataclass(frozen=True)
class _Product:
    """A product in integers with a bias: its node, what it gives, and the initialisers of its bias."""

    name: str
    output: str
    bias: str
    scale: str


def correct_biases(quantised: onnx.ModelProto, reference: onnx.ModelProto, rows: Arrays) -> int:
    """Give each product of the quantised graph the mean, by channel, that it has in the float one; return their number.

    Products are taken in the order in which they run, each after those before it were corrected.
    Afterwards a mean over the rows is within half a step of the int32 bias. Products without a bias in
    integers are left as they are.
    """
    from onnx import numpy_helper

    some = {name: array[:N_ROWS] for name, array in rows.items()}
    outputs = {node.name: node.output[0] for node in reference.graph.node}
    products = [product for product in _products(quantised.graph) if product.name in outputs]
    constants = {tensor.name: tensor for tensor in quantised.graph.initializer}
    wanted = _means(reference, [outputs[product.name] for product in products], some)
    for product, mean in zip(products, wanted, strict=True):
        shift = _means(quantised, [product.output], some)[0] - mean
        bias = constants[product.bias]
        steps = np.rint(shift / numpy_helper.to_array(constants[product.scale]))
        moved = (numpy_helper.to_array(bias) - steps).astype(np.int32)
        bias.CopyFrom(numpy_helper.from_array(moved, bias.name))
    return len(products)


def _products(graph: onnx.GraphProto) -> list[_Product]:
    made_by = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    constants = {tensor.name for tensor in graph.initializer}
    found = []
    for node in graph.node:
        has_bias = node.op_type in _CORRECTED and len(node.input) == 3 and node.input[2] in made_by  # noqa: PLR2004
        if has_bias and made_by[node.input[2]].input[0] in constants:
            bias, scale = made_by[node.input[2]].input[:2]
            found.append(_Product(node.name, node.output[0], bias, scale))
    return found


def _means(model: onnx.ModelProto, names: list[str], rows: Arrays) -> list[Array]:
    """Return the mean of each named tensor over all but its channels, float64 (channels,)."""
    from onnx import TensorProto, helper

    # With these as its only outputs, ONNX Runtime leaves out all that comes after them.
    shown = copy_of(model)
    del shown.graph.output[:]
    shown.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    if not names:
        return []
    session = open_session(shown.SerializeToString(), threads=1)
    n_rows = len(next(iter(rows.values())))
    sums: list[Array] = [np.zeros(1)] * len(names)
    for first in range(0, n_rows, _CHUNK):
        some = {name: array[first : first + _CHUNK] for name, array in rows.items()}
        n_some = len(next(iter(some.values())))
        sums = [total + n_some * _mean(answer) for total, answer in zip(sums, session.run(names, some), strict=True)]
    return [total / n_rows for total in sums]


def _mean(answer: Array) -> Array:
    others = tuple(axis for axis in range(answer.ndim) if axis != _CHANNEL_AXIS)
    mean: Array = answer.mean(axis=others, dtype=np.float64)
    return mean
