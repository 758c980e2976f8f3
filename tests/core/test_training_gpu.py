"""The same promises on a CUDA device: mixed precision, resident data, resume."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from quatrain.core import tracking
from quatrain.core.training.config import FitConfig
from quatrain.core.training.fit import fit
from quatrain.core.training.result import FitResult
from quatrain.core.training.seeds import seed_everything

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def _data(n: int = 500) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(n, 16, generator=generator)
    return inputs, inputs[:, :4].sum(1, keepdim=True)


def _model() -> nn.Module:
    seed_everything(1)
    return nn.Sequential(nn.Linear(16, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 1))


def _per_sample(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.mse_loss(outputs, targets, reduction="none")


def _fit(model: nn.Module, train: Any = None, **options: Any) -> FitResult:
    run, loss = options.pop("run", None), options.pop("loss", _per_sample)
    config = FitConfig(epochs=4, batch_size=64, device="cuda", ema_decay=0.9, checkpoint_every=3, **options)
    return fit(model, train or _data(), _data(100), loss=loss, config=config, run=run)


def _same(left: nn.Module, right: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left.parameters(), right.parameters(), strict=True))


@pytest.fixture
def repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make cuBLAS sum in one order."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def test_auto_device_is_cuda() -> None:
    """With a GPU there, "auto" takes it."""
    model = _model()
    fit(model, _data(), loss=_per_sample, config=FitConfig(epochs=1))
    assert all(tensor.is_cuda for tensor in model.parameters())


@pytest.mark.parametrize("precision", ["auto", "bf16", "fp16"])
def test_mixed_precision_trains_close_to_fp32(precision: str) -> None:
    """Half precision costs no visible accuracy here."""
    full, half = _fit(_model(), precision="fp32"), _fit(_model(), precision=precision)
    assert half.metrics["train_loss"] != full.metrics["train_loss"]
    assert half.metrics["valid_loss"] == pytest.approx(full.metrics["valid_loss"], rel=0.05)


class _Rows(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self._inputs, self._targets = inputs, targets

    def __len__(self) -> int:
        return len(self._inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._inputs[index], self._targets[index]


@pytest.mark.usefixtures("repeatable")
def test_resident_host_and_dataset_give_the_same_bits() -> None:
    """Tensors on the device, tensors on the host and a Dataset feed the same batches."""
    models = [_model(), _model(), _model()]
    _fit(models[0])
    _fit(models[1], resident=False)
    _fit(models[2], _Rows(*_data()))
    assert _same(models[0], models[1])
    assert _same(models[0], models[2])


def _terminate_at(step: int) -> Callable[[Tensor, Tensor], Tensor]:
    calls = iter(range(1, 1000))

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        if torch.is_grad_enabled() and next(calls) == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return _per_sample(outputs, targets)

    return loss


@pytest.mark.usefixtures("repeatable")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_stopped_and_resumed_fit_has_the_same_bits(precision: str) -> None:
    """Dropout's CUDA generator, scaler, average and optimiser all go on where they were."""
    through, resumed = _model(), _model()
    _fit(through, precision=precision)
    run = tracking.start_run(app="test", command="gpu", config={})
    assert _fit(_model(), precision=precision, run=run, loss=_terminate_at(13)).status == "stopped"
    assert _fit(resumed, precision=precision, run=run).resumed_from == 13
    assert _same(through, resumed)


def test_clipping_and_a_broken_loss_work_without_waiting_each_step() -> None:
    """The step of a NaN is named though the loss is read only every few steps."""
    calls = iter(range(1, 1000))

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        broken = torch.is_grad_enabled() and next(calls) >= 5
        return _per_sample(outputs, targets) * (float("nan") if broken else 1.0)

    with pytest.raises(Exception, match="became nan in step 5 of 32"):
        _fit(_model(), loss=loss)
