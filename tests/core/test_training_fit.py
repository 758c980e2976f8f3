"""What `fit` does with a model, and what it says when it cannot."""

from __future__ import annotations

import logging
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

from quatrain.core import tracking
from quatrain.core.errors import UsageError, UserError
from quatrain.core.training.config import FitConfig
from quatrain.core.training.evaluate import predict
from quatrain.core.training.fit import fit
from quatrain.core.training.precision import choose
from quatrain.core.training.progress import StepBar
from quatrain.core.training.result import FitResult
from quatrain.core.training.seeds import seed_everything


def _config(**changes: Any) -> FitConfig:
    return FitConfig(epochs=3, batch_size=16, device="cpu").model_copy(update=changes)


def _model() -> nn.Module:
    seed_everything(1)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))


def _data(n: int = 70, *, seed: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, 4, generator=generator)
    return inputs, inputs.sum(1, keepdim=True)


def _per_sample(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.mse_loss(outputs, targets, reduction="none")


def _fit(model: nn.Module | None = None, train: Any = None, valid: Any = "same", **options: Any) -> FitResult:
    options = {"config": _config(), "loss": _per_sample, **options}
    valid = _data(30, seed=3) if valid == "same" else valid
    return fit(_model() if model is None else model, _data() if train is None else train, valid, **options)


def _same(left: nn.Module, right: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left.parameters(), right.parameters(), strict=True))


def test_fits_digits_as_well_as_sklearn() -> None:
    """A small network with dropout and EMA beats logistic regression on the same split."""
    digits = load_digits()
    inputs, targets = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    seed_everything(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))
    config = FitConfig(epochs=40, batch_size=64, learning_rate=3e-3, ema_decay=0.99, device="cpu")
    loss = nn.CrossEntropyLoss(reduction="none")
    result = fit(model, (inputs[:1300], targets[:1300]), (inputs[1300:], targets[1300:]), loss=loss, config=config)
    accuracy = float((predict(model, inputs[1300:]).argmax(1) == targets[1300:]).float().mean())
    oracle = LogisticRegression(max_iter=1000).fit(inputs[:1300], targets[:1300])
    assert result.status == "done"
    assert accuracy > oracle.score(inputs[1300:], targets[1300:])
    assert accuracy > 0.92


def test_same_call_gives_the_same_bits() -> None:
    """Model seed and config decide everything."""
    first, second = _model(), _model()
    _fit(first)
    torch.rand(10)
    _fit(second)
    assert _same(first, second)


def test_another_seed_gives_another_order() -> None:
    """The config's seed decides the order of samples."""
    first, second = _model(), _model()
    _fit(first)
    _fit(second, config=_config(seed=1))
    assert not _same(first, second)


class _Rows(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, *tensors: Tensor) -> None:
        self._tensors = tensors

    def __len__(self) -> int:
        return len(self._tensors[0])

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self._tensors)


@pytest.mark.parametrize("wrap", [TensorDataset, _Rows])
def test_resident_tensors_and_a_dataset_give_the_same_bits(wrap: Callable[..., Dataset[Any]]) -> None:
    """How the data is read does not change what is learnt."""
    resident, read = _model(), _model()
    weight = torch.linspace(0.5, 1.5, 70)
    _fit(resident, sample_weight=weight)
    _fit(read, wrap(*_data()), wrap(*_data(30, seed=3)), sample_weight=weight)
    assert _same(resident, read)


def test_mean_loss_and_loss_per_sample_agree() -> None:
    """Either form of a loss gives the same curve."""
    means = _fit(loss=functional.mse_loss).history
    samples = _fit(loss=_per_sample).history
    np.testing.assert_allclose([r["train_loss"] for r in means], [r["train_loss"] for r in samples], rtol=1e-5)
    np.testing.assert_allclose([r["valid_loss"] for r in means], [r["valid_loss"] for r in samples], rtol=1e-5)


