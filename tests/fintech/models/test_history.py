"""The network over histories: what it may see, what it predicts, and what is read off for a booster."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from quatrain.fintech.features.sequences import CHANNELS, SequenceSpec, Values
from quatrain.fintech.models.history import EventHistory, Pretraining, surprise
from quatrain.fintech.models.history_settings import HistorySettings
from quatrain.fintech.models.history_suspicion import READ, Inputs, Suspicion, read
from quatrain.fintech.models.history_tokens import CHANNEL, Bins

SETTINGS = HistorySettings(
    sequence=SequenceSpec(length=6, buckets=16), width=16, layers=2, heads=2, dropout=0.0, n_bins=4, negatives=8
)
T = SETTINGS.sequence.length


def token_values(n: int, *, seed: int = 0) -> Values:
    """Return n tokens of plausible values."""
    rng = np.random.default_rng(seed)
    values = np.abs(rng.normal(size=(n, len(CHANNELS)))).astype(np.float32)
    values[:, CHANNEL["is_event"]] = 1
    values[:, CHANNEL["hour"]] = rng.uniform(0, 24, n)
    values[:, CHANNEL["weekday"]] = rng.integers(0, 7, n)
    for name, place in CHANNEL.items():
        if name.endswith("_bucket"):
            values[:, place] = rng.integers(0, 16, n)
        if name.endswith("_ago"):
            values[:, place] = rng.integers(0, 6, n)
    return values


@pytest.fixture(scope="module")
def x() -> Tensor:
    """Return eight sequences; the second is padded to two events."""
    found = torch.from_numpy(token_values(8 * T).reshape(8, T, -1))
    found[1, : T - 2] = 0
    return found


@pytest.fixture(scope="module")
def history() -> EventHistory:
    """Return a network that has learned nothing."""
    torch.manual_seed(0)
    return EventHistory(token_values(500), SETTINGS).eval()


def test_no_event_sees_a_later_one(history: EventHistory, x: Tensor) -> None:
    """Whatever comes last, what is said of the events before it stays bit for bit."""
    changed = x.clone()
    changed[:, -1] = torch.from_numpy(token_values(8, seed=9))
    with torch.no_grad():
        before, after = history(x)[0], history(changed)[0]
    assert torch.equal(before[:, :-1], after[:, :-1])
    assert not torch.equal(before[:, -1], after[:, -1])


def test_padding_says_nothing(history: EventHistory, x: Tensor) -> None:
    """States of events do not change with what stands in the padding, apart from the flag that it is padding."""
    changed = x.clone()
    changed[1, : T - 2] = torch.from_numpy(token_values(T - 2, seed=9))
    changed[1, : T - 2, CHANNEL["is_event"]] = 0
    with torch.no_grad():
        torch.testing.assert_close(history(changed)[0][1, -2:], history(x)[0][1, -2:])


def test_surprise_is_the_cross_entropy() -> None:
    """Against torch's own."""
    torch.manual_seed(0)
    logits, told = torch.randn(3, 4, 5), torch.randint(0, 5, (3, 4))
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), told.flatten(), reduction="none")
    torch.testing.assert_close(surprise(logits, told).flatten(), expected)


def test_the_next_event_is_predicted_before_it_is_seen(history: EventHistory, x: Tensor) -> None:
    """The logits for an event's gap and hour, which come first, do not depend on that event."""
    head = Pretraining(history, token_values(500)).eval().next
    changed = x.clone()
    changed[:, -1] = torch.from_numpy(token_values(8, seed=9))
    with torch.no_grad():
        logits = []
        for tokens in (x, changed):
            states, (when, where, _) = history(tokens)
            logits.append(head.logits(states[:, :-1], when[:, 1:], where[:, 1:]))
    for field, first, second in zip(head.fields, *logits, strict=True):
        assert torch.equal(first[:, -1], second[:, -1]) == (field in {"gap", "hour"}), field


def test_pretraining_counts_events_only(history: EventHistory, x: Tensor) -> None:
    """A sequence of one event has nothing to predict from its padding but itself; one of padding nothing at all."""
    model = Pretraining(history, token_values(500)).eval()
    empty = torch.zeros_like(x)
    with torch.no_grad():
        assert (model(empty) == 0).all()
        nats = model(x)
    assert nats.shape == (8, len(model.names))
    # Without training every class of the hour is about as likely as another.
    assert nats[0, model.names.index("hour")].item() * T / (T - 1) == pytest.approx(np.log(24), abs=0.6)


