"""Fits that the training tests run in processes of their own: killed, resumed, or under torchrun.

    python training_worker.py kill FOLDER PLAN     PLAN is JSON: {case: [scenario, [kill, ...]]},
                                                   a kill is step:N, write:N or flush:N
    torchrun training_worker.py curve FOLDER       or plain python, for one process

Written for one process that forks a child per fit, because importing torch costs seconds.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.figure  # noqa: F401  imported before the forks, which would each pay for it
import numpy as np
import torch
import torch._dynamo  # the same: torch's optimisers import it
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from quatrain.core import tracking
from quatrain.core.training import checkpoint
from quatrain.core.training.config import FitConfig
from quatrain.core.training.fit import fit
from quatrain.core.training.result import FitResult
from quatrain.core.training.seeds import seed_everything

Loss = Callable[[Any, Any], Tensor]


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return one loss per sample."""
    return functional.mse_loss(outputs, targets, reduction="none").mean(1)


def mean_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the batch's mean loss."""
    return functional.mse_loss(outputs, targets)


def tensors(n: int, *, seed: int = 7) -> tuple[Tensor, Tensor]:
    """Return n rows of 6 inputs and the 2 targets that follow from them, with noise."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, 6, generator=generator)
    targets = torch.stack([inputs[:, 0] * inputs[:, 1], inputs.sum(1)], dim=1)
    return inputs, targets + 0.1 * torch.randn(n, 2, generator=generator)


class Jittered(Dataset[tuple[Tensor, Tensor]]):
    """Rows with noise from all three generators, as an augmentation draws it."""

    def __init__(self, n: int) -> None:
        self.inputs, self.targets = tensors(n)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noise = torch.randn(6) + random.gauss(0, 1) + np.random.standard_normal()  # noqa: NPY002
        return self.inputs[index] + 0.1 * noise.float(), self.targets[index]


class Centred(nn.Module):
    """A layer whose training output rests on a buffer that each batch moves."""

    centre: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(width))

    def forward(self, values: Tensor) -> Tensor:
        """Return the values less their running mean."""
        if self.training:
            self.centre.lerp_(values.detach().float().mean(0), 0.1)
        return values - self.centre


def model(*, dropout: float = 0.0, has_norm: bool = False) -> nn.Module:
    """Return a small network with the same first weights each time."""
    seed_everything(3)
    norm = nn.Sequential(nn.BatchNorm1d(16), Centred(16)) if has_norm else nn.Identity()
    return nn.Sequential(nn.Linear(6, 16), norm, nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 2))


PLAIN = FitConfig(epochs=4, batch_size=16, learning_rate=0.01, precision="fp32", device="cpu")
# Every feature with a state: what a resume could forget, it would forget here.
FULL = PLAIN.model_copy(
    update={"precision": "bf16", "ema_decay": 0.9, "schedule": "one_cycle", "checkpoint_every": 4, "log_every": 3}
)


def run_scenario(name: str, run: tracking.Run | None, *, loss: Loss = squared_error) -> tuple[nn.Module, FitResult]:
    """Return a scenario's model and result after its fit."""
    network = model(dropout=0.0 if name == "plain" else 0.3, has_norm=name == "full")
    config = {"plain": PLAIN, "half": FULL.model_copy(update={"precision": "fp16"})}.get(name, FULL)
    config = config.model_copy(update={"workers": 2 if name == "workers" else 0})
    train = Jittered(100) if name in ("augmented", "workers") else tensors(100)
    result = fit(network, train, tensors(30, seed=8), loss=loss, metrics=largest_error, config=config, run=run)
    return network, result


def largest_error(outputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Return a measure that needs the whole set at once."""
    return {"worst": float((outputs - targets).abs().max())}


def save_outcome(folder: Path, network: nn.Module, result: FitResult) -> None:
    """Write weights and history, without the wall clock, for a bitwise comparison."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), folder / "weights.safetensors")
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in result.history]
    facts = {"history": rows, "status": result.status, "best_step": result.best_step, "from": result.resumed_from}
    (folder / "outcome.json").write_text(json.dumps(facts))


def kill_and_resume(folder: Path, scenario: str, kills: list[str]) -> None:
    """Leave the outcome of one run that was killed at each point in turn and then ran to its end."""
    for number, kill in enumerate([*kills, None]):
        work = partial(go_on if number else new_fit, folder, scenario, kill=kill)
        in_child(work, expect=signal.SIGKILL if kill else 0)


def new_fit(folder: Path, scenario: str, *, kill: str | None = None) -> None:
    """Fit in a new run that dies at `kill`."""
    with tracking.start_run(app="test", command=scenario, config={}, root=folder / "runs") as run:
        network, result = run_scenario(scenario, run, loss=armed(kill))
    save_outcome(folder, network, result)


def go_on(folder: Path, scenario: str, *, kill: str | None = None) -> None:
    """Resume the folder's only run."""
    (record,) = tracking.list_runs(folder / "runs")
    with tracking.resume_run(record.id, folder / "runs") as run:
        network, result = run_scenario(scenario, run, loss=armed(kill))
    save_outcome(folder, network, result)


