"""What a compression is asked to do."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from quatrain.core.config import Config, UserPath


class CompressConfig(Config):
    """Which model, by which steps, and what it may lose: the `[healthcare.compress]` section."""

    data: str
    bundle: str
    # A folder for steps, report and bundle, which then is not published; None publishes the bundle.
    out: UserPath | None = None
    promote: Literal["auto", "yes", "no"] = "auto"
    # Where the loss is measured; images of train give int8 its ranges.
    split: Literal["val", "test"] = "test"
    # Steps as `quatrain.core.compression.plans` reads them; convolutions in integers, the rest as it was.
    plan: str = Field(default="int8:operators=Conv:mixed=4", min_length=1)
    # Area under the ROC curve that may be lost, at the end of its interval, and how many times as fast it must be.
    metric_drop: float = Field(default=0.005, ge=0)
    min_speedup: float = Field(default=1.0, gt=0)
    # Images that are timed at once.
    batch_size: int = Field(default=64, ge=1)
    calibration_images: int = Field(default=256, ge=16)
    n_resamples: int = Field(default=500, ge=10)
    seed: int = Field(default=0, ge=0)
