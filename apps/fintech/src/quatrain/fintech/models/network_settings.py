"""What decides a network; apart from the modules, so that reading a config does not import torch."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from quatrain.core.config import Config


class NetworkTraining(Config):
    """How a network is trained, and how finely it reads its inputs."""

    # Steps that each input is cut into at its quantiles.
    bins: int = Field(default=20, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    epochs: int = Field(default=12, ge=1)
    batch_size: int = Field(default=512, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=3e-2, ge=0)
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    # "auto" is CUDA where there is one.
    device: str = "auto"


class MlpSettings(NetworkTraining):
    """Size and training of the perceptron."""

    hidden: tuple[int, ...] = Field(default=(256, 128), min_length=1)


class TransformerSettings(NetworkTraining):
    """Size and training of the Transformer over columns; a row costs its square of the columns."""

    width: int = Field(default=64, ge=8)
    blocks: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, got {self.width} and {self.heads}")
        return self
