"""A sealed ONNX graph as a torch module: what runs is what was sealed, and what is not known is refused by name."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from typing import Any

import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import fx

from quatrain.core.backends.protocol import BackendError, Port
from quatrain.core.backends.torch_operators import OPERATORS
from quatrain.core.backends.torch_shapes import SHAPE_OPERATORS, shape

# Older sets give the same names to other meanings: Softmax then flattened its input.
_OLDEST_SET = 13
# Operators whose functions give several tensors.
_MANY_OUTPUTS = frozenset({"Split"})
# ONNX's numbers of element types, as ONNX Runtime spells them.
_TYPES = {
    1: "float", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    9: "bool", 10: "float16", 11: "double", 12: "uint32", 13: "uint64",
}  # fmt: skip


class TorchGraph(torch.nn.Module):
    """The graph as a module: inputs in their order, a tuple of outputs in theirs; weights are buffers."""

    def __init__(self, body: fx.GraphModule, inputs: list[Port], outputs: list[Port]) -> None:
        super().__init__()
        self.body = body
        self.inputs = inputs
        self.outputs = outputs

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the outputs."""
        # Called as a module, a graph that fails would print itself.
        result: tuple[torch.Tensor, ...] = self.body.forward(*tensors)
        return result


def torch_graph(content: bytes) -> TorchGraph:
    """Return the graph in torch; raises BackendError that names every operator that torch does not have here."""
    model = onnx.load_from_string(content)
    _require_known(model)
    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    conversion = _Conversion(constants)
    for value in inputs:
        conversion.values[value.name] = conversion.graph.placeholder(f"input_{len(conversion.values)}")
    for node in graph.node:
        conversion.add(node)
    conversion.graph.output(tuple(conversion.tensor(value.name) for value in graph.output))
    body = fx.GraphModule(conversion.root, conversion.graph)
    return TorchGraph(body.eval(), [_port(value) for value in inputs], [_port(value) for value in graph.output])


def _require_known(model: onnx.ModelProto) -> None:
    versions = {each.domain: each.version for each in model.opset_import}
    if versions.get("", versions.get("ai.onnx", _OLDEST_SET)) < _OLDEST_SET:
        raise BackendError(f"torch takes graphs of operator set {_OLDEST_SET} and newer, got {versions.get('')}")
    unknown = Counter(
        f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        for node in model.graph.node
        if node.domain not in ("", "ai.onnx") or node.op_type not in (*OPERATORS, "Shape", "Constant")
    )
    if unknown:
        named = ", ".join(f"{name} ({n}x)" if n > 1 else name for name, n in sorted(unknown.items()))
        raise BackendError(f"torch has no {named}; use onnxruntime for this model")


