"""The exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """A moving average of the trained weights; frozen weights and buffers stay the model's own."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._trained = {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
        self._sources: list[Tensor] = list(self._trained.values())
        self._average = {name: tensor.detach().clone() for name, tensor in self._trained.items()}
        self._targets = list(self._average.values())

    @torch.no_grad()
    def update(self, n_updates: int) -> None:
        """Move the average towards the weights, as the update after `n_updates` earlier ones.

        The decay starts low and climbs to its value, min(decay, (1 + n) / (10 + n)), as in
        TensorFlow's ExponentialMovingAverage: a short run is not held back by its first weights.
        """
        decay = min(self.decay, (1 + n_updates) / (10 + n_updates))
        torch._foreach_lerp_(self._targets, self._sources, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the averaged weights inside the block, and its own back after it."""
        own = {name: tensor.detach().clone() for name, tensor in self._trained.items()}
        self._copy(self._average)
        try:
            yield
        finally:
            self._copy(own)

    def give(self) -> None:
        """Leave the model with the averaged weights."""
        self._copy(self._average)

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The averaged weights by parameter name."""
        return self._average

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over averaged weights of the same names and shapes."""
        for name, tensor in self._average.items():
            tensor.copy_(tensors[name])

    @torch.no_grad()
    def _copy(self, values: Mapping[str, Tensor]) -> None:
        for name, tensor in self._trained.items():
            tensor.copy_(values[name])
