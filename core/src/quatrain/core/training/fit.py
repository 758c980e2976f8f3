"""`fit`: one plain torch loop for every app."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from quatrain.core.errors import UsageError, UserError
from quatrain.core.tracking import Run
from quatrain.core.training import checkpoint, distributed, optimizers, precision, seeds, stopping
from quatrain.core.training.config import FitConfig
from quatrain.core.training.distributed import World
from quatrain.core.training.ema import Ema
from quatrain.core.training.evaluate import Metrics
from quatrain.core.training.loop import Loop
from quatrain.core.training.losses import Loss
from quatrain.core.training.order import Order
from quatrain.core.training.result import FitResult
from quatrain.core.training.resume import restore
from quatrain.core.training.session import Session
from quatrain.core.training.sources import Data, Source, open_source

_log = logging.getLogger(__name__)


def fit(
    model: nn.Module,
    train: Data,
    valid: Data | None = None,
    *,
    loss: Loss,
    config: FitConfig,
    metrics: Metrics | None = None,
    sample_weight: Tensor | None = None,
    optimizer: Callable[[nn.Module], Optimizer] | None = None,
    run: Run | None = None,
    resume: bool | Path = True,
) -> FitResult:
    """Train `model` in place until the epochs, the patience or the time someone gives it are over.

    `train` and `valid` are tensors (inputs, …, targets) or a Dataset of such tuples; the model is
    called with the inputs. `loss(outputs, targets)` gives a value per sample (see `losses`);
    `metrics(outputs, targets)` sees the whole validation set, in its order, on the CPU, and its
    names enter the history as valid_<name>. `optimizer` replaces fused AdamW.

    With a `run`, history, plot and checkpoints lie in its folder, and `resume` goes on from its
    checkpoint: bit for bit what an uninterrupted run gives, on the same machine with as many
    processes and threads. A path resumes from another run's folder or checkpoint; False starts over.

    Under torchrun each process calls this alike. The order of global batches does not depend on
    the number of processes, so that without dropout and batch normalisation neither does the
    loss. The global random generators are seeded here from config.seed; seed before building the
    model, too (`seeds.seed_everything`).

    Raises UserError for a loss that is not finite and for a checkpoint of another run's settings.
    """
    if valid is None and config.patience is not None and config.monitor != "train_loss":
        raise UsageError(f"patience={config.patience} needs a validation set, or monitor=train_loss")
    with stopping.on_sigterm() as stop:
        world = distributed.join(config.device)
        seeds.seed_everything(seeds.mix(config.seed, world.rank))
        model.to(world.device)
        world.share(model.state_dict().values())
        if isinstance(loss, nn.Module):
            loss.to(world.device)
        train_source = open_source(train, config=config, device=world.device, sample_weight=sample_weight)
        session = _open_session(model, train_source, config=config, optimizer=optimizer, world=world)
        start = world.agree(_find_checkpoint(run, resume) if world.is_main else None)
        if start is not None:
            restore(session, checkpoint.load(Path(start)))
            _log.info("resumed from step %d in %s", session.progress.step, start)
        loop = Loop(
            session,
            train_source,
            None if valid is None else open_source(valid, config=config, device=world.device),
            loss=loss,
            metrics=metrics,
            has_weights=sample_weight is not None,
            precision=precision.choose(config.precision, world.device),
            run=run,
            stop=stop,
        )
        return loop.run()


def _open_session(
    model: nn.Module,
    train: Source,
    *,
    config: FitConfig,
    optimizer: Callable[[nn.Module], Optimizer] | None,
    world: World,
) -> Session:
    order = Order(
        n=len(train),
        batch_size=config.batch_size,
        seed=config.seed,
        shuffle=config.shuffle,
        drop_last=config.drop_last,
        rank=world.rank,
        size=world.size,
    )
    if order.steps_per_epoch == 0:
        raise UsageError(f"drop_last leaves no batch: batch_size={config.batch_size} is above {len(train)} samples")
    chosen = optimizers.adamw(model, config) if optimizer is None else optimizer(model)
    optimizers.remember_peaks(chosen)
    is_scaled = precision.choose(config.precision, world.device) == "fp16"
    return Session(
        config=config,
        world=world,
        order=order,
        data=train.describe(),
        model=model,
        optimizer=chosen,
        scaler=torch.amp.GradScaler(world.device.type, enabled=is_scaled),
        ema=None if config.ema_decay is None else Ema(model, config.ema_decay),
    )


def _find_checkpoint(run: Run | None, resume: bool | Path) -> str | None:
    """Return the path of the checkpoint to start from as text, or None for a fresh start."""
    if isinstance(resume, Path):
        file = resume / checkpoint.FILE if resume.is_dir() else resume
        if not file.is_file():
            raise UserError(f"cannot resume from {resume}: it is neither a checkpoint nor a run's folder with one")
        return str(file)
    if not resume or run is None:
        return None
    file = run.folder / checkpoint.FILE
    return str(file) if file.is_file() else None
