"""Whether an ONNX file is complete in itself, read from its protobuf bytes without the onnx package.

Wire format: https://protobuf.dev/programming-guides/encoding. Field numbers: onnx.proto of ONNX 1.23
(IR version 14). What the walk does not know it refuses, since a tensor could hide there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from quatrain.core.bundle.manifest import BundleError

# Per message that can lead to a tensor: length-delimited field -> the message to walk, "" for none.
_FIELDS = {
    "ModelProto": {
        **dict.fromkeys((2, 3, 4, 6, 8, 14, 26), ""),
        7: "GraphProto",
        20: "TrainingInfoProto",
        25: "FunctionProto",
    },
    "GraphProto": {
        **dict.fromkeys((2, 10, 11, 12, 13, 14, 16), ""),
        1: "NodeProto",
        5: "TensorProto",
        15: "SparseTensorProto",
    },
    "NodeProto": {**dict.fromkeys((1, 2, 3, 4, 6, 7, 8, 9, 10), ""), 5: "AttributeProto"},
    "AttributeProto": {
        **dict.fromkeys((1, 4, 7, 8, 9, 13, 14, 15, 21), ""),
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto", 3: ""},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto", 3: "", 4: ""},
    "FunctionProto": {
        **dict.fromkeys((1, 4, 5, 6, 8, 9, 10, 12, 13, 14), ""),
        7: "NodeProto",
        11: "AttributeProto",
    },
    "TensorProto": dict.fromkeys((1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16), ""),
}
_TENSOR_NAME = 8
_EXTERNAL_DATA = 13
_DATA_LOCATION = 14
_OP_TYPE = 4
# An onnxruntime node that loads a compiled blob, by default from a file beside the model.
_COMPILED_NODE = b"EPContext"
# protobuf's own limit of nesting.
_MAX_DEPTH = 100
# Large models have a million fields; a file made of two-byte fields would keep the walk busy for an hour.
_MAX_FIELDS = 20_000_000
# Bytes of the longest tag and of the longest value.
_MAX_TAG = 5
_MAX_VARINT = 10
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}
# Runs of floats (7), ints (8) and node modes (9: LEAF, BRANCH_LT, BRANCH_LEQ) of a tree ensemble,
# which has hundreds of thousands of them, one field each.
_SCALAR_RUN = re.compile(
    rb"(?:\x3d.{4}|\x40[\x80-\xff]{0,9}[\x00-\x7f]|\x4a(?:\x04.{4}|\x09.{9}|\x0a.{10}))*+", re.DOTALL
)


def require_self_contained(onnx: bytes, *, where: str = "model.onnx") -> None:
    """Raise BundleError unless `onnx` is well-formed protobuf whose tensors all lie inside it."""
    stack = [("ModelProto", 0, len(onnx), 0)]
    n_fields = 0
    while stack:
        message, start, end, depth = stack.pop()
        known = _FIELDS[message]
        for field, wire_type, low, high in _fields(onnx, start, end, message, where):
            n_fields += 1
            _require_bounded(depth, n_fields, where)
            inner = known.get(field) if wire_type == _BYTES else ""
            if inner is None:
                raise _unknown(message, field, where)
            if inner:
                stack.append((inner, low, high, depth + 1))
            elif message == "TensorProto" and _is_external(field, onnx, low, high):
                raise _external(_tensor_name(onnx, start, end, where), where)
            elif message == "NodeProto" and field == _OP_TYPE and onnx[low:high] == _COMPILED_NODE:
                raise _compiled(where)


def _require_bounded(depth: int, n_fields: int, where: str) -> None:
    if depth > _MAX_DEPTH:
        raise BundleError(f"{where} nests messages over {_MAX_DEPTH} deep, which no reader accepts; export it again")
    if n_fields > _MAX_FIELDS:
        raise BundleError(f"{where} has over {_MAX_FIELDS} fields, which no model needs; export it again")


def _is_external(field: int, onnx: bytes, low: int, high: int) -> bool:
    """Return whether a tensor's field says that its data lie elsewhere; any location but 0 does."""
    return field == _EXTERNAL_DATA or (field == _DATA_LOCATION and bool(onnx[low:high].strip(b"\x00\x80")))


def _fields(onnx: bytes, start: int, end: int, message: str, where: str) -> Iterator[tuple[int, int, int, int]]:
    """Yield (field number, wire type, first byte of the value, byte after it) of one message."""
    position = start
    while position < end:
        if message == "AttributeProto" and (run := _SCALAR_RUN.match(onnx, position, end)) and run.end() > position:
            position = run.end()
            continue
        tag, low = _varint(onnx, position, end, _MAX_TAG, where)
        field, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            _, high = _varint(onnx, low, end, _MAX_VARINT, where)
        elif wire_type == _BYTES:
            size, low = _varint(onnx, low, end, _MAX_TAG, where)
            high = low + size
        elif wire_type in _FIXED_SIZES:
            high = low + _FIXED_SIZES[wire_type]
        else:
            raise _malformed(position, where)
        if field == 0 or tag >> 32 or high > end:
            raise _malformed(position, where)
        yield field, wire_type, low, high
        position = high


def _varint(onnx: bytes, position: int, end: int, longest: int, where: str) -> tuple[int, int]:
    value = 0
    for index in range(longest):
        if position + index >= end:
            break
        byte = onnx[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:  # noqa: PLR2004 - the high bit says that another byte follows
            return value, position + index + 1
    raise _malformed(position, where)


def _tensor_name(onnx: bytes, start: int, end: int, where: str) -> str:
    for field, wire_type, low, high in _fields(onnx, start, end, "TensorProto", where):
        if field == _TENSOR_NAME and wire_type == _BYTES:
            return onnx[low:high].decode(errors="replace")
    return ""


def _malformed(position: int, where: str) -> BundleError:
    return BundleError(f"{where} is not an ONNX file: its bytes break at offset {position}; export it again")


def _unknown(message: str, field: int, where: str) -> BundleError:
    return BundleError(
        f"{where} has an unknown field {field} in a {message}; expected ONNX IR version 14 or older; "
        "export it with a supported version of onnx"
    )


def _external(tensor: str, where: str) -> BundleError:
    return BundleError(
        f"{where} keeps the data of tensor {tensor!r} in another file; expected one file that holds everything; "
        "export it with external_data=False"
    )


def _compiled(where: str) -> BundleError:
    return BundleError(
        f"{where} has an EPContext node, which loads code compiled for one device; expected portable operators; "
        "seal the model that it was compiled from"
    )
