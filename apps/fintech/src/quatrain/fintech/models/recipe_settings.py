"""What a recipe is chosen from; apart from what trains, so that reading a config does not import torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from quatrain.core.config import Config
from quatrain.fintech.models.network_settings import MlpSettings, NetworkTraining, TransformerSettings
from quatrain.fintech.models.tabm_settings import TabmSettings
from quatrain.fintech.models.trees import TreeSettings


class IsolationSettings(Config):
    """Size of an isolation forest; the paper's."""

    n_trees: int = Field(default=100, ge=1)
    # Rows that each tree draws.
    n_rows: int = Field(default=256, ge=2)


def _trees() -> dict[str, TreeSettings]:
    return {
        "lightgbm": TreeSettings(),
        "lightgbm fine bins": TreeSettings(max_bin=2047),
    }


class RecipeSettings(Config):
    """What is compared on the validation folds; False leaves a part out.

    Ratios stay where they raise the mean average precision; any other part where the interval of
    its gain lies above 0, so that ever more parts do not follow the noise of a few hundred frauds.
    """

    # Trees with what raises their ranking, or one network in their place, of which nothing but its epochs is chosen.
    model: Literal["trees", "mlp", "tabm", "transformer"] = "trees"
    # By name; the first is kept unless another is better beyond chance.
    trees: dict[str, TreeSettings] = Field(default_factory=_trees, min_length=1)
    # Seeds of the trees while comparing; the final trees take their own n_seeds.
    trial_seeds: int = Field(default=1, ge=1)
    # Ratios of inputs in one unit, such as an amount over the card's mean, as more columns of every model.
    ratios: bool = True
    # A further column of the trees: how easily a row is told apart from all others.
    isolation: IsolationSettings | Literal[False] = False
    # A network beside the trees; with model = "tabm", the settings of that.
    tabm: TabmSettings | Literal[False] = False
    # With more rows to learn from, the network is left out: its training would take hours.
    tabm_rows: int = Field(default=300_000, ge=0)
    # The networks that stand alone.
    mlp: MlpSettings = MlpSettings()
    transformer: TransformerSettings = TransformerSettings()
    # Level of the intervals.
    level: float = Field(default=0.9, gt=0, lt=1)

    @property
    def network(self) -> tuple[Literal["mlp", "tabm", "transformer"], NetworkTraining] | None:
        """The network that stands in place of the trees, by its kind, with its settings."""
        if self.model == "trees":
            return None
        settings = {"mlp": self.mlp, "tabm": self.tabm or TabmSettings(), "transformer": self.transformer}
        return self.model, settings[self.model]


def quick_settings(*, max_rounds: int = 200) -> RecipeSettings:
    """Return settings that train in seconds: for a demonstration, or a first look."""
    trees = TreeSettings(learning_rate=0.05, max_bin=2047, max_rounds=max_rounds, step=min(25, max_rounds), patience=3)
    return RecipeSettings(trees={"lightgbm": trees})
