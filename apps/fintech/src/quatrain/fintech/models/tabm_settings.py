"""What decides a TabM; apart from the module, so that reading a config does not import torch."""

from __future__ import annotations

from pydantic import Field

from quatrain.core.config import Config


class TabmSettings(Config):
    """Size and training of the network; the defaults were fixed on validation folds of the handbook's generator."""

    # Networks in one.
    members: int = Field(default=8, ge=1)
    hidden: tuple[int, ...] = Field(default=(64, 64), min_length=1)
    # Steps that each input is cut into at its quantiles, and the numbers that stand for the input after them.
    bins: int = Field(default=20, ge=1)
    embedding: int = Field(default=4, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    epochs: int = Field(default=12, ge=1)
    batch_size: int = Field(default=512, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=3e-2, ge=0)
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    # "auto" is CUDA where there is one.
    device: str = "auto"
