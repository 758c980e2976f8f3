"""Several networks in one: raw inputs to a probability, in torch and in the graph."""

from __future__ import annotations

import signal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from quatrain.core import export
from quatrain.core.errors import UserError
from quatrain.fintech.metrics.ranking import average_precision
from quatrain.fintech.metrics.scored import Labels
from quatrain.fintech.models import network
from quatrain.fintech.models.encoding import Encoding
from quatrain.fintech.models.fold import X
from quatrain.fintech.models.network import Probability, exported, predict, train
from quatrain.fintech.models.tabm import FraudTabm
from quatrain.fintech.models.tabm_settings import TabmSettings

SETTINGS = TabmSettings(members=3, hidden=(16,), bins=8, epochs=5, batch_size=128, learning_rate=1e-2, device="cpu")


@pytest.fixture(scope="module")
def rows() -> tuple[X, Labels]:
    """Return raw inputs on very different scales; the first is constant, the last has two values."""
    rng = np.random.default_rng(0)
    of = rng.normal(size=(3000, 2))
    columns = [np.full(3000, 7.0), np.exp(3 + 2 * of[:, 0]), 1e-4 * of[:, 1], rng.integers(0, 2, 3000)]
    return np.column_stack(columns).astype(np.float32), rng.random(3000) < 1 / (1 + np.exp(3 - 2 * of[:, 0] - of[:, 1]))


@pytest.fixture(scope="module")
def model(rows: tuple[X, Labels]) -> FraudTabm:
    """Return a trained network."""
    return train("tabm", SETTINGS, *rows, seed=0)[0]


def encoded(x: X, at: list[float], *, bins: int) -> NDArray[np.float32]:
    """Return how these values of the first input are encoded."""
    values = torch.zeros(len(at), x.shape[1])
    values[:, 0] = torch.tensor(at)
    result: NDArray[np.float32] = Encoding(x, bins=bins)(values)[:, 0].numpy()
    return result


def test_a_value_fills_the_bins_below_it() -> None:
    """Of 0 to 1000 in four bins: 375 fills the first, and half of the second."""
    x = np.linspace(0, 1000, 1001, dtype=np.float32)[:, None]
    first = encoded(x, [375.0, -5.0, 1e9], bins=4)
    np.testing.assert_allclose(first[0], [1, 0.5, 0, 0, 0, 0, 0], atol=1e-5)
    np.testing.assert_allclose(first[1:], [[0] * 7, [1] * 7])


def test_an_input_with_few_values_has_few_bins() -> None:
    """A flag is one bin, a constant none: what is left is 0 for every value, the largest included."""
    flag = np.arange(100, dtype=np.float32)[:, None] % 2
    np.testing.assert_allclose(encoded(flag, [0.0, 0.5, 1.0], bins=4).sum(axis=1), [0, 0.5, 1])
    constant = np.full((100, 1), 7, dtype=np.float32)
    assert (encoded(constant, [-3e38, 7.0, 3e38], bins=4) == 0).all()


def test_members_are_batch_ensembles() -> None:
    """Each member's answer is that of its own plain network: the shared matrix scaled on both sides."""
    torch.manual_seed(0)
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    model = FraudTabm(x, SETTINGS, prior=0.1).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) / 10)
        answer = model(torch.from_numpy(x))
        inputs = torch.einsum("bft,ftd->bfd", model.encoding(torch.from_numpy(x)), model.embed) + model.embed_bias
        for member in range(SETTINGS.members):
            matrix = model.after[0][member][:, None] * model.layers[0].weight * model.before[0][member]
            hidden = torch.relu(torch.relu(inputs).flatten(1) @ matrix.T + model.bias[0][member])
            alone = hidden @ model.head[member] + model.head_bias[member]
            torch.testing.assert_close(answer[:, member], alone, rtol=1e-4, atol=1e-5)


def test_it_starts_at_the_fraud_rate(rows: tuple[X, Labels]) -> None:
    """Before training the scores lie around the prior."""
    torch.manual_seed(0)
    model = FraudTabm(rows[0], TabmSettings(), prior=0.002)
    assert np.median(predict(model.eval(), rows[0])) == pytest.approx(0.002, rel=0.5)


def test_it_learns_and_tells_how_far_it_was_after_each_epoch(rows: tuple[X, Labels]) -> None:
    """Held-out frauds rank far above chance; the last look is the network's own answer."""
    x, y = rows
    valid = (x[2000:], y[2000:])
    _, looks = train("tabm", SETTINGS, x[:2000], y[:2000], seed=0, valid=valid)
    assert len(looks) == SETTINGS.epochs
    aps = [average_precision(valid[1], look.astype(np.float64)) for look in looks]
    assert max(aps) > 2 * y.mean()
    again, _ = train("tabm", SETTINGS, x[:2000], y[:2000], seed=0)
    np.testing.assert_allclose(looks[-1], predict(again, valid[0]), atol=1e-6)


def test_same_seed_gives_the_same_weights(rows: tuple[X, Labels], model: FraudTabm) -> None:
    """Bit for bit; another seed others."""
    again, other = (train("tabm", SETTINGS, *rows, seed=seed)[0].state_dict() for seed in (0, 1))
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again[name]), name
    assert not torch.equal(model.head, other["head"])


def test_the_graph_gives_the_same_probabilities(rows: tuple[X, Labels], model: FraudTabm) -> None:
    """Raw float32 in, probability out, for every batch size, extremes included; the weights come along."""
    x = np.concatenate([rows[0][:100], np.full((1, 4), 3e38), np.full((1, 4), -3e38)]).astype(np.float32)
    made = exported(model)
    assert export.check_parity(made.onnx, {"features": x}, {"probability": predict(model, x)}, atol=1e-5) < 1e-5
    assert made.weights is not None
    assert made.weights.keys() == model.state_dict().keys()


def test_the_answer_is_the_mean_of_the_members(rows: tuple[X, Labels], model: FraudTabm) -> None:
    """Probabilities are averaged, not log odds."""
    x = torch.from_numpy(rows[0][:20])
    with torch.no_grad():
        torch.testing.assert_close(Probability(model)(x), torch.sigmoid(model(x)).mean(1))


def test_a_training_that_was_stopped_is_no_model(rows: tuple[X, Labels], monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM in the middle raises instead of handing half-trained weights to be sealed."""
    loss = network.loss

    def and_stop(odds: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        signal.raise_signal(signal.SIGTERM)
        return loss(odds, targets)

    monkeypatch.setattr(network, "loss", and_stop)
    with pytest.raises(UserError, match=r"training ended at epoch \d of 5: .*SIGTERM; nothing was sealed"):
        train("tabm", SETTINGS, *rows, seed=0)
