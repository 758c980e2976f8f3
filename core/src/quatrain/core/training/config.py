"""What decides a training run, apart from the model and the data."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from quatrain.core.config import Config

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Schedule = Literal["constant", "cosine", "one_cycle"]


class FitConfig(Config):
    """Settings of `fit`; an app's TrainConfig holds or extends it."""

    epochs: int = Field(default=20, ge=1)
    # Samples per optimiser step over all processes together.
    batch_size: int = Field(default=256, ge=1)
    # The peak of the schedule.
    learning_rate: float = Field(default=1e-3, gt=0)
    # Applied to matrices and kernels, not to biases and norms.
    weight_decay: float = Field(default=0.01, ge=0)
    schedule: Schedule = "cosine"
    # Share of all steps in which the learning rate climbs linearly (in one_cycle: along a cosine).
    warmup_fraction: float = Field(default=0.05, ge=0, lt=1)
    # Largest norm of the whole gradient; None leaves it alone.
    clip_norm: float | None = Field(default=1.0, gt=0)
    # Such as 0.999: validation and the final weights use the moving average. None: no average.
    ema_decay: float | None = Field(default=None, ge=0, lt=1)
    # "auto" is fp32 on a CPU and bf16 (fp16 where the GPU has no bf16) on CUDA; validation is always fp32.
    precision: Precision = "auto"
    # A key of the epoch's history row: valid_loss, or valid_<name> for a name that `metrics` returns.
    monitor: str = "valid_loss"
    mode: Literal["min", "max"] = "min"
    # Epochs without an improvement of more than min_delta before stopping; None trains every epoch.
    patience: int | None = Field(default=None, ge=1)
    min_delta: float = Field(default=0.0, ge=0)
    seed: int = Field(default=0, ge=0)
    # "auto" is CUDA where there is one, else the CPU.
    device: str = "auto"
    # Steps between checkpoints, besides the one at the end of each epoch; 0 means none besides.
    checkpoint_every: int = Field(default=0, ge=0)
    # Steps between history rows, besides the one at the end of each epoch; 0 means none besides.
    log_every: int = Field(default=0, ge=0)
    shuffle: bool = True
    # Leaves the last, smaller batch out: batch normalisation cannot take a batch of one.
    drop_last: bool = False
    # Keeps tensors on the device for the whole run if they take at most half of its free memory.
    resident: bool = True
    # Processes that read a Dataset ahead; tensors need none.
    workers: int = Field(default=0, ge=0)


# What may differ between a run and its resume: how it runs, not what it computes.
OPERATIONAL = frozenset({"device", "checkpoint_every", "log_every", "resident", "workers", "patience"})
