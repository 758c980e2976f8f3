"""What decides a perceptron; apart from the module, so that reading a config does not import torch."""

from __future__ import annotations

from pydantic import Field

from quatrain.core.config import Config


class PerceptronSettings(Config):
    """Size and training of the perceptron."""

    hidden: tuple[int, ...] = (64, 32)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    epochs: int = Field(default=30, ge=1)
    batch_size: int = Field(default=1024, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    ema_decay: float = Field(default=0.998, ge=0, lt=1)
    patience: int = Field(default=6, ge=1)
