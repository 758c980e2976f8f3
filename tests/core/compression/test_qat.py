"""Training for int8: rounding as ONNX Runtime rounds, and a network that only training saves."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from tests.core.compression.conftest import Digits, SmallCnn, WithSoftmax, train
from torch import nn

from quatrain.core import export
from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.bundle.open import Bundle
from quatrain.core.compression import fake_quant
from quatrain.core.compression.artifact import Artifact
from quatrain.core.compression.gate import Gate, RefusedError
from quatrain.core.compression.measures import Evaluate
from quatrain.core.compression.plan import compress
from quatrain.core.compression.qat import QuantizationAware
from quatrain.core.compression.quantize import Int8
from quatrain.core.compression.retraining import TrainingRows
from quatrain.core.export import check_parity
from quatrain.core.inference import open_session
from quatrain.core.training.config import FitConfig

# How much wider one hidden unit's numbers are than the others'.
IMBALANCE = 300.0
IMAGE = TensorSpec(name="image", dtype="float32", shape=("batch", 1, 8, 8))
PROBABILITY = TensorSpec(name="probability", dtype="float32", shape=("batch", 10))


class Mlp(nn.Module):
    """One hidden layer on an image's 64 numbers."""

    def __init__(self) -> None:
        """Make the layers."""
        super().__init__()
        self.body, self.head = nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits (B, 10)."""
        return self.head(torch.relu(self.body(image.flatten(1))))


@pytest.fixture(scope="module")
def unbalanced(digits: Digits) -> nn.Module:
    """Return a trained network whose most active unit gives numbers 300 times as large, which the head divides again.

    Its float answers are those of before; one scale for all units has no level left for the others.
    """
    torch.manual_seed(0)
    mlp = Mlp()
    train(mlp, digits, n_epochs=12)
    with torch.no_grad():
        active = int(mlp.body(torch.from_numpy(digits.x_train).flatten(1)).amax(0).argmax())
        mlp.body.weight[active] *= IMBALANCE
        mlp.body.bias[active] *= IMBALANCE
        mlp.head.weight[:, active] /= IMBALANCE
    return WithSoftmax(mlp).eval()


@pytest.fixture
def training(digits: Digits) -> TrainingRows:
    """Return the training part and enough epochs to grow into the levels."""
    return TrainingRows(
        inputs=torch.from_numpy(digits.x_train),
        targets=torch.from_numpy(digits.y_train),
        config=FitConfig(epochs=12, batch_size=64, learning_rate=1e-2, weight_decay=0, device="cpu"),
        logits=lambda module: module.get_submodule("classifier"),
    )


@pytest.fixture
def sealed(unbalanced: nn.Module, seal_digits: Callable[..., Bundle], digits: Digits) -> Bundle:
    """Return the unbalanced network, sealed."""
    example = {"image": torch.from_numpy(digits.x_train[:2])}
    return seal_digits(export.torch_model(unbalanced, example, output_names=["probability"]), golden_atol=1e-3)


def test_where_rounding_loses_too_much_training_for_it_is_sealed(
    *, sealed: Bundle, unbalanced: nn.Module, training: TrainingRows, gate: Gate, evaluate: Evaluate, digits: Digits,
    tmp_path: Path,
) -> None:  # fmt: skip
    """The last of the fallbacks, and its artifact keeps its golden outputs in every batch size."""
    step = Int8(calibration=digits.calibration, method="minmax", qat=training)

    def run(step: Int8, folder: str) -> Any:
        return compress(
            sealed, [step], gate=replace(gate, metric_drop=0.05), evaluate=evaluate, folder=tmp_path / folder,
            module=unbalanced,
        )  # fmt: skip

    assert run(replace(step, qat=None), "ptq").bundle is None
    result = run(step, "qat")
    assert [taken.name for taken in result.report.steps] == ["int8", "int8, trained for it"]
    rounded, trained = result.report.steps
    assert rounded.measured.drop > 0.1
    assert trained.accepted, result.report.table()
    assert trained.measured.integer_share == 1.0
    inputs, expected = result.bundle.golden()
    check_parity(result.bundle.onnx, inputs, expected, atol=result.bundle.manifest.golden_atol, batches=(1, 2, 7, 64))


def test_training_without_a_module_is_refused(training: TrainingRows, cnn_onnx: bytes, digits: Digits) -> None:
    """A sealed graph cannot be trained."""
    step = QuantizationAware(int8=Int8(calibration=digits.calibration), training=training)
    with pytest.raises(RefusedError, match="pass module= to compress"):
        step.apply(Artifact(cnn_onnx, (IMAGE,), (PROBABILITY,)))


def test_constants_are_refused_as_ranges(training: TrainingRows, cnn_onnx: bytes) -> None:
    """Before anything is trained."""
    step = QuantizationAware(int8=Int8(calibration={"image": np.zeros((64, 1, 8, 8), np.float32)}), training=training)
    with pytest.raises(RefusedError, match="has 1 different rows of 64"):
        step.apply(Artifact(cnn_onnx, (IMAGE,), (PROBABILITY,)))


def test_the_graph_rounds_by_the_ranges_of_the_training(
    trained_cnn: SmallCnn, cnn_onnx: bytes, training: TrainingRows, digits: Digits
) -> None:
    """The scales in the graph are those that training rounded with, and its answers those of the rounding module."""
    module = WithSoftmax(copy.deepcopy(trained_cnn)).eval()
    short = replace(training, config=FitConfig(epochs=1, batch_size=1024, learning_rate=1e-3, device="cpu"))
    before = Artifact(cnn_onnx, (IMAGE,), (PROBABILITY,), {"image": digits.x_train[:8]}, module)
    int8 = Int8(calibration=digits.calibration, method="minmax")
    after = QuantizationAware(int8=int8, training=short).apply(before)
    assert after.notes == ("3 layers trained with rounded numbers, 2 batch norms folded",)

    folded = copy.deepcopy(module)
    fake_quant.fold_batch_norms(folded, digits.calibration)
    ranges = fake_quant.ranges_of(folded, digits.calibration)
    graph = onnx.load_from_string(after.onnx).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    scales = [float(constants[node.input[1]]) for node in graph.node if node.op_type == "QuantizeLinear"]
    for low, high in ranges.values():
        assert min(abs(scale - (high - low) / 255) for scale in scales) < 1e-6


def test_rounding_is_that_of_the_int8_graph(trained_cnn: SmallCnn, cnn_onnx: bytes, digits: Digits) -> None:
    """The module that rounds in float gives the answers of ONNX Runtime's integer kernels, far closer than float's."""
    module = WithSoftmax(copy.deepcopy(trained_cnn)).eval()
    fake_quant.fold_batch_norms(module, digits.calibration)
    ranges = fake_quant.ranges_of(module, digits.calibration)
    x = torch.from_numpy(digits.x_test[:100])
    with torch.no_grad(), fake_quant.rounding(module, ranges):
        ours = module(x).numpy()
    with torch.no_grad():
        unrounded = module(x).numpy()
    step = Int8(calibration=digits.calibration, method="minmax", correct_bias=False)
    graph = step.apply(Artifact(cnn_onnx, (IMAGE,), (PROBABILITY,))).onnx
    theirs = open_session(graph, threads=1).run(None, {"image": x.numpy()})[0]
    assert np.abs(ours - theirs).mean() < 0.2 * np.abs(unrounded - theirs).mean()


def test_folding_keeps_what_the_module_gives(trained_cnn: SmallCnn, digits: Digits) -> None:
    """And takes the norms out."""
    module = copy.deepcopy(trained_cnn)
    x = torch.from_numpy(digits.x_test[:16])
    with torch.no_grad():
        expected = module(x)
        assert fake_quant.fold_batch_norms(module, {"image": digits.x_train[:16]}) == 2
        torch.testing.assert_close(module(x), expected, atol=1e-4, rtol=1e-4)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())


def test_a_norm_whose_input_is_read_twice_cannot_be_folded() -> None:
    """The other reader would get what is normalised: it is noticed, not shipped."""

    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            given = self.convolution(image)
            return (self.norm(given) + given).mean((2, 3))

    forked = Forked()
    forked.norm.running_var *= 9
    rows = {"image": np.random.default_rng(0).normal(size=(8, 1, 8, 8)).astype(np.float32)}
    with pytest.raises(RefusedError, match="something else reads these"):
        fake_quant.fold_batch_norms(forked.eval(), rows)


def test_rounded_numbers_lie_on_their_levels_and_pass_gradients_inside_them() -> None:
    """256 levels from -1 to 2 with zero among them; beyond them nothing passes (the straight-through estimator)."""
    x = torch.linspace(-1.5, 2.5, 1001, requires_grad=True)
    y = fake_quant.rounded_input(x, -1.0, 2.0)
    levels = y.detach() / (3 / 255)
    torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
    assert 0.0 in y.detach()
    assert len(y.detach().unique()) == 256
    y.sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad[(x > -0.99) & (x < 1.99)], 1.0)
    np.testing.assert_array_equal(x.grad[(x < -1.01) | (x > 2.01)], 0.0)


def test_rounded_weights_have_a_scale_for_each_channel() -> None:
    """The largest of each row stays, and a row of zeros stays zero."""
    weight = torch.tensor([[1.27, 0.004, -0.006], [0.0, 0.0, 0.0], [-12.7, 0.04, 0.06]], requires_grad=True)
    rounded = fake_quant.RoundedWeight()(weight)
    expected = torch.tensor([[1.27, 0.0, -0.01], [0.0, 0.0, 0.0], [-12.7, 0.0, 0.1]])
    torch.testing.assert_close(rounded.detach(), expected)
    rounded.sum().backward()
    torch.testing.assert_close(weight.grad, torch.ones(3, 3))


def test_nothing_of_the_rounding_stays(trained_cnn: SmallCnn, digits: Digits) -> None:
    """Weights have their own names again, and no layer a hook."""
    module = copy.deepcopy(trained_cnn)
    names = set(module.state_dict())
    with fake_quant.rounding(module, fake_quant.ranges_of(module, {"image": digits.x_train[:16]})):
        assert set(module.state_dict()) != names
    assert set(module.state_dict()) == names
    assert not any(layer._forward_pre_hooks for layer in module.modules())
