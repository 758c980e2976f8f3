"""Schedules, averages, clipping, class weights and losses against torch, sklearn or a closed form."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.optim import lr_scheduler

from quatrain.core.training import optimizers, schedules
from quatrain.core.training.config import FitConfig, Schedule
from quatrain.core.training.ema import Ema
from quatrain.core.training.losses import batch_loss, per_sample
from quatrain.core.training.weights import class_weights


def _torch_factors(scheduler: lr_scheduler.LRScheduler, total: int) -> list[float]:
    factors = []
    for _ in range(total):
        factors.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        with warnings.catch_warnings():
            # OneCycleLR has no rate for the step after the last one, and SequentialLR's own use
            # of the scheduler it wraps is deprecated.
            warnings.simplefilter("ignore")
            try:
                scheduler.step()
            except ValueError:
                break
    return factors


def _sgd() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


def _factors(schedule: Schedule, total: int, warmup_fraction: float) -> list[float]:
    return [
        schedules.factor(schedule, step=step, total=total, warmup_fraction=warmup_fraction) for step in range(total)
    ]


@pytest.mark.parametrize(("total", "fraction"), [(100, 0.3), (28, 0.05), (7, 0.5), (50, 0.0)])
def test_one_cycle_equals_torch(total: int, fraction: float) -> None:
    """The closed form follows OneCycleLR at every step."""
    oracle = lr_scheduler.OneCycleLR(_sgd(), max_lr=1.0, total_steps=total, pct_start=fraction, cycle_momentum=False)
    np.testing.assert_allclose(_factors("one_cycle", total, fraction), _torch_factors(oracle, total), rtol=1e-12)


def test_cosine_without_warmup_equals_torch() -> None:
    """The closed form follows CosineAnnealingLR at every step."""
    oracle = lr_scheduler.CosineAnnealingLR(_sgd(), T_max=60)
    np.testing.assert_allclose(_factors("cosine", 60, 0.0), _torch_factors(oracle, 60), rtol=1e-9)


def test_warmup_then_cosine_equals_torch() -> None:
    """Ten linear steps to the peak, then the cosine, as LinearLR and CosineAnnealingLR in turn."""
    sgd = _sgd()
    warmup = lr_scheduler.LinearLR(sgd, start_factor=0.1, end_factor=1.0, total_iters=9)
    cosine = lr_scheduler.CosineAnnealingLR(sgd, T_max=90)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = lr_scheduler.SequentialLR(sgd, [warmup, cosine], milestones=[10])
    np.testing.assert_allclose(_factors("cosine", 100, 0.1), _torch_factors(oracle, 100), rtol=1e-9)


@given(
    schedule=st.sampled_from(["constant", "cosine", "one_cycle"]),
    total=st.integers(1, 300),
    fraction=st.floats(0, 0.99),
)
@settings(deadline=None)
def test_schedules_stay_between_zero_and_the_peak(schedule: Schedule, total: int, fraction: float) -> None:
    """No length and no warm-up makes a rate negative, infinite or above the peak."""
    factors = _factors(schedule, total, fraction)
    assert all(0 < factor <= 1 + 1e-12 for factor in factors)


def test_constant_schedule_warms_up_linearly() -> None:
    """A quarter of eight steps climbs, the rest stays at the peak."""
    assert _factors("constant", 8, 0.25) == [0.5, 1, 1, 1, 1, 1, 1, 1]


def test_ema_equals_its_closed_form() -> None:
    """After n updates the average is the sum of all weights, each times the decays since."""
    model = nn.Linear(3, 2).double()
    ema = Ema(model, 0.6)
    first = model.weight.detach().clone()
    values = [torch.randn(2, 3, dtype=torch.float64) for _ in range(20)]
    for n_updates, value in enumerate(values):
        with torch.no_grad():
            model.weight.copy_(value)
        ema.update(n_updates)
    decays = [min(0.6, (1 + n) / (10 + n)) for n in range(20)]
    assert decays[-1] == 0.6
    expected = math.prod(decays) * first
    for n, value in enumerate(values):
        expected += (1 - decays[n]) * math.prod(decays[n + 1 :]) * value
    torch.testing.assert_close(ema.tensors["weight"], expected, rtol=1e-12, atol=1e-12)


def test_ema_of_constant_weights_is_those_weights() -> None:
    """Whatever the decay, an average of equal values is the value."""
    model = nn.Linear(3, 2)
    ema = Ema(model, 0.999)
    for n_updates in range(50):
        ema.update(n_updates)
    torch.testing.assert_close(ema.tensors["weight"], model.weight.detach())


def test_ema_gives_the_model_its_own_weights_back() -> None:
    """Inside the block the model runs on the average; afterwards, and after an error, on its own."""
    model = nn.Linear(3, 2)
    ema = Ema(model, 0.5)
    first = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1.0)
    seen = []

    def use() -> None:
        with ema.applied():
            seen.append(model.weight.detach().clone())
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        use()
    assert torch.equal(seen[0], first)
    assert torch.equal(model.weight, first + 1.0)


def test_ema_leaves_frozen_weights_alone() -> None:
    """Only what is trained is averaged."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    model[0].requires_grad_(requires_grad=False)
    assert set(Ema(model, 0.9).tensors) == {"1.weight", "1.bias"}


