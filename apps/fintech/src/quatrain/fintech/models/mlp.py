"""A perceptron on piecewise linear encodings: the plain network, and the one that loses least in int8."""

from __future__ import annotations

import itertools
import math

from torch import Tensor, nn

from quatrain.fintech.models.encoding import Encoding
from quatrain.fintech.models.fold import X
from quatrain.fintech.models.network_settings import MlpSettings


class FraudMlp(nn.Module):
    """Log odds of fraud from raw inputs, (B, F) float32 -> (B,)."""

    def __init__(self, x: X, settings: MlpSettings, *, prior: float) -> None:
        super().__init__()
        self.encoding = Encoding(x, bins=settings.bins)
        sizes = [self.encoding.low.numel(), *settings.hidden]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.head = nn.Linear(sizes[-1], 1)
        # Starts at the fraud rate, so that the first epochs are not spent on learning it.
        nn.init.constant_(self.head.bias, math.log(prior / (1 - prior)))
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return log odds, (B,)."""
        z = self.encoding(x).flatten(1)  # (B, F T)
        for layer in self.layers:
            z = self.dropout(layer(z).relu())
        odds: Tensor = self.head(z).squeeze(1)
        return odds
