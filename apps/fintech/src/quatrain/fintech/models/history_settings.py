"""What decides an event-history model; apart from the modules, so that reading a config does not import torch."""

from __future__ import annotations

from pydantic import Field, model_validator

from quatrain.core.config import Config
from quatrain.fintech.features.sequences import SequenceSpec


class StageSettings(Config):
    """How the network learns in one stage."""

    epochs: int = Field(default=3, ge=1)
    batch_size: int = Field(default=256, ge=2)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    ema_decay: float = Field(default=0.99, ge=0, lt=1)


class HistorySettings(Config):
    """Size of the Transformer, how it is pretrained, and how it is tuned on frauds."""

    sequence: SequenceSpec = SequenceSpec(length=16)
    width: int = Field(default=64, ge=8)
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    # Classes into which amounts and gaps are binned by their quantiles.
    n_bins: int = Field(default=32, ge=4)
    # Places that each batch tells the right one from.
    negatives: int = Field(default=128, ge=1)
    # Next events are predicted within sequences that end in every so many-th event of an owner; labels are learned
    # from overlapping ones, so that most events have a past.
    pretraining_stride: int = Field(default=24, ge=1)
    tuning_stride: int = Field(default=8, ge=1)
    pretraining: StageSettings = StageSettings(ema_decay=0.998)
    tuning: StageSettings = StageSettings(epochs=4, learning_rate=1e-3, weight_decay=0.05)
    # What a fraud counts for beside a legitimate event.
    fraud_weight: float = Field(default=3.0, gt=0)
    device: str = "auto"

    @model_validator(mode="after")
    def _is_buildable(self) -> HistorySettings:
        if self.width % (2 * self.heads):
            raise ValueError(f"width must be a multiple of twice the heads, got {self.width} and {self.heads} heads")
        return self
