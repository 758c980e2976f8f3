"""The tree ensembles of an ONNX graph, and parts of the graph that do without them; no onnx package.

Wire format: https://protobuf.dev/programming-guides/encoding. Field numbers: onnx.proto. The
bundle's own check has read the file before, so malformed bytes are no case here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Fields of ModelProto, GraphProto, NodeProto, AttributeProto and TensorProto.
_GRAPH = 7
_NODE, _INPUT, _OUTPUT = 1, 11, 12
_NODE_INPUT, _NODE_OUTPUT, _OP_TYPE, _ATTRIBUTE = 1, 2, 4, 5
_NAME, _INT, _TENSOR, _GRAPH_INSIDE, _INTS, _TEXTS, _GRAPHS_INSIDE = 1, 3, 5, 6, 8, 9, 11
_DATA_TYPE, _RAW_DATA = 2, 9
# TensorProto.DataType.
_FLOAT, _DOUBLE = 1, 11
# An ensemble has hundreds of thousands of numbers, one field each: runs of ints (8) and of node modes (9).
_RUN = re.compile(rb"(?:\x40[\x80-\xff]{0,9}[\x00-\x7f])+|(?:\x4a(?:\x04LEAF|\x0aBRANCH_LEQ))+")
_LEAF = b"\x4a\x04LEAF"
_MODE = re.compile(rb"\x4a(?:\x04LEAF|\x0aBRANCH_LEQ)")
# What the trees of an ensemble are made of; with any other attribute it is another function.
_REQUIRED = frozenset(
    (
        "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_modes", "nodes_truenodeids",
        "nodes_falsenodeids", "nodes_values_as_tensor", "target_treeids", "target_nodeids", "target_ids",
        "target_weights_as_tensor", "n_targets",
    )
)  # fmt: skip
_KNOWN = _REQUIRED | {"nodes_missing_value_tracks_true"}


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """A TreeEnsembleRegressor with one target whose float64 leaves are added: nodes in turn, tree by tree.

    A row goes to `if_true` where its feature is <= threshold; a leaf has feature -1 and a weight.
    """

    # What it reads, float32 (batch, columns): the graph's input, or columns beside the input's.
    source: str
    output: str
    tree: Ints
    feature: Ints
    threshold: NDArray[np.float64]
    # Places in these arrays.
    if_true: Ints
    if_false: Ints
    weight: NDArray[np.float64]


def ensembles(onnx: bytes, *, input_name: str) -> list[Ensemble]:
    """Return the graph's tree ensembles that read float32 columns cast to float64, an earlier one before a later.

    The columns are the graph's input, float32, or what a Concat makes of it and of other columns. A
    graph with graphs inside has none: what these read cannot be told from their node.
    """
    nodes = [node for node, _ in _nodes(onnx)]
    if any(node.has_graph for node in nodes):
        return []
    columns, doubled, found = {input_name}, {}, []
    for node in nodes:
        if node.op_type == "Concat" and columns & set(node.inputs) and _attribute(onnx, *node.attributes["axis"]) == 1:
            # A Concat has one type, so all that stand in it are float32.
            columns.add(node.outputs[0])
        elif node.op_type == "Cast" and node.inputs[0] in columns:
            if _attribute(onnx, *node.attributes["to"]) == _DOUBLE:
                doubled[node.outputs[0]] = node.inputs[0]
        elif node.op_type == "TreeEnsembleRegressor" and node.inputs[0] in doubled:
            ensemble = _ensemble(onnx, node, doubled[node.inputs[0]])
            found += [] if ensemble is None else [ensemble]
    return found


def part(onnx: bytes, *, given: Sequence[str], wanted: Sequence[str] = ()) -> bytes:
    """Return the model of what gives the `wanted` values, by default its outputs, with `given` values as inputs.

    Wanted and given values are float32 of two dimensions. The graph's own inputs stay.
    """
    low, high = _graph_of(onnx)
    fields = list(_fields(onnx, low, high))
    missing = {_name_of(onnx, start, end) for number, _, start, end in fields if number == _OUTPUT and not wanted}
    missing |= set(wanted)
    needed = set()
    # Nodes stand in an order in which each comes after those that it reads.
    for node, place in reversed(_nodes(onnx)):
        if (missing - set(given)) & set(node.outputs):
            needed.add(place)
            missing |= set(node.inputs)
    kept = [
        _encoded(number, wire_type, onnx[start:end])
        for number, wire_type, start, end in fields
        if (number != _NODE or start in needed) and not (number == _OUTPUT and wanted)
    ]
    # What the graph's own input gives is no input more.
    own = {_name_of(onnx, start, end) for number, _, start, end in fields if number == _INPUT}
    kept += [_bytes_field(_INPUT, _value_info(name)) for name in given if name not in own]
    kept += [_bytes_field(_OUTPUT, _value_info(name)) for name in wanted]
    return _with_graph(onnx, kept)


def _with_graph(onnx: bytes, parts: Sequence[bytes]) -> bytes:
    fields = _fields(onnx, 0, len(onnx))
    return b"".join(
        _bytes_field(_GRAPH, b"".join(parts)) if number == _GRAPH else _encoded(number, wire_type, onnx[start:end])
        for number, wire_type, start, end in fields
    )


@dataclass(frozen=True)
class _Node:
    op_type: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, tuple[int, int]]
    has_graph: bool


def _nodes(onnx: bytes) -> list[tuple[_Node, int]]:
    """Return the graph's nodes, and where each begins."""
    fields = _fields(onnx, *_graph_of(onnx))
    return [(_node(onnx, start, end), start) for number, _, start, end in fields if number == _NODE]