@pytest.mark.parametrize("clip_norm", [0.01, 1.0, 1e6])
def test_clipping_equals_torch(clip_norm: float) -> None:
    """Gradients below the norm stay, above it they shrink together."""
    torch.manual_seed(0)
    ours = [torch.randn(4, 5, requires_grad=True), torch.randn(7, requires_grad=True)]
    theirs = [tensor.detach().clone().requires_grad_() for tensor in ours]
    for our, their in zip(ours, theirs, strict=True):
        our.grad = torch.randn_like(our)
        their.grad = our.grad.clone()
    optimizers.clip_gradients(ours, clip_norm)
    torch.nn.utils.clip_grad_norm_(theirs, clip_norm)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our.grad, their.grad)


def test_adamw_equals_torch_s_plain_one() -> None:
    """The fused kernel takes the steps of the reference, and biases do not decay."""
    torch.manual_seed(0)
    model, twin = nn.Linear(5, 3), nn.Linear(5, 3)
    twin.load_state_dict(model.state_dict())
    ours = optimizers.adamw(model, FitConfig(learning_rate=0.01, weight_decay=0.1))
    groups = [{"params": [twin.weight], "weight_decay": 0.1}, {"params": [twin.bias], "weight_decay": 0.0}]
    theirs = torch.optim.AdamW(groups, lr=0.01, fused=False, foreach=False)
    inputs = torch.randn(8, 5)
    for _ in range(20):
        for network, optimizer in ((model, ours), (twin, theirs)):
            optimizer.zero_grad()
            network(inputs).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(model.state_dict(), twin.state_dict(), rtol=1e-5, atol=1e-6)


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=200))
@settings(deadline=None)
def test_class_weights_equal_sklearn_s_balanced(labels: list[int]) -> None:
    """For every class that occurs; one that does not gets 0."""
    weights = class_weights(torch.tensor(labels), n_classes=5)
    present = np.unique(labels)
    oracle = compute_class_weight("balanced", classes=present, y=np.array(labels))
    np.testing.assert_allclose(weights[present], oracle, rtol=1e-6)
    assert weights.sum() == pytest.approx(oracle.sum(), rel=1e-6)
    assert weights[torch.tensor(labels)].mean() == pytest.approx(1.0, rel=1e-5)


def test_class_weights_take_a_float_column() -> None:
    """Targets as a binary loss wants them, float of shape (n, 1), do as well."""
    targets = torch.tensor([[0.0], [0.0], [0.0], [1.0]])
    torch.testing.assert_close(class_weights(targets), torch.tensor([4 / 6, 2.0]))


@pytest.mark.parametrize(
    ("targets", "n_classes", "message"),
    [
        (torch.tensor([]), None, "at least one target"),
        (torch.tensor([0.5]), None, "class numbers"),
        (torch.tensor([-1]), None, "class numbers"),
        (torch.tensor([3]), 3, "below n_classes=3, got 3"),
    ],
)
def test_class_weights_refuse_what_is_no_class(targets: Tensor, n_classes: int | None, message: str) -> None:
    """Regression targets and a number too high are told apart from classes."""
    with pytest.raises(ValueError, match=message):
        class_weights(targets, n_classes=n_classes)


@given(n=st.integers(1, 20), low=st.integers(0, 20), has_weight=st.booleans())
@settings(deadline=None)
def test_parts_of_a_batch_add_up_to_its_loss(n: int, low: int, *, has_weight: bool) -> None:
    """However a batch is divided between processes, their losses sum to the whole batch's."""
    generator = torch.Generator().manual_seed(n)
    values = torch.rand(n, 3, generator=generator, dtype=torch.float64)
    weight = torch.rand(n, generator=generator, dtype=torch.float64) if has_weight else None
    cut = min(low, n)
    parts = [
        batch_loss(values[part], weight=None if weight is None else weight[part], n=len(values[part]), n_global=n)
        for part in (slice(cut), slice(cut, n))
        if len(values[part])
    ]
    whole = (values.mean(1) * (1 if weight is None else weight)).mean()
    torch.testing.assert_close(sum(parts), whole)


def test_weights_with_a_mean_loss_are_refused() -> None:
    """A scalar cannot be weighted by sample any more."""
    with pytest.raises(ValueError, match='reduction="none"'):
        batch_loss(torch.tensor(1.0), weight=torch.ones(4), n=4, n_global=4)


def test_loss_of_a_wrong_length_is_refused() -> None:
    """A loss that lost the batch dimension is named with its shape."""
    with pytest.raises(ValueError, match=r"a scalar or 4 values for 4 samples, got shape \(3,\)"):
        per_sample(torch.ones(3), n=4)
