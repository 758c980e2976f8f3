"""The protobuf walk against the onnx package: external data is found wherever a tensor can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto, ModelProto, TensorProto, helper

from quatrain.core.bundle.manifest import BundleError
from quatrain.core.bundle.wire import require_self_contained


def _tensor(*, external: bool) -> TensorProto:
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    if external:
        tensor.ClearField("float_data")
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "../../etc/passwd"
    return tensor


def _graph(tensor: TensorProto | None = None) -> onnx.GraphProto:
    return helper.make_graph([], "inner", [], [], [tensor] if tensor else [])


def _node(**fields: Any) -> onnx.NodeProto:
    node = onnx.NodeProto(op_type="Custom", input=["x"], output=["y"])
    node.attribute.append(AttributeProto(name="a", **fields))
    return node


def _sparse(values: TensorProto, indices: TensorProto) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=values, indices=indices, dims=[4])


def _model(node: onnx.NodeProto) -> ModelProto:
    return helper.make_model(helper.make_graph([node], "outer", [], []))


def _in_initializer(tensor: TensorProto) -> ModelProto:
    return helper.make_model(_graph(tensor))


def _in_attribute(tensor: TensorProto) -> ModelProto:
    return _model(_node(t=tensor))


def _in_attribute_list(tensor: TensorProto) -> ModelProto:
    return _model(_node(tensors=[_tensor(external=False), tensor]))


def _in_subgraph(tensor: TensorProto) -> ModelProto:
    return _model(_node(g=_graph(tensor)))


def _in_subgraph_list(tensor: TensorProto) -> ModelProto:
    return _model(_node(graphs=[_graph(), _graph(tensor)]))


def _in_nested_subgraph(tensor: TensorProto) -> ModelProto:
    inner = helper.make_graph([_node(g=_graph(tensor))], "middle", [], [])
    return _model(_node(g=inner))


def _in_function(tensor: TensorProto) -> ModelProto:
    model = helper.make_model(_graph())
    model.functions.add(name="f", domain="d").node.append(_node(t=tensor))
    return model


def _in_function_default(tensor: TensorProto) -> ModelProto:
    model = helper.make_model(_graph())
    model.functions.add(name="f", domain="d").attribute_proto.append(AttributeProto(name="a", t=tensor))
    return model


def _in_sparse_values(tensor: TensorProto) -> ModelProto:
    model = helper.make_model(_graph())
    model.graph.sparse_initializer.append(_sparse(tensor, _tensor(external=False)))
    return model


def _in_sparse_indices(tensor: TensorProto) -> ModelProto:
    return _model(_node(sparse_tensor=_sparse(_tensor(external=False), tensor)))


def _in_sparse_list(tensor: TensorProto) -> ModelProto:
    return _model(_node(sparse_tensors=[_sparse(tensor, _tensor(external=False))]))


def _in_training_info(tensor: TensorProto) -> ModelProto:
    model = helper.make_model(_graph())
    model.training_info.add().algorithm.CopyFrom(_graph(tensor))
    return model


_PLACES = [
    _in_initializer,
    _in_attribute,
    _in_attribute_list,
    _in_subgraph,
    _in_subgraph_list,
    _in_nested_subgraph,
    _in_function,
    _in_function_default,
    _in_sparse_values,
    _in_sparse_indices,
    _in_sparse_list,
    _in_training_info,
]


def _field(number: int, content: bytes) -> bytes:
    length = len(content)
    return bytes([number << 3 | 2, length & 0x7F | 0x80, length >> 7 & 0x7F]) + content


def _has_external_data(message: Message) -> bool:
    """Return what the walk must find, by protobuf's own reflection."""
    if isinstance(message, TensorProto) and (message.data_location != TensorProto.DEFAULT or message.external_data):
        return True
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            items = value if field.is_repeated else [value]
            if any(_has_external_data(item) for item in items):
                return True
    return False


def _tree_ensemble() -> ModelProto:
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        nodes_modes=["BRANCH_LEQ", "BRANCH_LT", "LEAF", "BRANCH_MEMBER"] * 5,
        nodes_values=[0.5, -1.0, 3e38] * 5,
        nodes_nodeids=[0, 1, 300, -1, 2**62] * 5,
    )
    return _model(node)


@pytest.mark.parametrize("place", _PLACES)
def test_external_data_is_refused_wherever_a_tensor_can_be(place: Callable[[TensorProto], ModelProto]) -> None:
    """The message names the tensor and the export option that avoids it."""
    content = place(_tensor(external=True)).SerializeToString()
    with pytest.raises(BundleError, match=r"tensor 'w' in another file.*external_data=False"):
        require_self_contained(content)


@pytest.mark.parametrize("place", _PLACES)
def test_a_model_with_its_tensors_inside_passes(place: Callable[[TensorProto], ModelProto]) -> None:
    """The same places hold ordinary tensors without complaint."""
    require_self_contained(place(_tensor(external=False)).SerializeToString())


