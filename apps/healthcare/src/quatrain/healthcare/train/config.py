"""What a training run is asked to do."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from quatrain.core.config import Config, UserPath
from quatrain.healthcare.data.labelled import Kind
from quatrain.healthcare.models.settings import ModelSettings


class TrainConfig(Config):
    """Data, model and where the sealed model goes: the `[healthcare.train]` section."""

    # A catalogue name, a MedMNIST .npz, or a folder with one folder for each class.
    data: str
    # A folder for the bundle, which then is not published; None publishes it to the store.
    out: UserPath | None = None
    # The model's name in the store; None makes it from the data's.
    name: str | None = None
    # Whether prod means this model afterwards; "auto" if it meant none before.
    promote: Literal["auto", "yes", "no"] = "auto"
    # What the labels are; None takes it from the set.
    kind: Kind | None = None
    # Pixels of each side that a folder's images are reduced to.
    side: int | None = Field(default=None, ge=16, le=512)
    seed: int = Field(default=0, ge=0)
    # Share of train that validates where the set has no split for it.
    val_share: float = Field(default=0.1, gt=0, lt=1)
    # What may be flipped in training: None takes it from the set; nothing for what has a left and a right.
    flips: Literal["", "h", "hv"] | None = None
    model: ModelSettings = ModelSettings()
    # Share of the cases of each class whose set of answers is to hold the truth.
    level: float = Field(default=0.9, gt=0, lt=1)
    # Share of good images that may be called unlike all that was learned from.
    false_alarms: float = Field(default=0.01, gt=0, lt=0.5)
    # Copies of the validation images, each shown as another machine might, that the temperature is fitted on as well.
    n_views: int = Field(default=4, ge=0, le=32)
    n_resamples: int = Field(default=500, ge=10)
    # Threads on a CPU: of networks this small, several wait for one another longer than they compute.
    threads: int = Field(default=1, ge=1)
