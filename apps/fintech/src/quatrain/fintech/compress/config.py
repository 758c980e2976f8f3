"""What a compression is asked to do."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from quatrain.core.config import Config, UserPath


class CompressConfig(Config):
    """Which model, by which steps, and what it may lose: the `[fintech.compress]` section."""

    # A catalogue name, a file or a folder that reaches from the model's training period to later labelled rows.
    data: str
    # columns.toml; None takes the mapping that the model was trained with.
    columns: UserPath | None = None
    bundle: str = "fintech/fraud@prod"
    # A folder for steps, report and bundle, which then is not published; None: among this machine's files, published.
    out: UserPath | None = None
    # Whether prod means the result afterwards; "auto" if it meant none before.
    promote: Literal["auto", "yes", "no"] = "auto"
    # Steps as `quatrain.core.compression.plans` reads them, such as "prune:0.5,int8", or a TOML file; "auto" is int8.
    plan: str = Field(default="auto", min_length=1)
    # Average precision that may be lost on the held-back rows, and how many times as fast the result must be.
    metric_drop: float = Field(default=0.01, ge=0)
    min_speedup: float = Field(default=1.0, gt=0)
    # Rows that are timed at once.
    batch_size: int = Field(default=256, ge=1)
    # Rows of the training period that int8 takes its ranges from.
    calibration_rows: int = Field(default=1024, ge=16)
    n_resamples: int = Field(default=500, ge=10)
    # After pruning: epochs of training on rows that the model learned from.
    epochs: int = Field(default=3, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    max_bad_ratio: float = Field(default=0.05, ge=0, le=1)
    seed: int = Field(default=0, ge=0)
