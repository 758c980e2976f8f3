"""Small changes to quantised graphs."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

# Operators whose multiplications quantization is for.
MULTIPLYING = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU"})
# These pass numbers on as they are.
SHAPING = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
# What ONNX Runtime's quantizer may drop before a rounding with the same bounds.
_ACTIVATIONS = frozenset({"Relu", "Clip"})
_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy: ONNX Runtime's quantizer changes the model that it is given."""
    copy = type(model)()
    copy.CopyFrom(model)
    return copy


def keep_tail_in_float(graph: onnx.GraphProto, original: onnx.GraphProto) -> None:
    """Remove the rounding of activations that no convolution or matrix product comes after.

    `original` is the graph before it was quantised. ONNX Runtime drops a Relu or Clip whose bounds are
    those of the rounding that follows it: where that rounding goes, the activation comes back.
    """
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
    kept = _with_activations(kept, set(undone.values()), graph, original)
    outputs = {value.name for value in graph.output}
    for node in kept:
        for index, name in enumerate(node.input):
            node.input[index] = _origin(name, undone)
    for name in outputs & dropped:
        _rename_producer(kept, _origin(name, undone), name)
    del graph.node[:]
    graph.node.extend(kept)
    keep_used_constants(graph)


def products_of(graph: onnx.GraphProto, operators: Collection[str] | None, left_out: Collection[str]) -> list[str]:
    """Return the names of nodes that multiply, of these operators (None: of all), but for those left out."""
    return [
        node.name
        for node in graph.node
        if node.op_type in MULTIPLYING
        and (operators is None or node.op_type in operators)
        and node.name not in left_out
    ]


def gemm_as_matmul(graph: onnx.GraphProto) -> None:
    """Rewrite x @ W' + b with constant W, of any Gemm without scaling, as a product and a sum."""
    from onnx import helper, numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        is_plain = attributes.get("alpha", 1) == attributes.get("beta", 1) == 1 and not attributes.get("transA", 0)
        if node.op_type != "Gemm" or not is_plain or node.input[1] not in constants:
            nodes.append(node)
            continue
        weights = node.input[1]
        if attributes.get("transB", 0):
            weights = f"{node.name}_transposed"
            turned = numpy_helper.to_array(constants[node.input[1]]).T
            graph.initializer.append(numpy_helper.from_array(turned.copy(), weights))
        has_bias = len(node.input) > 2 and bool(node.input[2])  # noqa: PLR2004 - the third input is the bias
        product = f"{node.output[0]}_product" if has_bias else node.output[0]
        nodes.append(helper.make_node("MatMul", [node.input[0], weights], [product], name=node.name))
        if has_bias:
            nodes.append(helper.make_node("Add", [product, node.input[2]], [node.output[0]], name=f"{node.name}_bias"))
    del graph.node[:]
    graph.node.extend(nodes)
    keep_used_constants(graph)


def source_of(graph: onnx.GraphProto, name: str) -> str:
    """Return the tensor that `name` is another shape of."""
    producers = {output: node for node in graph.node for output in node.output}
    while name in producers and producers[name].op_type in SHAPING:
        name = producers[name].input[0]
    return name


def keep_used_constants(graph: onnx.GraphProto) -> None:
    """Remove constants that no node reads."""
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    constants = [constant for constant in graph.initializer if constant.name in used]
    del graph.initializer[:]
    graph.initializer.extend(constants)


def keep_used_domains(model: onnx.ModelProto) -> None:
    """Remove the operator sets that no node is of; ONNX Runtime lists all it knows."""
    used = {node.domain for node in model.graph.node} | {""}
    kept = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _with_activations(
    nodes: list[onnx.NodeProto], names: set[str], graph: onnx.GraphProto, original: onnx.GraphProto
) -> list[onnx.NodeProto]:
    """Return the nodes with every activation of the original that gave one of `names` and is missing, in its place."""
    activations = {
        node.output[0]: node for node in original.node if node.op_type in _ACTIVATIONS and node.output[0] in names
    }
    found = []
    for node in nodes:
        found.append(node)
        activation = activations.get(node.output[0])
        if activation is None or node.op_type == activation.op_type:
            continue
        node.output[0] = activation.input[0]
        found.append(activation)
        here = {constant.name for constant in graph.initializer}
        graph.initializer.extend(
            constant
            for constant in original.initializer
            if constant.name in activation.input and constant.name not in here
        )
    return found


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