def _node(onnx: bytes, low: int, high: int) -> _Node:
    texts: dict[int, list[str]] = {_NODE_INPUT: [], _NODE_OUTPUT: [], _OP_TYPE: []}
    attributes = {}
    has_graph = False
    for number, _, start, end in _fields(onnx, low, high):
        if number in texts:
            texts[number].append(onnx[start:end].decode())
        elif number == _ATTRIBUTE:
            attributes[_name_of(onnx, start, end)] = (start, end)
            kinds = {field for field, *_ in _fields(onnx, start, end, has_runs=True)}
            has_graph |= bool(kinds & {_GRAPH_INSIDE, _GRAPHS_INSIDE})
    return _Node("".join(texts[_OP_TYPE]), texts[_NODE_INPUT], texts[_NODE_OUTPUT], attributes, has_graph)


def _name_of(onnx: bytes, low: int, high: int) -> str:
    """Return the name of an attribute, an input or an output."""
    return next((onnx[start:end].decode() for number, _, start, end in _fields(onnx, low, high) if number == _NAME), "")


def _ensemble(onnx: bytes, node: _Node, source: str) -> Ensemble | None:
    """Return the node's trees, None for what is more than trees whose float64 leaves are added."""
    names = set(node.attributes)
    if not names >= _REQUIRED or not names <= _KNOWN:
        return None
    value = {name: _attribute(onnx, *place) for name, place in node.attributes.items()}
    if any(value[name] is None for name in _REQUIRED) or value["n_targets"] != 1 or value["target_ids"].any():
        return None
    tree, is_leaf = value["nodes_treeids"], value["nodes_modes"]
    width = int(value["nodes_nodeids"].max()) + 1
    place = np.full((int(tree.max()) + 1) * width, -1)
    place[tree * width + value["nodes_nodeids"]] = np.arange(len(tree))
    weight = np.zeros(len(tree))
    weight[place[value["target_treeids"] * width + value["target_nodeids"]]] = value["target_weights_as_tensor"]
    return Ensemble(
        source=source,
        output=node.outputs[0],
        tree=tree,
        feature=np.where(is_leaf, -1, value["nodes_featureids"]),
        threshold=value["nodes_values_as_tensor"],
        if_true=np.where(is_leaf, -1, place[tree * width + value["nodes_truenodeids"]]),
        if_false=np.where(is_leaf, -1, place[tree * width + value["nodes_falsenodeids"]]),
        weight=weight,
    )


