"""What an evaluation is asked to do."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from quatrain.core.config import Config, UserPath
from quatrain.fintech.evaluate.windows import Shape
from quatrain.fintech.models.recipe_settings import RecipeSettings


class EvaluateConfig(Config):
    """Which model on which rows: the `[fintech.evaluate]` section.

    With any of `train_days`, `delay_days`, `test_days`, `folds` the rows are measured fold by fold
    (the others then have the fraud-detection handbook's values: 7, 7, 7 days and 4 folds): the
    recipe is trained in each fold, or the `bundle` measured as it is. Without them a bundle is
    measured on the last rows.
    """

    data: str
    columns: UserPath | None = None
    # None: the recipe where there are folds, else fintech/fraud@prod.
    bundle: str | None = None
    # "test": the last `test_share` in time, with baselines trained on the rows before; "all": every row.
    split: Literal["test", "all"] = "test"
    test_share: float = Field(default=0.2, gt=0, lt=1)
    train_days: int | None = Field(default=None, ge=1)
    delay_days: int | None = Field(default=None, ge=0)
    test_days: int | None = Field(default=None, ge=1)
    folds: int | None = Field(default=None, ge=1)
    # What the recipe learns from: everything the columns allow, or the handbook's inputs only.
    features: Literal["full", "standard"] = "full"
    recipe: RecipeSettings = RecipeSettings()
    # Share of transactions that analysts can look at; None: the bundle's, or one in a thousand.
    alert_budget: float | None = Field(default=None, gt=0, lt=1)
    # In place of the share: so many of each day's highest scores.
    alerts_per_day: int | None = Field(default=None, ge=1)
    cards_per_day: int = Field(default=100, ge=1)
    n_resamples: int = Field(default=500, ge=10)
    # Neighbouring days that the bootstrap draws together, for data where a wave of fraud makes them alike. On
    # handbook-like data they are not: the daily AP of 129 days correlates with the next days' by .08 at most.
    block_days: int = Field(default=1, ge=1)
    max_bad_ratio: float = Field(default=0.05, ge=0, le=1)
    seed: int = Field(default=0, ge=0)

    @property
    def has_folds(self) -> bool:
        """Whether rows are measured fold by fold."""
        return any(value is not None for value in (self.train_days, self.delay_days, self.test_days, self.folds))

    @property
    def shape(self) -> Shape:
        """The days of a fold."""
        given = {"train_days": self.train_days, "delay_days": self.delay_days, "test_days": self.test_days}
        return Shape(**{name: days for name, days in given.items() if days is not None})

    @property
    def n_folds(self) -> int:
        """How many test windows there are."""
        return self.folds if self.folds is not None else 4
