"""What an evaluation, and what a repair, is asked to do."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from quatrain.core.config import Config, UserPath


class EvaluateConfig(Config):
    """Which model on which images: the `[healthcare.evaluate]` section."""

    data: str
    bundle: str
    split: Literal["train", "val", "test"] = "test"
    n_resamples: int = Field(default=500, ge=10)
    seed: int = Field(default=0, ge=0)
    # Whether simple models, trained on the data's own training split, are measured beside it.
    baselines: bool = True
    # Resamples of the two-sample test behind the site-shift alarm, and the p-value that rings it.
    n_permutations: int = Field(default=199, ge=19)
    alarm_p: float = Field(default=0.01, gt=0, lt=1)


class AdaptConfig(EvaluateConfig):
    """A repair with few labels: the `[healthcare.adapt]` section."""

    # Cases of the split whose labels are used; the rest measures the repair.
    labels: int = Field(default=50, ge=10)
    # Draws of those cases; the measures are means over them.
    repeats: int = Field(default=50, ge=1)
    # A folder for the repaired bundle, made with the first draw.
    out: UserPath | None = None
    # How far few labels may move slope and offset of the logit: deviations of normal priors.
    slope_sd: float = Field(default=0.5, gt=0)
    offset_sd: float = Field(default=3.0, gt=0)
