"""The loop itself: steps, looks at the loss, epochs, and what happens between them."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quatrain.core.errors import UserError, did_you_mean
from quatrain.core.tracking import Run
from quatrain.core.training import checkpoint, evaluate, nested, optimizers, resume, schedules
from quatrain.core.training.evaluate import Metrics
from quatrain.core.training.losses import Loss, batch_loss
from quatrain.core.training.precision import DTYPES
from quatrain.core.training.progress import StepBar
from quatrain.core.training.result import FitResult
from quatrain.core.training.session import Session
from quatrain.core.training.sources import Source
from quatrain.core.training.stopping import StopRequest

_log = logging.getLogger(__name__)
# Steps between looks at the losses: each look makes a GPU wait and lets processes talk.
_LOOK_EVERY = 32


class Loop:
    """Drives a session to its end."""

    def __init__(
        self,
        session: Session,
        train: Source,
        valid: Source | None,
        *,
        loss: Loss,
        metrics: Metrics | None,
        has_weights: bool,
        precision: str,
        run: Run | None,
        stop: StopRequest,
    ) -> None:
        self._session = session
        self._train = train
        self._valid = valid
        self._loss = loss
        self._metrics = metrics
        self._has_weights = has_weights
        self._dtype = DTYPES.get(precision)
        self._run = run
        self._stop = stop
        # Whether there is a run on rank 0: checkpoints are everyone's work.
        self._is_recorded = session.world.agree(run is not None)
        self._buffers = list(session.model.buffers())
        self._weights = [weight for weight in session.model.parameters() if weight.requires_grad]
        self._total_steps = session.config.epochs * session.order.steps_per_epoch
        # Losses of the last steps, still on the device.
        self._unseen: list[Tensor] = []
        self._resumed_from = session.progress.step
        self._started = time.monotonic() - session.progress.seconds

    def run(self) -> FitResult:
        """Take every step that is left, give the model the weights to ship, and say how it went."""
        progress = self._session.progress
        if self._run is not None:
            self._run.restore_history(progress.history)
        is_stopped = False
        with StepBar(total=self._total_steps, done=progress.step, is_shown=self._session.world.is_main) as bar:
            while not progress.reason and not is_stopped:
                is_stopped = self._epoch(bar)
        self._ship()
        return self._result(is_stopped=is_stopped and not progress.reason)

    def _epoch(self, bar: StepBar) -> bool:
        """Go on to the end of the epoch, or to a stop: then return True."""
        session, order = self._session, self._session.order
        epoch, start = divmod(session.progress.step, order.steps_per_epoch)
        session.model.train()
        indices = order.batches(epoch, start=start, device=self._train.index_device)
        for batch, rows in enumerate(self._train.batches(indices, epoch=epoch), start):
            self._step(batch, rows)
            bar.advance()
            if batch + 1 < order.steps_per_epoch and self._is_look_due() and self._look_within_epoch():
                return True
        is_stopping = self._look()
        self._end_epoch(bar)
        return is_stopping

    def _step(self, batch: int, rows: Sequence[Any]) -> None:
        session = self._session
        optimizer, progress = session.optimizer, session.progress
        session.world.share(self._buffers)
        self._unseen.append(self._backward(batch, rows))
        session.world.sum_gradients(self._weights)
        if session.scaler.is_enabled():
            session.scaler.unscale_(optimizer)
        if session.config.clip_norm is not None:
            optimizers.clip_gradients(self._weights, session.config.clip_norm)
        optimizers.scale_learning_rate(optimizer, self._learning_factor())
        if session.scaler.is_enabled():
            session.scaler.step(optimizer)
            session.scaler.update()
        else:
            optimizer.step()
        # Optimizer.zero_grad does the same, and records it for the profiler, at ten times the cost.
        for weight in self._weights:
            weight.grad = None
        if session.ema is not None:
            session.ema.update(progress.step)
        progress.step += 1

    def _backward(self, batch: int, rows: Sequence[Any]) -> Tensor:
        """Add this process's gradients and return its part of the loss."""
        if self._session.order.local_size(batch) == 0:
            return torch.zeros((), device=self._session.world.device)
        loss = self._forward(batch, rows)
        scaled = self._session.scaler.scale(loss) if self._session.scaler.is_enabled() else loss
        scaled.backward()  # type: ignore[no-untyped-call]  # torch's
        return loss.detach()

    def _forward(self, batch: int, rows: Sequence[Any]) -> Tensor:
        order = self._session.order
        weight = rows[-1] if self._has_weights else None
        *inputs, targets = rows[:-1] if self._has_weights else rows
        with self._autocast():
            outputs = self._session.model(*inputs)
        if self._dtype is not None:
            outputs = nested.to_float32(outputs)
        values = self._loss(outputs, targets)
        return batch_loss(values, weight=weight, n=order.local_size(batch), n_global=order.global_size(batch))

    def _autocast(self) -> AbstractContextManager[object]:
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self._session.world.device.type, dtype=self._dtype)

    def _learning_factor(self) -> float:
        config = self._session.config
        return schedules.factor(
            config.schedule,
            step=self._session.progress.step,
            total=self._total_steps,
            warmup_fraction=config.warmup_fraction,
        )

    def _is_look_due(self) -> bool:
        step, config = self._session.progress.step, self._session.config
        periods = (_LOOK_EVERY, config.checkpoint_every, config.log_every)
        # Alone, a process need not wait for a look at which all agree.
        is_asked = self._session.world.size == 1 and self._stop.is_set
        return is_asked or any(period and step % period == 0 for period in periods)

    def _look_within_epoch(self) -> bool:
        """Look at the losses, write what is due, and return whether to stop here."""
        step, config = self._session.progress.step, self._session.config
        is_stopping = self._look()
        if recent := self._recent_loss():
            self._log_row(recent)
        if is_stopping or (config.checkpoint_every and step % config.checkpoint_every == 0):
            self._save()
        return is_stopping

    def _recent_loss(self) -> dict[str, float]:
        """Return the mean loss of the last steps of this epoch where a row is due, else nothing."""
        every = self._session.config.log_every
        if not every or self._session.progress.step % every:
            return {}
        recent = self._session.losses[-every:]
        return {"step_loss": math.fsum(recent) / len(recent)}

    def _look(self) -> bool:
        """Read the losses of the steps since the last look; return whether any process was asked to stop."""
        world = self._session.world
        asked = torch.tensor([float(self._stop.is_set)], dtype=torch.float64)
        # One type on every process, whatever the loss's is.
        mine = torch.cat([torch.stack(self._unseen).cpu().double(), asked])
        *losses, n_asked = world.sum(mine).tolist()
        self._unseen.clear()
        self._session.losses += losses
        first_step = self._session.progress.step - len(losses) + 1
        for step, loss in enumerate(losses, first_step):
            if not math.isfinite(loss):
                raise UserError(self._diverged(step, loss))
        return bool(n_asked)

    def _diverged(self, step: int, loss: float) -> str:
        config = self._session.config
        fixes = [f"a lower learning_rate than {config.learning_rate:g}"]
        fixes += ["clip_norm=1"] if config.clip_norm is None else []
        fixes += ["precision=fp32"] if self._dtype is not None else []
        fault = self._train.find_fault()
        advice = fault or f"try {', or '.join(fixes)}"
        return f"the loss became {loss} in step {step} of {self._total_steps}; {advice}"

    def _end_epoch(self, bar: StepBar) -> None:
        session, progress = self._session, self._session.progress
        sizes = [session.order.global_size(batch) for batch in range(session.order.steps_per_epoch)]
        weighted = (loss * n for loss, n in zip(session.losses, sizes, strict=True))
        row = {"train_loss": math.fsum(weighted) / sum(sizes), **self._recent_loss()}
        session.losses = []
        session.world.share(self._buffers)
        with session.ema.applied() if session.ema is not None else nullcontext():
            row |= self._validate()
            self._judge(row)
        self._log_row({**row, "seconds": self._seconds()})
        bar.note("  ".join(f"{name} {value:.4g}" for name, value in row.items()))
        _log.info("epoch %d of %d: %s", self._epoch_number(), session.config.epochs, _spell(row))
        if not progress.reason and progress.step == self._total_steps:
            progress.reason = f"all {session.config.epochs} epochs are done"
        self._save()

    def _validate(self) -> dict[str, float]:
        if self._valid is None:
            return {}
        values = evaluate.validate(
            self._session.model,
            self._valid,
            loss=self._loss,
            metrics=self._metrics,
            batch_size=self._session.config.batch_size,
            world=self._session.world,
        )
        return {f"valid_{name}": value for name, value in values.items()}

    def _judge(self, row: dict[str, float]) -> None:
        """Keep the weights if the monitored value is the best so far; note when patience is over."""
        session, config, progress = self._session, self._session.config, self._session.progress
        if self._valid is None and config.monitor != "train_loss":
            return
        if config.monitor not in row:
            raise UserError(f"monitor={config.monitor!r} is not among the measures{did_you_mean(config.monitor, row)}")
        value = row[config.monitor]
        if _is_better(value, progress.best_value, mode=config.mode, min_delta=config.min_delta):
            progress.best_value, progress.best_step, progress.stale_epochs = value, progress.step, 0
            state = session.model.state_dict()
            session.best = {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}
            return
        progress.stale_epochs += 1
        if config.patience is not None and progress.stale_epochs >= config.patience:
            progress.reason = f"{config.monitor} did not improve for {progress.stale_epochs} epochs"

    def _log_row(self, values: dict[str, float]) -> None:
        rate = self._session.optimizer.param_groups[0]["lr"]
        step = self._session.progress.step
        row = {"step": step, "epoch": self._epoch_number(), **values, "learning_rate": rate}
        self._session.progress.history.append(row)
        if self._run is not None:
            self._run.log(**row)

    def _epoch_number(self) -> int:
        """Return the number of the epoch that the last step belongs to, from 1."""
        return -(-self._session.progress.step // self._session.order.steps_per_epoch)

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _save(self) -> None:
        if not self._is_recorded:
            return
        self._session.progress.seconds = self._seconds()
        content = resume.to_checkpoint(self._session)
        if self._run is not None and self._session.world.is_main:
            checkpoint.save(self._run.folder / checkpoint.FILE, content)

    def _ship(self) -> None:
        session = self._session
        session.world.share(self._buffers)
        if session.best:
            session.model.load_state_dict(session.best)
        elif session.ema is not None:
            session.ema.give()

    def _result(self, *, is_stopped: bool) -> FitResult:
        session, progress = self._session, self._session.progress
        if is_stopped and self._run is not None:
            self._run.finish(status="stopped")
        best_step = progress.best_step if session.best else progress.step
        rows = [row for row in progress.history if row["step"] == best_step and "train_loss" in row]
        return FitResult(
            status="stopped" if is_stopped else "done",
            reason="asked to stop by SIGTERM" if is_stopped else progress.reason,
            steps=progress.step,
            epochs=progress.step // session.order.steps_per_epoch,
            best_step=best_step,
            best_value=progress.best_value,
            metrics=dict(rows[0]) if rows else {},
            history=progress.history,
            resumed_from=self._resumed_from,
            seconds=self._seconds() if self._resumed_from < progress.step else progress.seconds,
            plot=self._plot(best_step),
        )

    def _plot(self, best_step: int) -> Path | None:
        return None if self._run is None else self._run.plot(best_step=best_step)


def _is_better(value: float, best: float | None, *, mode: str, min_delta: float) -> bool:
    if not math.isfinite(value):
        return False
    gain = math.inf if best is None else (best - value if mode == "min" else value - best)
    return gain > min_delta


def _spell(row: dict[str, float]) -> str:
    return ", ".join(f"{name}={value:.5g}" for name, value in row.items())
