"""The whole inspector: extractor, scorers, smoothed map and one score, as one module and as one graph."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from quatrain.industrial.models.extractor import Extractor
from quatrain.industrial.models.scorers import Scorer

# Standard deviation of the map's smoothing, in cells.
_SIGMA_CELLS = 0.5
# The score is the mean of the map's highest cells: this share of all, so that one noisy cell decides nothing.
_TOP_SHARE = 0.01
# The map that a person sees has so many points to a cell.
MAP_ZOOM = 4


class Head(nn.Module):
    """Features to the map (B, gh * 4, gw * 4) and the score (B,); 0 is a usual good part, in its deviations.

    The maps of several scorers are averaged, each in the units of its own good parts.
    """

    def __init__(self, scorers: Sequence[Scorer], *, centres: Sequence[float], spreads: Sequence[float]) -> None:
        super().__init__()
        self.scorers = nn.ModuleList(scorers)
        self.centres = tuple(float(value) for value in centres)
        self.spreads = tuple(float(value) for value in spreads)
        radius = max(1, math.ceil(3 * _SIGMA_CELLS))
        weights = torch.exp(-(torch.arange(-radius, radius + 1).float() ** 2) / (2 * _SIGMA_CELLS**2))
        line = weights / weights.sum()
        self.register_buffer("kernel", (line[:, None] * line[None, :])[None, None])
        self.radius = radius

    kernel: Tensor

    def cells(self, features: Tensor) -> Tensor:
        """Return the smoothed map on the grid, (B, gh, gw)."""
        maps = [
            (scorer(features) - centre) / spread
            for scorer, centre, spread in zip(self.scorers, self.centres, self.spreads, strict=True)
        ]
        mean = torch.stack(maps).mean(0)[:, None]  # (B, 1, gh, gw)
        padded = functional.pad(mean, (self.radius,) * 4, mode="replicate")
        return functional.conv2d(padded, self.kernel)[:, 0]

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return score and map."""
        cells = self.cells(features)
        zoomed = functional.interpolate(cells[:, None], scale_factor=float(MAP_ZOOM), mode="bilinear")[:, 0]
        return score_of(cells), zoomed


class Inspector(nn.Module):
    """Pixels (B, H, W, C) of any size to score and map."""

    def __init__(self, extractor: Extractor, head: Head) -> None:
        super().__init__()
        self.extractor = extractor
        self.head = head

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return score (B,) and map (B, gh * 4, gw * 4)."""
        found: tuple[Tensor, Tensor] = self.head(self.extractor(pixels))
        return found


def score_of(cells: Tensor) -> Tensor:
    """Return the mean of the map's highest cells, (B,)."""
    flat = cells.flatten(1)
    n_top = max(1, round(_TOP_SHARE * flat.shape[1]))
    return flat.topk(n_top, dim=1).values.mean(1)
