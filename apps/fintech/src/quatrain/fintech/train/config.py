"""What a training run is asked to do."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from quatrain.core.config import Config, UserPath
from quatrain.fintech.features.names import LABEL_DELAY_US, History
from quatrain.fintech.features.row import DAY_US
from quatrain.fintech.models.recipe_settings import RecipeSettings

MODEL_NAME = "fintech/fraud"
LABEL_DELAY_DAYS = LABEL_DELAY_US / DAY_US


class TrainConfig(Config):
    """Data, split, recipe and where the sealed model goes: the `[fintech.train]` section."""

    # A catalogue name, a file or a folder.
    data: str
    # columns.toml; None takes the catalogue's mapping, or canonical names.
    columns: UserPath | None = None
    # A folder for the bundle, which then is not published; None publishes it to the store.
    out: UserPath | None = None
    # Whether prod means this model afterwards; "auto" if it meant none before.
    promote: Literal["auto", "yes", "no"] = "auto"
    seed: int = Field(default=0, ge=0)
    # The last rows in time; of those known before, the last for validation.
    test_share: float = Field(default=0.2, gt=0, lt=1)
    valid_share: float = Field(default=0.2, gt=0, lt=1)
    # Expanding windows that the recipe is chosen on; the last one's validation rows also calibrate.
    n_folds: int = Field(default=3, ge=1, le=10)
    # Days until a label is known, where the data has no `labelled_at`; "auto" is 7, or 0 for less than 8 weeks of data.
    label_delay_days: float | Literal["auto"] = "auto"
    # Inputs beyond the row itself: all that the id columns allow, the handbook's fifteen, or none.
    features: History = "full"
    # Share of transactions that analysts can look at.
    alert_budget: float = Field(default=0.001, gt=0, lt=1)
    max_bad_ratio: float = Field(default=0.05, ge=0, le=1)
    # What to do about columns that seem to say what nobody knew yet.
    leaks: Literal["refuse", "warn"] = "refuse"
    recipe: RecipeSettings = RecipeSettings()
    # Trials of other tree settings before the recipe is chosen; needs quatrain-core[search].
    search: int = Field(default=0, ge=0)
    # Cards a day that Card Precision looks at.
    cards_per_day: int = Field(default=100, ge=1)
    n_resamples: int = Field(default=500, ge=10)