def test_an_external_location_without_the_flag_is_refused() -> None:
    """Readers differ in whether they need the flag, so either sign of external data is enough."""
    tensor = _tensor(external=True)
    tensor.data_location = TensorProto.DEFAULT
    with pytest.raises(BundleError, match="in another file"):
        require_self_contained(_in_initializer(tensor).SerializeToString())


@pytest.mark.parametrize("location", [b"\x70\x01", b"\x70\x81\x80\x00", b"\x70\x81\x80\x80\x80\x10", b"\xf0\x00\x02"])
def test_a_disguised_flag_is_refused(location: bytes) -> None:
    """Overlong and overflowing spellings of EXTERNAL mean EXTERNAL to a reader of 32 bits."""
    tensor = _tensor(external=False).SerializeToString() + location
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    with pytest.raises(BundleError, match="tensor 'w' in another file"):
        require_self_contained(b"\x3a" + bytes([len(graph)]) + graph)


def test_a_compiled_node_is_refused() -> None:
    """EPContext reads a compiled blob from a path in the model."""
    with pytest.raises(BundleError, match=r"EPContext.*portable operators"):
        require_self_contained(_model(onnx.NodeProto(op_type="EPContext")).SerializeToString())


def test_an_unknown_field_is_refused() -> None:
    """A tensor could hide in a field of a later ONNX."""
    with pytest.raises(BundleError, match="unknown field 99 in a ModelProto"):
        require_self_contained(b"\x9a\x06\x02hi")


@pytest.mark.parametrize(
    "content",
    [
        b"\x3a",  # a graph without its length
        b"\x3a\x7f",  # longer than the file
        b"\x3b\x3c",  # a group, which ONNX does not use
        b"\x07\x01",  # field number 0
        b"\x80\x80\x80\x80\x80\x80\x01",  # a tag of seven bytes
        b"\x08" + b"\xff" * 11,  # a number without end
        b"\x0d\x00\x00",  # half a float
    ],
)
def test_broken_bytes_are_refused(content: bytes) -> None:
    """The message says where the file breaks."""
    with pytest.raises(BundleError, match=r"not an ONNX file: its bytes break at offset \d+"):
        require_self_contained(content)


def test_endless_nesting_is_refused() -> None:
    """A graph within a graph, deeper than protobuf reads, neither crashes nor passes."""
    content = b""
    for _ in range(40):
        content = _field(1, _field(5, _field(6, content)))
    with pytest.raises(BundleError, match="over 100 deep"):
        require_self_contained(_field(7, content))


def test_a_file_of_countless_fields_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work is bounded, whatever the size of the file."""
    monkeypatch.setattr("quatrain.core.bundle.wire._MAX_FIELDS", 100)
    with pytest.raises(BundleError, match="over 100 fields"):
        require_self_contained(b"\x08\x01" * 101)


def test_the_fields_of_every_walked_message_are_those_of_the_onnx_package() -> None:
    """A new ONNX that adds a field or a way to a tensor breaks this test first."""
    from quatrain.core.bundle import wire

    for name, fields in wire._FIELDS.items():
        descriptor = getattr(onnx, name).DESCRIPTOR
        for field in descriptor.fields:
            is_message = field.type == field.TYPE_MESSAGE
            walked = field.message_type.name if is_message and field.message_type.name in wire._FIELDS else ""
            assert fields.get(field.number, "") == walked, f"{name}.{field.name}"
            if is_message or field.type in {field.TYPE_STRING, field.TYPE_BYTES}:
                assert field.number in fields, f"{name}.{field.name}"


def test_a_long_tree_ensemble_passes() -> None:
    """The fast path over a tree's numbers stops where the numbers stop."""
    require_self_contained(_tree_ensemble().SerializeToString())


@given(content=st.binary(max_size=200))
def test_random_bytes_are_refused_or_hold_no_external_data(content: bytes) -> None:
    """Whatever comes, the walk ends, and passes nothing that the onnx package calls external."""
    _agrees_with_onnx(content)


@given(
    place=st.sampled_from([*_PLACES, lambda _: _tree_ensemble()]),
    external=st.booleans(),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
)
def test_a_damaged_model_is_refused_or_holds_no_external_data(
    place: Callable[[TensorProto], ModelProto], external: bool, edits: list[tuple[float, int]]
) -> None:
    """Bytes changed anywhere in a real model never smuggle external data past the walk."""
    content = bytearray(place(_tensor(external=external)).SerializeToString())
    for where, value in edits:
        content[int(where * len(content))] = value
    _agrees_with_onnx(bytes(content))


def _agrees_with_onnx(content: bytes) -> None:
    try:
        require_self_contained(content)
    except BundleError:
        return
    model = ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError:
        return
    assert not _has_external_data(model)
