"""What an evaluation is asked to do."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from quatrain.core.config import Config, UserPath


class EvaluateConfig(Config):
    """Which model on which rows: the `[fintech.evaluate]` section."""

    data: str
    columns: UserPath | None = None
    bundle: str = "fintech/fraud@prod"
    # "test": the last `test_share` in time, with baselines trained on the rows before; "all": every row.
    split: Literal["test", "all"] = "test"
    test_share: float = Field(default=0.2, gt=0, lt=1)
    cards_per_day: int = Field(default=100, ge=1)
    n_resamples: int = Field(default=500, ge=10)
    max_bad_ratio: float = Field(default=0.05, ge=0, le=1)
    seed: int = Field(default=0, ge=0)
