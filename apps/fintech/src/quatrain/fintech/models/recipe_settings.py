"""What a recipe is chosen from; apart from what trains, so that reading a config does not import torch."""

from __future__ import annotations

from pydantic import Field

from quatrain.core.config import Config
from quatrain.fintech.models.trees import TreeSettings


def _trees() -> dict[str, TreeSettings]:
    return {
        "lightgbm": TreeSettings(),
        "lightgbm fine bins": TreeSettings(max_bin=2047, num_leaves=31),
    }


class RecipeSettings(Config):
    """The ways to grow trees that are compared on the validation folds; the first wins a tie."""

    trees: dict[str, TreeSettings] = Field(default_factory=_trees, min_length=1)
