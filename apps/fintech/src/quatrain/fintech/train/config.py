"""What a training run is asked to do."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from quatrain.core.config import Config, UserPath
from quatrain.fintech.models.perceptron_settings import PerceptronSettings
from quatrain.fintech.models.trees import TreeSettings

MODEL_NAME = "fintech/fraud"


def _trees() -> dict[str, TreeSettings]:
    return {
        "lightgbm": TreeSettings(),
        "lightgbm fine bins": TreeSettings(max_bin=2047, num_leaves=31),
    }


class TrainConfig(Config):
    """Data, split, candidates and where the sealed model goes: the `[fintech.train]` section."""

    # A catalogue name, a file or a folder.
    data: str
    # columns.toml; None takes the catalogue's mapping, or canonical names.
    columns: UserPath | None = None
    # A folder for the bundle, which then is not published; None publishes it to the store.
    out: UserPath | None = None
    # Whether prod means this model afterwards; "auto" if it meant none before.
    promote: Literal["auto", "yes", "no"] = "auto"
    seed: int = Field(default=0, ge=0)
    # The last rows in time; of those before, the last for validation.
    test_share: float = Field(default=0.2, gt=0, lt=1)
    valid_share: float = Field(default=0.2, gt=0, lt=1)
    # Share of transactions that analysts can look at.
    alert_budget: float = Field(default=0.001, gt=0, le=1)
    max_bad_ratio: float = Field(default=0.05, ge=0, le=1)
    # By name; the first is kept unless another is better beyond chance.
    trees: dict[str, TreeSettings] = Field(default_factory=_trees, min_length=1)
    # false leaves it out.
    perceptron: PerceptronSettings | Literal[False] = PerceptronSettings()
    # Cards a day that Card Precision looks at.
    cards_per_day: int = Field(default=100, ge=1)
    n_resamples: int = Field(default=500, ge=10)
    # "auto" trains the perceptron on CUDA where there is one.
    device: str = "auto"
