"""The whole inspector: extractor, scorers, smoothed map and one score, as one module and as one graph."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from quatrain.industrial.models.extractor import Extractor
from quatrain.industrial.models.scorers import Scorer

# Standard deviation of the smoothing in cells: of what the score is read from, and more of what a person sees.
_SCORE_SIGMA, _MAP_SIGMA = 0.5, 1.0
# The score is the mean of the map's highest cells: this share of all, so that one noisy cell decides nothing.
_TOP_SHARE = 0.015
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
        self.register_buffer("score_kernel", _gaussian(_SCORE_SIGMA))
        self.register_buffer("map_kernel", _gaussian(_MAP_SIGMA))

    score_kernel: Tensor
    map_kernel: Tensor

    def cells(self, features: Tensor) -> Tensor:
        """Return what the score is read from, on the grid, (B, gh, gw)."""
        return _blurred(self._raw(features), self.score_kernel)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return score and map."""
        raw = self._raw(features)
        score = score_of(_blurred(raw, self.score_kernel))
        smooth = _blurred(raw, self.map_kernel)[:, None]
        return score, functional.interpolate(smooth, scale_factor=float(MAP_ZOOM), mode="bilinear")[:, 0]

    def _raw(self, features: Tensor) -> Tensor:
        maps = [
            (scorer(features) - centre) / spread
            for scorer, centre, spread in zip(self.scorers, self.centres, self.spreads, strict=True)
        ]
        return torch.stack(maps).mean(0)


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


def _gaussian(sigma: float) -> Tensor:
    radius = max(1, math.ceil(3 * sigma))
    weights = torch.exp(-(torch.arange(-radius, radius + 1).float() ** 2) / (2 * sigma**2))
    line = weights / weights.sum()
    return (line[:, None] * line[None, :])[None, None]


def _blurred(cells: Tensor, kernel: Tensor) -> Tensor:
    padded = functional.pad(cells[:, None], (kernel.shape[-1] // 2,) * 4, mode="replicate")
    return functional.conv2d(padded, kernel)[:, 0]
