"""What decides a card-history model; apart from the modules, so that reading a config does not import torch."""

from __future__ import annotations

from pydantic import Field, model_validator

from quatrain.core.config import Config
from quatrain.fintech.features.sequences import SequenceSpec


class HistorySettings(Config):
    """Size of the Transformer, and how it is pretrained."""

    sequence: SequenceSpec = SequenceSpec()
    width: int = Field(default=64, ge=8)
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    # Classes into which amounts and gaps are binned by their quantiles.
    n_bins: int = Field(default=32, ge=4)
    # Places that each batch tells the right one from.
    negatives: int = Field(default=512, ge=1)
    # Every `stride`-th event of a card ends a sequence to pretrain on.
    stride: int = Field(default=24, ge=1)
    epochs: int = Field(default=8, ge=1)
    batch_size: int = Field(default=256, ge=2)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    ema_decay: float = Field(default=0.998, ge=0, lt=1)

    @model_validator(mode="after")
    def _is_buildable(self) -> HistorySettings:
        if self.width % (2 * self.heads):
            raise ValueError(f"width must be a multiple of twice the heads, got {self.width} and {self.heads} heads")
        return self
