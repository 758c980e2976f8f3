"""Exported graphs against the models they came from, and the gate between them."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import nn

from quatrain.core import export
from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.inference import largest_difference, open_session


class TwoBranch(nn.Module):
    """Two inputs, dropout and batch statistics: what differs between training and evaluation."""

    def __init__(self) -> None:
        """Make the layers."""
        super().__init__()
        self.left = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Dropout(0.5))
        self.right = nn.Linear(2, 8)
        self.head = nn.Linear(8, 1)

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return probability (B,) and hidden values (B, 8)."""
        hidden = self.left(first) + self.right(second)
        return torch.sigmoid(self.head(hidden)).squeeze(1), hidden


@pytest.fixture(scope="module")
def module() -> TwoBranch:
    """Return a module left in training mode, with batch statistics that are not the initial ones."""
    torch.manual_seed(0)
    module = TwoBranch()
    module(torch.randn(64, 3) * 3 + 1, torch.randn(64, 2))
    return module


@pytest.fixture(scope="module")
def inputs() -> dict[str, NDArray[np.float32]]:
    """Return 65 rows, which no batch size of the gate divides."""
    rng = np.random.default_rng(1)
    return {
        "amounts": rng.normal(size=(65, 3)).astype(np.float32),
        "counts": rng.normal(size=(65, 2)).astype(np.float32),
    }


@pytest.fixture(scope="module")
def exported(module: TwoBranch) -> bytes:
    """Return the module as ONNX; exporting takes seconds, so once."""
    example = {"amounts": torch.randn(3, 3), "counts": torch.randn(3, 2)}
    return export.torch_model(module, example, output_names=["probability", "hidden"])


@pytest.fixture(scope="module")
def expected(module: TwoBranch, inputs: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Return what the module itself answers in evaluation mode."""
    was_training = module.training
    module.eval()
    with torch.no_grad():
        probability, hidden = module(*(torch.from_numpy(array) for array in inputs.values()))
    module.train(was_training)
    return {"probability": probability.numpy(), "hidden": hidden.numpy()}


def test_a_torch_graph_gives_the_modules_numbers_at_every_batch_size(
    exported: bytes, inputs: dict[str, NDArray[np.float32]], expected: dict[str, NDArray[np.float32]]
) -> None:
    """Batches of 1, 2, 7 and 64 run, in evaluation mode, within 1e-5."""
    assert export.check_parity(exported, inputs, expected, atol=1e-5) < 1e-5


def test_a_torch_graph_keeps_its_names_and_a_dynamic_batch(exported: bytes) -> None:
    """The session shows the names that were asked for, and only the batch is open."""
    session = open_session(exported)
    assert [(i.name, i.shape, i.type) for i in session.get_inputs()] == [
        ("amounts", ["batch", 3], "tensor(float)"),
        ("counts", ["batch", 2], "tensor(float)"),
    ]
    assert [(o.name, o.shape) for o in session.get_outputs()] == [("probability", ["batch"]), ("hidden", ["batch", 8])]
    assert onnx.load_from_string(exported).opset_import[0].version == export.OPSET


def test_a_torch_graph_holds_no_notes_of_the_machine(exported: bytes) -> None:
    """The exporter writes stack traces into nodes; a sealed file names no folder."""
    assert b"site-packages" not in exported
    assert str(Path(__file__).parent).encode() not in exported
    assert b".py" not in exported


def test_exporting_leaves_the_module_and_the_logger_alone(module: TwoBranch, exported: bytes) -> None:
    """Training goes on after an export as if there had been none."""
    assert exported
    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert logging.getLogger("torch.onnx").level == logging.NOTSET


def test_exporting_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """The exporter's warnings about packages that it could also use stay away, and bytes repeat."""
    torch.manual_seed(0)
    linear = nn.Linear(2, 1)
    first, second = (export.torch_model(linear, {"x": torch.randn(2, 2)}, output_names=["y"]) for _ in range(2))
    assert capfd.readouterr() == ("", "")
    assert first == second


@pytest.mark.parametrize(
    "example",
    [
        {},
        {"x": torch.randn(1, 2)},
        {"x": torch.tensor(1.0)},
        {"x": torch.randn(3, 2), "y": torch.randn(4, 2)},
    ],
    ids=["none", "one row", "scalar", "two sizes"],
)
def test_example_inputs_that_would_freeze_the_batch_are_refused(example: dict[str, torch.Tensor]) -> None:
    """One row, or rows that disagree, would give a graph that runs at one batch size only."""
    with pytest.raises(ValueError, match="one common batch of at least 2 rows"):
        export.torch_model(nn.Linear(2, 1), example, output_names=["y"])


class MeanOfBatch(nn.Module):
    """Mixes the rows of a batch, which no exported model may do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one number for the whole batch."""
        return x.mean(dim=0)


def test_a_module_that_loses_the_batch_is_refused() -> None:
    """An output without a row per input row cannot be served."""
    with pytest.raises(export.ExportError, match="y does not keep the batch as its first dimension"):
        export.torch_model(MeanOfBatch(), {"x": torch.randn(3, 2)}, output_names=["y"])


def graph(make: Callable[[], list[onnx.NodeProto]], *, rows: int | str = "batch") -> bytes:
    """Return a one-input graph x (rows, 2) -> y."""
    made = helper.make_graph(
        make(),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, 2])],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(model.SerializeToString())


