"""TabM: several networks that share their weights, as one (Gorishniy, Kotelnikov and Babenko, ICLR 2025).

Each hidden layer is one matrix for all members, before and after which a member scales by vectors
of its own (BatchEnsemble); each input enters by its piecewise linear encoding.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor, nn

from quatrain.fintech.models.encoding import Encoding
from quatrain.fintech.models.fold import X
from quatrain.fintech.models.tabm_settings import TabmSettings


class FraudTabm(nn.Module):
    """Log odds of fraud by each member from raw inputs, (B, F) float32 -> (B, k)."""

    def __init__(self, x: X, settings: TabmSettings, *, prior: float) -> None:
        super().__init__()
        self.encoding = Encoding(x, bins=settings.bins)
        n_inputs, n_bins = self.encoding.low.shape
        k, d = settings.members, settings.embedding
        self.embed = nn.Parameter(torch.randn(n_inputs, n_bins, d) / n_bins**0.5)
        self.embed_bias = nn.Parameter(torch.zeros(n_inputs, d))
        sizes = [n_inputs * d, *settings.hidden]
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(sizes))
        # Members differ by the signs with which they read the inputs; all else starts alike.
        signs = torch.randint(0, 2, (k, sizes[0])) * 2.0 - 1
        self.before = nn.ParameterList([signs, *(torch.ones(k, size) for size in sizes[1:-1])])
        self.after = nn.ParameterList([torch.ones(k, size) for size in sizes[1:]])
        self.bias = nn.ParameterList([_uniform(k, b, fan_in=a) for a, b in itertools.pairwise(sizes)])
        self.head = nn.Parameter(_uniform(k, sizes[-1], fan_in=sizes[-1]))
        # Starts at the fraud rate, so that the first epochs are not spent on learning it.
        self.head_bias = nn.Parameter(torch.full((k,), float(np.log(prior / (1 - prior)))))
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return log odds, (B, k)."""
        encoded = self.encoding(x).transpose(0, 1)  # (F, B, T)
        embedded = torch.bmm(encoded, self.embed).transpose(0, 1)  # (B, F, d)
        z = torch.relu(embedded + self.embed_bias).flatten(1)[:, None]  # (B, 1, F d)
        for layer, before, after, bias in zip(self.layers, self.before, self.after, self.bias, strict=True):
            z = self.dropout(torch.relu(layer(z * before) * after + bias))  # (B, k, hidden)
        odds: Tensor = (z * self.head).sum(-1) + self.head_bias
        return odds


def _uniform(*size: int, fan_in: int) -> Tensor:
    values: Tensor = (torch.rand(*size) * 2 - 1) / fan_in**0.5
    return values
