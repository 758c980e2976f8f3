"""What decides a TabM; apart from the module, so that reading a config does not import torch."""

from __future__ import annotations

from pydantic import Field

from quatrain.fintech.models.network_settings import NetworkTraining


class TabmSettings(NetworkTraining):
    """Size and training of the network; the defaults were fixed on validation folds of the handbook's generator."""

    # Networks in one.
    members: int = Field(default=8, ge=1)
    hidden: tuple[int, ...] = Field(default=(64, 64), min_length=1)
    # The numbers that stand for an input after its steps.
    embedding: int = Field(default=4, ge=1)