def _attribute(onnx: bytes, low: int, high: int) -> Any:
    """Return an attribute's number, array of numbers, float64 tensor or, of node modes, which are leaves; else None."""
    values: list[Any] = []
    for number, _, start, end in _fields(onnx, low, high, has_runs=True):
        if number == _INT:
            values.append(_varint(onnx, start)[0])
        elif number == _INTS:
            values.append(_ints(onnx[start:end]))
        elif number == _TEXTS:
            values.append(np.array([mode == _LEAF for mode in _MODE.findall(onnx, start, end)]))
        elif number == _TENSOR:
            values.append(_doubles(onnx, start, end))
    # A mode that is neither of the two ends a run, so then there are several.
    return values[0] if len(values) == 1 else None


def _ints(run: bytes) -> Ints:
    """Return the numbers of a run of int fields, all at once."""
    data = np.frombuffer(run, dtype=np.uint8)
    # A byte below 0x80 ends a tag or a number, in turn.
    ends = np.flatnonzero(data < 0x80)  # noqa: PLR2004 - the high bit says that another byte follows
    first, last = ends[::2] + 1, ends[1::2]
    values = np.zeros(len(first), dtype=np.int64)
    for place in range(int((last - first).max(initial=0)) + 1):
        is_there = first + place <= last
        values[is_there] |= (data[first[is_there] + place] & 0x7F).astype(np.int64) << (7 * place)
    return values


def _doubles(onnx: bytes, low: int, high: int) -> NDArray[np.float64] | None:
    fields = {number: (wire_type, start, end) for number, wire_type, start, end in _fields(onnx, low, high)}
    if _RAW_DATA not in fields or _DATA_TYPE not in fields or _varint(onnx, fields[_DATA_TYPE][1])[0] != _DOUBLE:
        return None
    _, start, end = fields[_RAW_DATA]
    return np.frombuffer(onnx[start:end], dtype="<f8").astype(np.float64)


def _graph_of(onnx: bytes) -> tuple[int, int]:
    return next((low, high) for number, _, low, high in _fields(onnx, 0, len(onnx)) if number == _GRAPH)


def _fields(onnx: bytes, start: int, end: int, *, has_runs: bool = False) -> Iterator[tuple[int, int, int, int]]:
    """Yield (number, wire type, first byte of the value, byte after it); a run comes as one value, with its tags."""
    position = start
    while position < end:
        if has_runs and (run := _RUN.match(onnx, position, end)):
            yield onnx[position] >> 3, _BYTES, position, run.end()
            position = run.end()
            continue
        tag, low = _varint(onnx, position)
        wire_type = tag & 7
        if wire_type == _VARINT:
            _, high = _varint(onnx, low)
        elif wire_type == _BYTES:
            size, low = _varint(onnx, low)
            high = low + size
        else:
            high = low + {_FIXED64: 8, _FIXED32: 4}[wire_type]
        yield tag >> 3, wire_type, low, high
        position = high


def _varint(onnx: bytes, position: int) -> tuple[int, int]:
    """Return a number and the byte after it."""
    value, shift = 0, 0
    while True:
        byte = onnx[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004 - the high bit says that another byte follows
            return value, position


def _encoded(number: int, wire_type: int, value: bytes) -> bytes:
    if wire_type == _BYTES:
        return _bytes_field(number, value)
    return _number(number << 3 | wire_type) + value


def _bytes_field(number: int, value: bytes) -> bytes:
    return _number(number << 3 | _BYTES) + _number(len(value)) + value


def _number(value: int) -> bytes:
    parts = bytearray()
    while value >= 0x80:  # noqa: PLR2004 - seven bits to a byte
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _value_info(name: str) -> bytes:
    """Return the ValueInfoProto of a float tensor of shape (batch, columns)."""
    dims = (_bytes_field(1, _bytes_field(2, b"batch")), _bytes_field(1, b""))
    tensor = _number(1 << 3) + _number(_FLOAT) + _bytes_field(2, b"".join(dims))
    return _bytes_field(1, name.encode()) + _bytes_field(2, _bytes_field(1, tensor))
