"""A Transformer over a transaction's inputs, one token to each: an FT-Transformer on piecewise linear encodings."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from quatrain.core.networks import TokenTransformer
from quatrain.fintech.models.encoding import Encoding
from quatrain.fintech.models.fold import X
from quatrain.fintech.models.network_settings import TransformerSettings


class FraudTransformer(nn.Module):
    """Log odds of fraud from raw inputs, (B, F) float32 -> (B,)."""

    def __init__(self, x: X, settings: TransformerSettings, *, prior: float) -> None:
        super().__init__()
        self.encoding = Encoding(x, bins=settings.bins)
        n_inputs, n_bins = self.encoding.low.shape
        self.embed = nn.Parameter(torch.randn(n_inputs, n_bins, settings.width) / n_bins**0.5)
        self.embed_bias = nn.Parameter(torch.randn(n_inputs, settings.width) / settings.width**0.5)
        self.transformer = TokenTransformer(
            width=settings.width, n_blocks=settings.blocks, n_heads=settings.heads, dropout=settings.dropout
        )
        # Starts at the fraud rate, so that the first epochs are not spent on learning it.
        nn.init.constant_(self.transformer.last.bias, math.log(prior / (1 - prior)))

    def forward(self, x: Tensor) -> Tensor:
        """Return log odds, (B,)."""
        encoded = self.encoding(x).transpose(0, 1)  # (F, B, T)
        tokens = torch.bmm(encoded, self.embed).transpose(0, 1) + self.embed_bias  # (B, F, width)
        odds: Tensor = self.transformer(tokens)
        return odds