class _Conversion:
    """Builds the torch graph node by node; shapes are plain integers in it, all else tensors."""

    def __init__(self, constants: dict[str, NDArray[Any]]) -> None:
        self.graph = fx.Graph()
        self.root = torch.nn.Module()
        self.constants = constants
        self.values: dict[str, fx.Node] = {}
        # Names of values that are plain integers when the graph runs.
        self._integers: set[str] = set()
        self._buffers: dict[str, fx.Node] = {}

    def add(self, node: onnx.NodeProto) -> None:
        """Add one ONNX node."""
        attributes = {each.name: _attribute(each, node) for each in node.attribute}
        if node.op_type == "Constant":
            self.constants[node.output[0]] = _constant(attributes)
            return
        is_shape = self._is_shape(node)
        function = self._function(node, is_shape=is_shape)
        arguments = [
            self._argument(name, node, place, is_shape=is_shape) if name else None
            for place, name in enumerate(node.input)
        ]
        if node.op_type == "Shape":
            is_shape = True
        _require_callable(function, node, arguments, attributes)
        self._store(node, self.graph.call_function(function, tuple(arguments), attributes), is_shape=is_shape)

    def tensor(self, name: str) -> fx.Node:
        """Return the value as a tensor; a constant becomes a buffer on its first use."""
        if name in self._integers:
            raise BackendError(f"torch takes sizes only as sizes, but {name} is computed with; use onnxruntime")
        if name in self.values:
            return self.values[name]
        if name not in self._buffers:
            place = f"constant_{len(self._buffers)}"
            self.root.register_buffer(place, _constant_tensor(self.constants[name]))
            self._buffers[name] = self.graph.get_attr(place)
        return self._buffers[name]

    def _argument(self, name: str, node: onnx.NodeProto, place: int, *, is_shape: bool) -> Any:
        operator = OPERATORS.get(node.op_type)
        is_number = name in self.constants and self.constants[name].ndim == 0
        if is_shape or (operator and (place in operator.plain or (place in operator.scalar and is_number))):
            return self._plain(name, node)
        return self.tensor(name)

    def _is_shape(self, node: onnx.NodeProto) -> bool:
        """Return whether all that the node reads are shapes and constants, and something is a shape."""
        named = [name for name in node.input if name]
        known = all(name in self._integers or name in self.constants for name in named)
        return known and any(name in self._integers for name in named) and node.op_type in SHAPE_OPERATORS

    def _function(self, node: onnx.NodeProto, *, is_shape: bool) -> Callable[..., Any]:
        if node.op_type == "Shape":
            return shape
        return SHAPE_OPERATORS[node.op_type] if is_shape else OPERATORS[node.op_type].function

    def _plain(self, name: str, node: onnx.NodeProto) -> Any:
        if name in self._integers:
            return self.values[name]
        if name not in self.constants:
            raise BackendError(
                f"torch takes {node.op_type} only with constant sizes and bounds, but {name} is computed from data; "
                "use onnxruntime for this model"
            )
        array = self.constants[name]
        # An empty tensor is how ONNX leaves out an input that is not the last one.
        return array.tolist() if array.size else None

    def _store(self, node: onnx.NodeProto, result: fx.Node, *, is_shape: bool) -> None:
        outputs = [name for name in node.output if name]
        if node.op_type in _MANY_OUTPUTS:
            for place, name in enumerate(node.output):
                self.values[name] = self.graph.call_function(_item, (result, place))
        else:
            self.values[outputs[0]] = result
        if is_shape:
            self._integers.update(outputs)


def _constant_tensor(array: NDArray[Any]) -> torch.Tensor:
    try:
        return torch.from_numpy(array.copy())
    except TypeError as error:
        raise BackendError(f"torch takes no constants of type {array.dtype}; use onnxruntime for this model") from error


def _item(values: tuple[torch.Tensor, ...], place: int) -> torch.Tensor:
    return values[place]


def _require_callable(
    function: Callable[..., Any], node: onnx.NodeProto, arguments: list[Any], attributes: dict[str, Any]
) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:
        # Functions of torch itself have no signature, and take no attributes here.
        accepted = not attributes
    else:
        try:
            signature.bind(*arguments, **attributes)
            accepted = True
        except TypeError:
            accepted = False
    is_plural = len([name for name in node.output if name]) > 1 and node.op_type not in _MANY_OUTPUTS
    if not accepted or is_plural:
        named = ", ".join(attributes) or "no attributes"
        counts = f"{len(arguments)} inputs, {len(node.output)} outputs and {named}"
        raise BackendError(f"torch has no {node.op_type} with {counts}; use onnxruntime for this model")


def _attribute(attribute: onnx.AttributeProto, node: onnx.NodeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return torch.from_numpy(numpy_helper.to_array(value).copy())
    if isinstance(value, onnx.GraphProto | onnx.SparseTensorProto):
        raise BackendError(f"torch has no {node.op_type} with {attribute.name}; use onnxruntime for this model")
    return list(value) if not isinstance(value, int | float) else value


def _constant(attributes: dict[str, Any]) -> NDArray[Any]:
    ((name, value),) = attributes.items()
    tensor = value if name == "value" else torch.tensor(value)
    array: NDArray[Any] = tensor.numpy()
    return array


def _port(value: onnx.ValueInfoProto) -> Port:
    number = value.type.tensor_type.elem_type
    return Port(name=value.name, type=f"tensor({_TYPES.get(number, number)})")