def test_whole_number_weights_equal_repeated_samples() -> None:
    """One full-batch step with weight 2 is the step with the sample twice, but for the divisor."""
    inputs, targets = _data(8)
    weight = torch.tensor([1.0, 2, 1, 1, 2, 1, 1, 1])
    repeats = weight.long()
    weighted, repeated = _model(), _model()
    config = _config(epochs=2, batch_size=100, schedule="constant", clip_norm=None, shuffle=False)
    _fit(weighted, (inputs, targets), None, sample_weight=weight * 8 / 10, config=config)
    _fit(repeated, (inputs.repeat_interleave(repeats, 0), targets.repeat_interleave(repeats, 0)), None, config=config)
    for ours, theirs in zip(weighted.parameters(), repeated.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_first_step_equals_a_hand_written_one() -> None:
    """Schedule, clipping and AdamW in one step are torch's own in a row."""
    model, twin = _model(), _model()
    inputs, targets = _data(16)
    _fit(
        model, (inputs, targets), None, config=_config(epochs=1, schedule="constant", warmup_fraction=0, clip_norm=0.1)
    )
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in twin.parameters() if p.ndim > 1], "weight_decay": 0.01},
            {"params": [p for p in twin.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=1e-3,
    )
    functional.mse_loss(twin(inputs), targets).backward()
    nn.utils.clip_grad_norm_(twin.parameters(), 0.1)
    optimizer.step()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_early_stopping_restores_the_best_weights() -> None:
    """When the measure turns for good, the fit ends after the patience with the best epoch's weights."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    seen: list[float] = []

    def distance(outputs: Tensor, targets: Tensor) -> dict[str, float]:
        del targets
        seen.append(float(outputs[0, 0]))
        return {"off": abs(seen[-1] - 0.5)}

    ones = torch.ones(16, 1)
    config = _config(
        epochs=50, learning_rate=0.1, schedule="constant", warmup_fraction=0, monitor="valid_off", patience=3
    )
    result = fit(model, (ones, 2 * ones), (ones, ones), loss=_per_sample, metrics=distance, config=config)
    best = min(range(len(seen)), key=lambda epoch: abs(seen[epoch] - 0.5))
    assert result.epochs == len(seen) == best + 4
    assert result.best_step == best + 1
    assert result.best_value == result.metrics["valid_off"] == abs(seen[best] - 0.5)
    assert float(model.weight.detach()) == pytest.approx(seen[best])
    assert result.reason == "valid_off did not improve for 3 epochs"


def test_mode_max_keeps_the_highest() -> None:
    """A measure such as AUC is better when it is higher."""
    values = iter([0.2, 0.9, 0.5])
    result = _fit(metrics=lambda *_: {"auc": next(values)}, config=_config(monitor="valid_auc", mode="max"))
    assert (result.best_value, result.best_step) == (0.9, 10)


def test_gain_below_min_delta_is_no_improvement() -> None:
    """A measure that creeps does not keep a fit alive."""
    values = iter([1.0, 0.99, 0.98, 0.97, 0.96])
    config = _config(epochs=5, monitor="valid_x", patience=2, min_delta=0.05)
    result = _fit(metrics=lambda *_: {"x": next(values)}, config=config)
    assert (result.epochs, result.best_value) == (3, 1.0)


def test_measure_that_is_not_a_number_is_never_best() -> None:
    """A NaN AUC of a one-class epoch neither wins nor ends the fit."""
    values = iter([math.nan, 0.4, math.nan])
    result = _fit(metrics=lambda *_: {"auc": next(values)}, config=_config(monitor="valid_auc", mode="max"))
    assert result.best_value == 0.4


def test_without_validation_the_last_weights_are_kept() -> None:
    """There is nothing to judge by, so nothing is restored."""
    result = _fit(valid=None)
    assert (result.best_step, result.best_value, result.status) == (15, None, "done")
    assert "valid_loss" not in result.metrics


def test_ema_weights_are_validated_and_shipped() -> None:
    """The model holds the average whose loss the history tells."""
    model = _model()
    result = _fit(model, config=_config(ema_decay=0.9))
    inputs, targets = _data(30, seed=3)
    assert result.metrics["valid_loss"] == pytest.approx(
        float(functional.mse_loss(predict(model, inputs), targets)), rel=1e-5
    )
    plain = _model()
    _fit(plain)
    assert not _same(model, plain)


def test_ema_is_shipped_without_validation_too() -> None:
    """The last average, not the last weights."""
    averaged, last = _model(), _model()
    _fit(averaged, valid=None, config=_config(ema_decay=0.9))
    _fit(last, valid=None)
    assert not _same(averaged, last)


def test_metrics_see_the_whole_set_in_its_order() -> None:
    """A domain measure may rely on rows lining up with its own arrays."""
    inputs, targets = _data(30, seed=3)
    seen = []
    _fit(
        metrics=lambda outputs, rows: seen.append((len(outputs), torch.equal(rows, targets))) or {},
        valid=(inputs, targets),
    )
    assert seen == [(30, True)] * 3


class _TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)
        self.spare = nn.Linear(4, 1)

    def forward(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:
        return {"sum": self.layer(first) + self.layer(second)}


def test_model_may_take_two_inputs_and_return_a_dict() -> None:
    """All tensors but the last are inputs; outputs go to loss and metrics as they are."""
    inputs, targets = _data(40)
    result = _fit(
        _TwoInputs(),
        (inputs, inputs, targets),
        (inputs, inputs, targets),
        loss=lambda outputs, rows: _per_sample(outputs["sum"], rows),
        metrics=lambda outputs, rows: {"off": float((outputs["sum"] - rows).abs().max())},
    )
    assert result.metrics["valid_off"] > 0


def test_own_optimizer_is_used_with_its_groups_rates() -> None:
    """Each group's rate follows the schedule from its own peak."""
    made: list[torch.optim.Optimizer] = []

    def sgd(model: nn.Module) -> torch.optim.Optimizer:
        first, *rest = model.parameters()
        groups = [{"params": [first], "lr": 0.5}, {"params": rest, "lr": 0.1}]
        made.append(torch.optim.SGD(groups, momentum=0.9))
        return made[0]

    _fit(optimizer=sgd, config=_config(warmup_fraction=0, learning_rate=123.0))
    rates = [group["lr"] for group in made[0].param_groups]
    assert rates[0] == pytest.approx(5 * rates[1])
    assert rates[0] < 0.5


def test_history_has_a_row_for_each_epoch() -> None:
    """Step, epoch, losses, rate and time, in the result and in the run's file."""
    run = tracking.start_run(app="test", command="fit", config={})
    result = _fit(run=run)
    assert [row["step"] for row in result.history] == [5, 10, 15]
    keys = {"step", "epoch", "train_loss", "valid_loss", "learning_rate", "seconds"}
    assert all(row.keys() == keys for row in result.history)
    assert tracking.read_history(run.id) == result.history
    assert result.plot == run.folder / "history.png"
    assert result.plot.is_file()


def test_log_every_adds_rows_within_an_epoch() -> None:
    """The mean loss of the last steps, also where the epoch ends."""
    result = _fit(config=_config(epochs=1, log_every=1))
    losses = [row["step_loss"] for row in result.history]
    assert len(losses) == 5
    assert np.dot(losses, [16, 16, 16, 16, 6]) / 70 == pytest.approx(result.history[-1]["train_loss"])


def test_bf16_on_a_cpu_trains_close_to_fp32() -> None:
    """Autocast is on for training, and validation stays fp32."""
    full, half = _fit(config=_config(precision="fp32")), _fit(config=_config(precision="bf16"))
    assert half.metrics["train_loss"] != full.metrics["train_loss"]
    assert half.metrics["valid_loss"] == pytest.approx(full.metrics["valid_loss"], rel=0.02)


def test_auto_precision_is_fp32_on_a_cpu() -> None:
    """A CPU without bf16 units would only lose by it."""
    assert choose("auto", torch.device("cpu")) == "fp32"


@pytest.mark.parametrize("at", [1, 40])
def test_broken_loss_stops_with_its_step_and_a_way_out(at: int) -> None:
    """NaN is named with the step in which it appeared, not the one in which it was noticed."""
    calls = iter(range(1, 1000))

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        broken = torch.is_grad_enabled() and next(calls) >= at
        return _per_sample(outputs, targets) * (math.nan if broken else 1.0)

    with pytest.raises(UserError, match=rf"became nan in step {at} of 50; .* lower learning_rate than 0.001"):
        _fit(loss=loss, config=_config(epochs=10))


def test_broken_loss_names_broken_inputs() -> None:
    """When the data is at fault, that is what the error says."""
    inputs, targets = _data()
    inputs[3, 1] = math.nan
    with pytest.raises(UserError, match="tensor 0 of the training data holds 1 values that are not finite"):
        _fit(train=(inputs, targets))


def test_broken_loss_leaves_the_last_good_checkpoint() -> None:
    """Broken weights never replace the ones that a resume needs."""
    run = tracking.start_run(app="test", command="fit", config={})
    calls = iter(range(1, 1000))

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        broken = torch.is_grad_enabled() and next(calls) == 12
        return _per_sample(outputs, targets) * (math.nan if broken else 1.0)

    with pytest.raises(UserError, match="in step 12"):
        _fit(loss=loss, run=run, config=_config(checkpoint_every=1))
    assert _fit(run=run, config=_config(checkpoint_every=1)).resumed_from == 11


def test_unknown_monitor_names_the_known_measures() -> None:
    """A measure that is not there is a slip of the config."""
    with pytest.raises(UserError, match="monitor='valid_los' is not among the measures; did you mean 'valid_loss'"):
        _fit(config=_config(monitor="valid_los"))


def test_patience_without_validation_is_refused() -> None:
    """Nothing would ever improve."""
    with pytest.raises(UsageError, match="patience=2 needs a validation set"):
        _fit(valid=None, config=_config(patience=2))


def test_drop_last_that_leaves_nothing_is_refused() -> None:
    """A batch larger than the data cannot be whole."""
    with pytest.raises(UsageError, match="batch_size=100 is above 70 samples"):
        _fit(config=_config(batch_size=100, drop_last=True))


def test_model_without_trainable_weights_is_refused() -> None:
    """All frozen: there is nothing to do."""
    with pytest.raises(ValueError, match="nothing to train"):
        _fit(_model().requires_grad_(requires_grad=False))


@pytest.mark.parametrize("device", ["gpu", "cuda:x"])
def test_unknown_device_is_refused(device: str) -> None:
    """A slip in a device's name says what can be named."""
    with pytest.raises(UsageError, match=f"device must be auto, cpu, cuda or cuda:N, got '{device}'"):
        _fit(config=_config(device=device))


def _terminate_at(step: int) -> Callable[[Tensor, Tensor], Tensor]:
    calls = iter(range(1, 1000))

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        if torch.is_grad_enabled() and next(calls) == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return _per_sample(outputs, targets)

    return loss


def test_sigterm_finishes_the_step_and_writes_a_checkpoint() -> None:
    """The fit returns as stopped, the run is noted so, and the same call goes on to the same bits."""
    through, stopped = _model(), _model()
    _fit(through)
    with tracking.start_run(app="test", command="fit", config={}) as run:
        result = _fit(_model(), loss=_terminate_at(7), run=run)
    assert (result.status, result.steps) == ("stopped", 7)
    assert tracking.read_run(run.id).status == "stopped"
    with tracking.resume_run(run.id) as again:
        assert _fit(stopped, run=again).resumed_from == 7
    assert tracking.read_run(run.id).status == "done"
    assert _same(through, stopped)


def test_resume_keeps_the_best_weights_of_before() -> None:
    """Where the first epoch was the best one, a stop in the third does not forget its weights."""
    through, stopped = _model(), _model()
    config = _config(monitor="valid_loss", mode="max")
    best = _fit(through, config=config)
    run = tracking.start_run(app="test", command="fit", config={})
    _fit(_model(), config=config, loss=_terminate_at(12), run=run)
    again = _fit(stopped, config=config, run=run)
    assert (again.best_step, again.best_value) == (best.best_step, best.best_value) == (5, best.best_value)
    assert _same(through, stopped)


def test_sigterm_in_the_last_step_is_no_stop() -> None:
    """What is finished is finished."""
    assert _fit(loss=_terminate_at(15)).status == "done"


def test_fit_gives_sigterm_back() -> None:
    """After a fit, SIGTERM means what it meant before."""
    before = signal.getsignal(signal.SIGTERM)
    _fit(config=_config(epochs=1))
    assert signal.getsignal(signal.SIGTERM) is before


def test_fit_runs_outside_the_main_thread() -> None:
    """Where no signal handler can be set, a fit runs without one."""
    results: list[FitResult] = []
    thread = threading.Thread(target=lambda: results.append(_fit()))
    thread.start()
    thread.join()
    assert results[0].status == "done"


def test_epochs_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Under cron the log tells how far a fit is."""
    with caplog.at_level(logging.INFO, logger="quatrain"):
        _fit(config=_config(epochs=2))
    assert "epoch 2 of 2: train_loss=" in caplog.text


def test_config_needs_no_torch() -> None:
    """An app's config can extend FitConfig without its commands paying for torch."""
    code = "import sys; from quatrain.core.training.config import FitConfig; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_predict_equals_the_model_in_eval_mode() -> None:
    """In batches, without dropout, and leaving the model's mode as it was."""
    model = nn.Sequential(_model(), nn.Dropout(0.5)).train()
    inputs, _ = _data(33)
    outputs = predict(model, inputs, batch_size=10)
    assert model.training
    torch.testing.assert_close(outputs, model.eval()(inputs).detach())
    with pytest.raises(ValueError, match="at least one row"):
        predict(model, inputs[:0])


def test_progress_bar_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A log file gets no bar, however long the fit takes."""
    with StepBar(total=2, done=0, is_shown=True) as bar:
        bar._starts = min(bar._starts, 0) if sys.stderr.isatty() else bar._starts
        bar.advance()
        bar.note("train_loss 0.5")
    assert capsys.readouterr() == ("", "")


def test_progress_bar_shows_on_a_terminal_after_two_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal, what takes long is shown; what is over sooner is not."""
    clock = [100.0]
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setenv("TERM", "xterm")
    with StepBar(total=4, done=1, is_shown=True) as bar:
        clock[0] += 1.9
        bar.advance()
        assert capsys.readouterr().err == ""
        clock[0] += 0.2
        bar.advance()
        bar.note("train_loss 0.5")
    assert "3/4" in capsys.readouterr().err
