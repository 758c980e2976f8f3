"""Trained models as one-file ONNX graphs, and the gate that proves the graph gives the same numbers."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.ensemble import ML_DOMAIN, ML_OPSET, ensemble_node
from quatrain.core.errors import UserError, require
from quatrain.core.inference import largest_difference, open_session
from quatrain.core.trees import Booster, ExportError, read_forest

if TYPE_CHECKING:
    import onnx
    import torch

    from quatrain.core.bundle.manifest import TensorSpec

__all__ = [
    "ExportError",
    "ParityError",
    "check_parity",
    "dynamic_sizes",
    "finished",
    "lightgbm_model",
    "model_of",
    "torch_model",
]

OPSET = 18
# The IR version that opset 18 came with.
_IR_VERSION = 8
# A protobuf message ends here; a larger model needs external data, which a bundle refuses.
_MAX_BYTES = 2**31 - 1
_EXTRA = "quatrain-core[train]"


class ParityError(UserError):
    """An exported graph that does not give the trained model's numbers."""


def torch_model(
    module: torch.nn.Module,
    example_inputs: Mapping[str, torch.Tensor],
    *,
    output_names: Sequence[str],
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
) -> bytes:
    """Return the module in evaluation mode as ONNX, opset 18, with a dynamic first dimension named "batch".

    `example_inputs` go to forward() by position, in their order; each needs two rows or more, or
    the exporter would freeze the batch at one. `dynamic` names further dimensions of inputs that
    may have any size, such as {"pixels": {1: "height", 2: "width"}}. The module itself is left as
    it was. Raises ExportError when an output does not keep the batch dimension.
    """
    import copy

    import torch

    require("onnxscript", package=_EXTRA)
    sizes = {name: tensor.shape[0] if tensor.ndim else 0 for name, tensor in example_inputs.items()}
    if not sizes or min(sizes.values()) < 2 or len(set(sizes.values())) > 1:  # noqa: PLR2004 - one row freezes the batch
        raise ValueError(f"example inputs need one common batch of at least 2 rows, got {sizes}")
    on_cpu = copy.deepcopy(module).cpu().eval()
    named = {"batch", *(size for sizes in (dynamic or {}).values() for size in sizes.values())}
    dims = {size: torch.export.Dim(size, min=1) for size in sorted(named)}
    shapes = tuple(
        {0: dims["batch"]} | {axis: dims[size] for axis, size in (dynamic or {}).get(name, {}).items()}
        for name in example_inputs
    )
    with _quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            on_cpu,
            tuple(tensor.detach().cpu() for tensor in example_inputs.values()),
            input_names=list(example_inputs),
            output_names=list(output_names),
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=shapes,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise ExportError("the exporter gave no graph; use torch 2.11 or newer")
    return finished(program.model_proto)


def dynamic_sizes(specs: Sequence[TensorSpec]) -> dict[str, dict[int, str]]:
    """Return the dimensions after the batch that may have any size, by input: `dynamic` of `torch_model`."""
    return {
        spec.name: {axis: size for axis, size in enumerate(spec.shape) if axis and isinstance(size, str)}
        for spec in specs
    }


def lightgbm_model(booster: Booster, *, input_name: str = "features", output_name: str = "probability") -> bytes:
    """Return the booster as ONNX: float32 (batch, features) in, float32 (batch,) out, as booster.predict gives it.

    Binary and cross-entropy objectives give probabilities, regression objectives the value. Leaf
    values are added, and the sigmoid is taken, in float64: 300 float32 leaves would drift by 1e-5
    and ONNX Runtime's float32 sigmoid has no digits left below 1e-7. Raises ExportError for
    categories, zero as missing, linear trees, random forests and other objectives.
    """
    require("onnx", package=_EXTRA)
    from onnx import TensorProto, helper, numpy_helper

    forest = read_forest(booster)
    nodes = [
        helper.make_node("Cast", [input_name], ["features64"], to=TensorProto.DOUBLE),
        ensemble_node(forest, features="features64", output="sums"),
        helper.make_node("Squeeze", ["sums", "target_axis"], ["raw"]),
    ]
    if forest.sigmoid is None:
        nodes.append(helper.make_node("Identity", ["raw"], [output_name]))
    else:
        nodes += [
            helper.make_node("Cast", ["raw"], ["raw64"], to=TensorProto.DOUBLE),
            helper.make_node("Sigmoid", ["raw64"], ["probability64"]),
            helper.make_node("Cast", ["probability64"], [output_name], to=TensorProto.FLOAT),
        ]
    graph = helper.make_graph(
        nodes,
        "lightgbm",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["batch", forest.n_features])],
        [helper.make_tensor_value_info(output_name, TensorProto.FLOAT, ["batch"])],
        [numpy_helper.from_array(np.array([1]), "target_axis")],
    )
    return finished(model_of(graph))


