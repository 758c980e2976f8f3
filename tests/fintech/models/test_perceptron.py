"""The perceptron takes raw inputs and gives a probability, in torch and in its graph."""

from __future__ import annotations

import signal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from quatrain.core import export
from quatrain.core.errors import UserError
from quatrain.fintech.metrics.ranking import average_precision
from quatrain.fintech.metrics.scored import Floats, Labels
from quatrain.fintech.models import perceptron
from quatrain.fintech.models.perceptron import FraudPerceptron, Probability, predict, train_perceptron
from quatrain.fintech.models.perceptron_settings import PerceptronSettings

SETTINGS = PerceptronSettings(hidden=(16,), epochs=8, batch_size=256, learning_rate=1e-2)


@pytest.fixture(scope="module")
def rows() -> tuple[NDArray[np.float32], Labels]:
    """Return raw inputs on very different scales; the first is constant."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(3000, 2))
    x = np.column_stack([np.full(3000, 7.0), np.exp(3 + 2 * signal[:, 0]), 1e-4 * signal[:, 1]]).astype(np.float32)
    return x, rng.random(3000) < 1 / (1 + np.exp(3 - 2 * signal[:, 0] - signal[:, 1]))


def test_raw_inputs_are_scaled_inside(rows: tuple[NDArray[np.float32], Labels]) -> None:
    """What reaches the first layer has mean 0 and deviation 1, and a constant input is harmless."""
    x, _ = rows
    model = FraudPerceptron(x, prior=0.1, hidden=(4,), dropout=0.0)
    seen: list[torch.Tensor] = []
    model.body.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(torch.from_numpy(x))
    np.testing.assert_allclose(seen[0].detach().mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(seen[0].detach().std(0)[1:], 1, atol=1e-2)
    assert torch.isfinite(model(torch.full((2, 3), 3e38))).all()
    assert torch.isfinite(model(torch.full((2, 3), -3e38))).all()


def test_it_starts_at_the_fraud_rate(rows: tuple[NDArray[np.float32], Labels]) -> None:
    """Before training the scores lie around the prior."""
    torch.manual_seed(0)
    model = FraudPerceptron(rows[0], prior=0.002, hidden=(64, 32), dropout=0.0)
    assert float(torch.sigmoid(model(torch.from_numpy(rows[0]))).detach().median()) == pytest.approx(0.002, rel=0.5)


def test_it_learns_and_reports_its_best_epoch(rows: tuple[NDArray[np.float32], Labels]) -> None:
    """Held-out frauds rank far above chance; the epochs lie within the settings."""
    x, y = rows
    model, epochs = train_perceptron(SETTINGS, x[:2000], y[:2000], seed=0, valid=(x[2000:], y[2000:]), device="cpu")
    assert 1 <= epochs <= 8
    assert average_precision(y[2000:], predict(model, x[2000:])) > 2 * y.mean()


def test_same_seed_gives_the_same_weights(rows: tuple[NDArray[np.float32], Labels]) -> None:
    """Bit for bit."""
    first, second = (train_perceptron(SETTINGS, *rows, seed=3, device="cpu")[0] for _ in range(2))
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name]), name


def test_the_graph_gives_the_same_probabilities(rows: tuple[NDArray[np.float32], Labels]) -> None:
    """Raw float32 in, probability out, for every batch size, extremes included."""
    model, _ = train_perceptron(SETTINGS, *rows, seed=0, device="cpu")
    onnx = export.torch_model(Probability(model), {"features": torch.zeros(2, 3)}, output_names=["probability"])
    x = np.concatenate([rows[0][:100], np.full((1, 3), 3e38, dtype=np.float32)])
    expected = {"probability": predict(model, x).astype(np.float32)}
    assert export.check_parity(onnx, {"features": x}, expected) < 1e-5


def test_a_training_that_was_stopped_is_no_model(
    rows: tuple[NDArray[np.float32], Labels], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM in the middle raises instead of handing half-trained weights to be sealed."""
    measure = perceptron.average_precision

    def and_stop(label: Labels, score: Floats) -> float:
        signal.raise_signal(signal.SIGTERM)
        return measure(label, score)

    monkeypatch.setattr(perceptron, "average_precision", and_stop)
    x, y = rows
    with pytest.raises(UserError, match=r"training ended at epoch 1 of 8: .*SIGTERM; nothing was sealed"):
        train_perceptron(SETTINGS, x[:2000], y[:2000], seed=0, valid=(x[2000:], y[2000:]), device="cpu")
