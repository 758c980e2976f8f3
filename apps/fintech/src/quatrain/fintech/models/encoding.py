"""How networks read inputs of any scale: piecewise linear encoding at quantiles.

Gorishniy, Rubachev and Babenko, "On Embeddings for Numerical Features in Tabular Deep Learning", NeurIPS 2022.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from quatrain.fintech.models.fold import X

# Quantiles beside the even ones: fraud is where values are rare.
_TAIL = (0.99, 0.997, 0.999)


class Encoding(nn.Module):
    """Each input as the share of each of its bins that lies below it, (B, F) -> (B, F, T), in [0, 1].

    An input with fewer distinct quantiles has empty bins, which are 0.
    """

    low: Tensor
    width: Tensor

    def __init__(self, x: X, *, bins: int) -> None:
        super().__init__()
        at = np.unique([*np.linspace(0, 1, bins + 1), *_TAIL])
        low = np.full((x.shape[1], len(at) - 1), np.inf, dtype=np.float32)
        width = np.ones_like(low)
        for place, column in enumerate(x.T):
            edges = np.unique(np.quantile(column, at, method="inverted_cdf"))
            low[place, : len(edges) - 1] = edges[:-1]
            width[place, : len(edges) - 1] = np.diff(edges)
        self.register_buffer("low", torch.from_numpy(low))
        self.register_buffer("width", torch.from_numpy(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return the encoded inputs."""
        return ((x[:, :, None] - self.low) / self.width).clamp(0, 1)  # (B, F, T)