def check_parity(
    onnx: bytes,
    inputs: Mapping[str, NDArray[Any]],
    expected: Mapping[str, NDArray[Any]],
    *,
    atol: float = 1e-4,
    batches: Sequence[int] = (1, 2, 7, 64),
) -> float:
    """Return the largest difference between the graph's outputs and `expected` over every row and batch size.

    Each batch size runs all rows; the last batch is filled up from the first rows, so that exactly
    that size is seen. Raises ParityError naming output, batch size and row above `atol`.
    """
    session = open_session(onnx)
    n_rows = {array.shape[0] for array in [*inputs.values(), *expected.values()]}
    if len(n_rows) != 1 or n_rows == {0}:
        raise ValueError(f"inputs and expected outputs need one common number of rows above 0, got {sorted(n_rows)}")
    worst = 0.0
    for batch in batches:
        outputs = _run_in_batches(session, inputs, list(expected), batch)
        for name, array in expected.items():
            worst = max(worst, _gate(name, outputs[name], array, atol=atol, batch=batch))
    return worst


def model_of(graph: onnx.GraphProto) -> onnx.ModelProto:
    """Return the graph as a model of this package's operator versions."""
    from onnx import helper

    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML_DOMAIN, ML_OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="quatrain")


def finished(model: onnx.ModelProto) -> bytes:
    """Return the checked model's bytes without the exporter's notes, which hold paths of this machine."""
    import onnx

    if model.ByteSize() > _MAX_BYTES:
        raise ExportError(f"the model takes {model.ByteSize()} bytes; one-file ONNX ends at {_MAX_BYTES}")
    for graph in [model.graph, *model.functions]:
        _strip(graph)
    model.ClearField("metadata_props")
    model.ClearField("doc_string")
    for value in [*model.graph.input, *model.graph.output]:
        first = value.type.tensor_type.shape.dim[0] if value.type.tensor_type.shape.dim else None
        if first is None or first.dim_param != "batch":
            raise ExportError(
                f"{value.name} does not keep the batch as its first dimension; return one row per input row"
            )
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def _run_in_batches(
    session: Any, inputs: Mapping[str, NDArray[Any]], outputs: list[str], batch: int
) -> dict[str, NDArray[Any]]:
    n_rows = len(next(iter(inputs.values())))
    parts = []
    for start in range(0, n_rows, batch):
        rows = np.arange(start, start + batch) % n_rows
        parts.append(session.run(outputs, {name: np.ascontiguousarray(array[rows]) for name, array in inputs.items()}))
    return {
        name: np.concatenate(arrays)[:n_rows] for name, arrays in zip(outputs, zip(*parts, strict=True), strict=True)
    }


def _gate(name: str, actual: NDArray[Any], expected: NDArray[Any], *, atol: float, batch: int) -> float:
    if actual.shape != expected.shape:
        raise ParityError(f"output {name} has shape {actual.shape} in batches of {batch}, expected {expected.shape}")
    difference, row = largest_difference(actual, expected)
    if difference > atol:
        raise ParityError(
            f"output {name} differs by {difference:.3g} at row {row} in batches of {batch}, "
            f"at most {atol:g} is allowed: the model gives {expected[row]}, its graph {actual[row]}"
        )
    return difference


def _strip(graph: onnx.GraphProto | onnx.FunctionProto) -> None:
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
                _strip(inner)
    tensors = getattr(graph, "initializer", [])
    for noted in [graph, *graph.node, *tensors, *graph.input, *graph.output]:
        if not isinstance(noted, str):  # a function names its inputs and outputs only
            noted.ClearField("metadata_props")
            noted.ClearField("doc_string")
    graph.ClearField("value_info")


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence what is no news: packages the exporter could also use, and that two inputs share one batch."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="# The axis name: batch will not be used")
            yield
    finally:
        logger.setLevel(level)