def test_bins_are_quantiles_and_encode_how_far_through_each() -> None:
    """Of 0 to 999 in four bins: bounds by numpy's quantiles; a value halfway through the second bin fills it half."""
    values = np.arange(1000, dtype=np.float32)
    bins = Bins(values, n_bins=4)
    bounds = np.quantile(values, [0.25, 0.5, 0.75, 0.99, 0.995, 0.999], method="higher")
    np.testing.assert_array_equal(bins.bounds.numpy(), bounds.astype(np.float32))
    at = np.array([0, 249, 250, 374, 700, 999, 5000], dtype=np.float32)
    np.testing.assert_array_equal(bins.classes(torch.from_numpy(at)).numpy(), np.searchsorted(bounds, at, side="right"))
    encoded = bins.encode(torch.tensor([375.0]))[0].numpy()
    np.testing.assert_allclose(encoded[1:], [0.5, 0, 0, 0, 0], atol=0.01)


def test_a_constant_can_be_binned() -> None:
    """An amount that is always the same leaves one class in use, and no division by zero."""
    bins = Bins(np.full(50, 3.0, dtype=np.float32), n_bins=4)
    assert bins.classes(torch.tensor([3.0])).item() == 0
    assert torch.isfinite(bins.encode(torch.tensor([3.0, 9.0]))).all()


def test_inputs_are_put_on_one_scale() -> None:
    """Against numpy; a constant becomes 0 and an absurd value stays in bounds."""
    rng = np.random.default_rng(0)
    raw = np.column_stack([np.exp(3 * rng.normal(size=4000)), np.full(4000, 7.0), rng.random(4000) < 0.01])
    raw = raw.astype(np.float32)
    scaled = Inputs(raw)(torch.from_numpy(raw)).numpy()
    low, middle, high = np.quantile(raw[:, 0], [0.25, 0.5, 0.75])
    squeezed = np.arcsinh((raw[:, 0] - middle) / (high - low))
    expected = np.clip((squeezed - squeezed.mean()) / squeezed.std(), -5, 5)
    np.testing.assert_allclose(scaled[:, 0], expected, atol=1e-4)
    assert (scaled[:, 1] == 0).all()
    assert np.ptp(scaled[:, 2]) > 1
    assert np.abs(Inputs(raw)(torch.full((1, 3), 3e38)).numpy()).max() <= 5


def told_of_past(odds: list[float]) -> list[float]:
    """Return what is told of earlier events, the earliest first, from its definition."""
    if not odds:
        return [-20.0] * 4
    return [*(float(np.mean(odds[-span:])) for span in (1, 3, 10)), max(odds[-10:])]


def test_what_is_read_agrees_with_its_definition() -> None:
    """Against plain Python over each sequence's events and over those with the last one's peer; 0 is no peer."""
    rng = np.random.default_rng(1)
    x = np.zeros((40, 14, len(CHANNELS)), dtype=np.float32)
    odds: NDArray[np.float32] = rng.normal(size=(40, 14)).astype(np.float32)
    for row in range(40):
        x[row, 14 - rng.integers(1, 15) :, CHANNEL["is_event"]] = 1
    x[..., CHANNEL["peer_bucket"]] = rng.integers(0, 3, (40, 14)) * x[..., CHANNEL["is_event"]]
    expected = []
    for of_row, said in zip(x, odds, strict=True):
        past = [j for j in range(13) if of_row[j, CHANNEL["is_event"]]]
        peer = of_row[-1, CHANNEL["peer_bucket"]]
        alike = [j for j in past if of_row[j, CHANNEL["peer_bucket"]] == peer != 0]
        expected.append([said[-1], *told_of_past([said[j] for j in past]), *told_of_past([said[j] for j in alike])])
    found = read(torch.from_numpy(x), torch.from_numpy(odds)).numpy()
    assert found.shape == (40, len(READ))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_suspicion_starts_at_the_share_of_frauds_and_sees_no_later_event(history: EventHistory, x: Tensor) -> None:
    """The inputs of a later event count as little as the event itself."""
    torch.manual_seed(0)
    inputs = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    network = Suspicion(history, inputs, prior=0.01).eval()
    wide = torch.cat([x, torch.randn(8, T, 3)], -1)
    changed = wide.clone()
    changed[:, -1, len(CHANNELS) :] += 2
    with torch.no_grad():
        before, after = network(wide), network(changed)
    assert before.median().item() == pytest.approx(np.log(0.01 / 0.99), abs=0.7)
    assert torch.equal(before[:, :-1], after[:, :-1])
    assert not torch.equal(before[:, -1], after[:, -1])


def test_a_width_that_heads_cannot_share_is_refused() -> None:
    """Rotary positions turn pairs of each head's values."""
    with pytest.raises(ValidationError, match="width must be a multiple of twice the heads, got 18 and 4 heads"):
        HistorySettings(width=18, heads=4)
