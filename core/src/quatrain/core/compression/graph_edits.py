"""Small changes to quantised graphs."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

# Operators whose multiplications quantization is for.
MULTIPLYING = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU"})
_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy: ONNX Runtime's quantizer changes the model that it is given."""
    copy = type(model)()
    copy.CopyFrom(model)
    return copy


def keep_tail_in_float(graph: onnx.GraphProto) -> None:
    """Remove the rounding of activations that no convolution or matrix product comes after."""
    leading = _leads_to_product(graph)
    undone: dict[str, str] = {}
    dropped = set()
    for node in graph.node:
        if node.op_type == _QUANTIZE and node.output[0] not in leading:
            undone[node.output[0]] = node.input[0]
            dropped.add(node.output[0])
    for node in graph.node:
        if node.op_type == _DEQUANTIZE and node.input[0] in undone:
            undone[node.output[0]] = undone[node.input[0]]
            dropped.add(node.output[0])
    kept = [node for node in graph.node if node.output[0] not in dropped]
    outputs = {value.name for value in graph.output}
    for node in kept:
        for index, name in enumerate(node.input):
            node.input[index] = _origin(name, undone)
    for name in outputs & dropped:
        _rename_producer(kept, _origin(name, undone), name)
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in kept for name in node.input} | outputs
    constants = [constant for constant in graph.initializer if constant.name in used]
    del graph.initializer[:]
    graph.initializer.extend(constants)


def products_of(graph: onnx.GraphProto, operators: Collection[str] | None, left_out: Collection[str]) -> list[str]:
    """Return the names of nodes that multiply, of these operators (None: of all), but for those left out."""
    return [
        node.name
        for node in graph.node
        if node.op_type in MULTIPLYING
        and (operators is None or node.op_type in operators)
        and node.name not in left_out
    ]


def keep_used_domains(model: onnx.ModelProto) -> None:
    """Remove the operator sets that no node is of; ONNX Runtime lists all it knows."""
    used = {node.domain for node in model.graph.node} | {""}
    kept = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _leads_to_product(graph: onnx.GraphProto) -> set[str]:
    """Return the names of tensors that a convolution or matrix product comes after."""
    leading: set[str] = set()
    for node in reversed(graph.node):  # a node comes before its readers
        if node.op_type in MULTIPLYING or any(name in leading for name in node.output):
            leading.update(node.input)
    return leading


def _origin(name: str, undone: dict[str, str]) -> str:
    while name in undone:
        name = undone[name]
    return name


def _rename_producer(nodes: list[onnx.NodeProto], old: str, new: str) -> None:
    for node in nodes:
        for names in (node.input, node.output):
            for index, each in enumerate(names):
                if each == old:
                    names[index] = new