def identity() -> list[onnx.NodeProto]:
    """Return the graph y = x."""
    return [helper.make_node("Identity", ["x"], ["y"])]


def subtract_batch_mean() -> list[onnx.NodeProto]:
    """Return the graph y = x - mean over the batch: right for one batch size at a time only."""
    return [
        helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]


def test_parity_names_output_batch_and_row() -> None:
    """The message leads to the row that differs most."""
    x = np.zeros((5, 2), dtype=np.float32)
    wrong = x.copy()
    wrong[3, 1] = 0.25
    message = "output y differs by 0.25 at row 3 in batches of 2, at most 0.0001 is allowed"
    with pytest.raises(export.ParityError, match=re.escape(message)):
        export.check_parity(graph(identity), {"x": x}, {"y": wrong}, batches=(2,))


def test_parity_catches_a_graph_that_depends_on_the_batch() -> None:
    """A graph that is right at the batch size it was exported with still fails the gate."""
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    assert export.check_parity(graph(subtract_batch_mean), {"x": x}, {"y": x - x.mean()}, batches=(4,)) == 0
    with pytest.raises(export.ParityError, match="in batches of 1"):
        export.check_parity(graph(subtract_batch_mean), {"x": x}, {"y": x - x.mean()})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_parity_never_passes_a_number_that_is_not_finite(value: float) -> None:
    """NaN compares false with every bound; the gate must not read that as close."""
    x = np.full((3, 2), value, dtype=np.float32)
    assert export.check_parity(graph(identity), {"x": x}, {"y": x}) == 0
    with pytest.raises(export.ParityError, match="differs by inf at row 0"):
        export.check_parity(graph(identity), {"x": x}, {"y": np.zeros_like(x)})


def test_parity_refuses_another_shape() -> None:
    """Broadcasting (n,) against (n, 2) would compare the wrong numbers."""
    x = np.zeros((3, 2), dtype=np.float32)
    with pytest.raises(export.ParityError, match=r"y has shape \(3, 2\) in batches of 1, expected \(3,\)"):
        export.check_parity(graph(identity), {"x": x}, {"y": x[:, 0]})


@pytest.mark.parametrize("rows", [(0, 0), (3, 4)], ids=["none", "two sizes"])
def test_parity_needs_rows_to_compare(rows: tuple[int, int]) -> None:
    """No rows would pass any graph."""
    x, y = (np.zeros((n, 2), dtype=np.float32) for n in rows)
    with pytest.raises(ValueError, match="one common number of rows above 0"):
        export.check_parity(graph(identity), {"x": x}, {"y": y})


@pytest.mark.parametrize(
    ("actual", "wanted", "answer"),
    [
        ([1.0, 2.0], [1.0, 2.5], (0.5, 1)),
        ([[1.0, 2.0], [3.0, 9.0]], [[1.0, 2.0], [3.0, 4.0]], (5.0, 1)),
        ([np.nan, 1.0], [np.nan, 1.0], (0.0, 0)),
        ([np.inf, 1.0], [-np.inf, 1.0], (np.inf, 0)),
        ([1, 5], [1, 2], (3.0, 1)),
        ([], [], (0.0, 0)),
    ],
)
def test_largest_difference_and_its_row(actual: Any, wanted: Any, answer: tuple[float, int]) -> None:
    """The worst row is found for floats, integers, matrices and the values that are not numbers."""
    assert largest_difference(np.array(actual), np.array(wanted)) == answer


def test_named_dimensions_take_any_size() -> None:
    """What `dynamic` names is a name in the graph, and other sizes than the example's run."""
    spec = TensorSpec(name="pixels", dtype="float32", shape=("batch", "height", 4, "width"))
    assert export.dynamic_sizes([spec]) == {"pixels": {1: "height", 3: "width"}}
    onnx_bytes = export.torch_model(
        MeanOfRows(), {"pixels": torch.zeros(2, 5, 4, 6)}, output_names=["mean"], dynamic=export.dynamic_sizes([spec])
    )
    dims = onnx.load_from_string(onnx_bytes).graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", "height", 4, "width"]
    pixels = np.random.default_rng(0).normal(size=(3, 2, 4, 9)).astype(np.float32)
    (mean,) = open_session(onnx_bytes).run(None, {"pixels": pixels})
    np.testing.assert_allclose(mean, pixels.mean((1, 3)), atol=1e-6)


def test_dimensions_that_nobody_names_stay_fixed() -> None:
    """A graph of one size refuses others instead of answering about something else."""
    onnx_bytes = export.torch_model(MeanOfRows(), {"pixels": torch.zeros(2, 5, 4, 6)}, output_names=["mean"])
    with pytest.raises(Exception, match="Got: 9 Expected: 6"):
        open_session(onnx_bytes).run(None, {"pixels": np.zeros((3, 5, 4, 9), np.float32)})


class MeanOfRows(nn.Module):
    """The mean over two of three dimensions after the batch."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return means, (B, columns)."""
        return pixels.mean((1, 3))