def armed(kill: str | None) -> Loss:
    """Return the loss of a process that dies at `kill`: in a training step, a write or a flush."""
    if kill is None:
        return squared_error
    kind, _, text = kill.partition(":")
    fuse = Fuse(int(text))
    if kind == "step":
        return lambda outputs, targets: (burn_in_training(fuse), squared_error(outputs, targets))[1]
    if kind == "write":
        checkpoint.save_file = partial(half_write, fuse, checkpoint.save_file)
    else:
        checkpoint.sync = partial(kill_after, fuse, checkpoint.sync)
    return squared_error


def burn_in_training(fuse: Fuse) -> None:
    """Count training steps and not validation's."""
    if torch.is_grad_enabled():
        fuse.burn()


def half_write(fuse: Fuse, write: Callable[..., None], tensors: Any, path: Path, **options: Any) -> None:
    """Write a checkpoint, and with the fuse's last count only half of one."""
    write(tensors, path, **options)
    if fuse.left == 1:
        os.truncate(path, path.stat().st_size // 2)
    fuse.burn()


def kill_after(fuse: Fuse, flush: Callable[[Path], None], path: Path) -> None:
    """Flush, then burn."""
    flush(path)
    fuse.burn()


class Fuse:
    """Counts down to a SIGKILL of this process."""

    def __init__(self, n: int) -> None:
        self.left = n

    def burn(self) -> None:
        """Count one; the last one kills."""
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def in_child(work: Callable[[], None], *, expect: int = 0) -> None:
    """Run `work` in a fork and insist on how it ends."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code != -expect:
        sys.exit(f"expected a child to end with {-expect}, it ended with {code}")


# Batches that do not divide by two, one that leaves a process without a sample, weights, a scalar loss.
CURVES: dict[str, dict[str, Any]] = {
    "uneven": {"n": 203},
    "starved": {"n": 65},
    "weighted": {"n": 75, "is_weighted": True},
    "scalar": {"n": 75, "loss": mean_squared_error},
    "dataset": {"n": 75, "is_dataset": True},
    "double": {"n": 203, "is_double": True},
}


def curves(folder: Path) -> None:
    """Write every curve's losses by step, as rank 0 of however many processes there are."""
    outcome = {name: curve(**options) for name, options in CURVES.items()}
    if int(os.environ.get("RANK", "0")) == 0:
        (folder / f"curves-{os.environ.get('WORLD_SIZE', '1')}.json").write_text(json.dumps(outcome))


def curve(
    *,
    n: int,
    loss: Loss = squared_error,
    is_weighted: bool = False,
    is_dataset: bool = False,
    is_double: bool = False,
) -> list[dict[str, float]]:
    """Return the history of a fit that logs each step's loss."""
    network = model()
    train: Any = tensors(n)
    valid = tensors(51, seed=8)
    if is_double:
        network, train, valid = network.double(), tuple(t.double() for t in train), tuple(t.double() for t in valid)
    result = fit(
        network,
        Jittered(n) if is_dataset else train,
        valid,
        loss=loss,
        metrics=largest_error,
        sample_weight=torch.linspace(0.2, 1.8, n) if is_weighted else None,
        config=PLAIN.model_copy(update={"batch_size": 32, "log_every": 1, "ema_decay": 0.9}),
    )
    return [{key: value for key, value in row.items() if key != "seconds"} for row in result.history]


def stop_one_rank(folder: Path) -> None:
    """Write the outcomes of a fit that ran through, and of one that a SIGTERM to rank 1 stopped."""
    rank = int(os.environ["RANK"])
    outcomes = []
    for part in ("through", "stopped", "stopped"):
        root = folder / part
        known = tracking.list_runs(root) if rank == 0 else []
        open_run = tracking.resume_run(known[0].id, root) if known else None
        run = open_run or tracking.start_run(app="test", command="ddp", config={}, root=root)
        is_first = part == "stopped" and len(outcomes) == 1
        network = model(dropout=0.3, has_norm=True)
        loss = terminated(rank, at=40) if is_first else squared_error
        config = FULL.model_copy(update={"precision": "fp32"})
        with run:
            result = fit(network, tensors(203), tensors(30, seed=8), loss=loss, config=config, run=run)
        outcomes.append(result.status)
        save_outcome(folder / f"{part}-{result.status}-{rank}", network, result)


def terminated(rank: int, *, at: int) -> Loss:
    """Return the loss that asks rank 1, and only it, to stop."""
    calls = iter(range(1, 10**6))

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        if torch.is_grad_enabled() and next(calls) == at and rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return squared_error(outputs, targets)

    return loss


def main() -> None:
    """Do what the first argument says."""
    torch.set_num_threads(1)
    verb, folder, *plan = sys.argv[1:]
    if verb == "kill":
        for case, (scenario, kills) in json.loads(plan[0]).items():
            kill_and_resume(Path(folder) / case, scenario, kills)
        return
    curves(Path(folder))
    if "RANK" in os.environ:
        stop_one_rank(Path(folder))


if __name__ == "__main__":
    main()
