"""How unlike the good parts each place of a part is: four scorers, each fitted on features alone."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

# Ridge of a block's covariance, in shares of its mean variance: below it all directions count alike.
_RIDGE = 0.03
# Directions kept of a block, at most; what they leave out is a residual, which is what is scored.
_MAX_RANK = 96
# Added to the eigenvalues of the pooled correlations, whose mean is 1.
_FLOOR = 1e-3
_EPSILON = 1e-6
# Rows of the bank of good places, and of the sample it is chosen from.
_BANK_ROWS, _SAMPLE_ROWS = 1024, 16_384
# Width of the projection that the bank is chosen on (Johnson and Lindenstrauss, 1984).
_PROJECTED = 32


class Scorer(nn.Module):
    """Features (B, C, gh, gw) to how unlike good ones they are, (B, gh, gw): 0 is alike, about 1 is usual."""

    @classmethod
    @abstractmethod
    def fitted(cls, features: Tensor) -> Self:
        """Return the scorer of these good parts' features, (N, C, gh, gw)."""

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Return the map."""


class BlockGaussian(Scorer):
    """What is left of a part after the best likeness that good parts give for the same place.

    Each block of cells has its own Gaussian: mean and leading directions of the good parts, shrunk
    by a ridge (probabilistic principal components, Tipping and Bishop 1999). For parts that lie alike.
    """

    side = 4

    def __init__(self, mean: Tensor, scale: Tensor, directions: Tensor, kept: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)  # (C, gh, gw)
        self.register_buffer("scale", scale)  # (C, 1, 1)
        self.register_buffer("directions", directions)  # (blocks, C * side * side, rank)
        self.register_buffer("kept", kept)  # (blocks, 1, rank): the share of each direction that is explained

    mean: Tensor
    scale: Tensor
    directions: Tensor
    kept: Tensor

    @classmethod
    def fitted(cls, features: Tensor) -> Self:
        """Return the Gaussians of all blocks."""
        scale = _spread(features)
        scaled = features / scale
        mean = scaled.mean(0)
        blocks = _to_blocks(scaled - mean, cls.side)  # (blocks, N, C * side * side)
        n = blocks.shape[1]
        gram = blocks @ blocks.transpose(1, 2)  # (blocks, N, N)
        ridge = _RIDGE * gram.diagonal(dim1=1, dim2=2).mean(1, keepdim=True)
        values, vectors = torch.linalg.eigh(gram)
        rank = max(1, min(n - 1, _MAX_RANK))
        values, vectors = values[:, -rank:].clamp(min=_EPSILON), vectors[:, :, -rank:]
        directions = blocks.transpose(1, 2) @ vectors / values.sqrt()[:, None, :]
        return cls(mean, scale, directions, (values / (values + ridge))[:, None, :])

    def forward(self, features: Tensor) -> Tensor:
        """Return the root of the mean squared residual of each cell."""
        scaled = features / self.scale - self.mean
        blocks = _to_blocks(scaled, self.side)
        explained = (blocks @ self.directions) * self.kept @ self.directions.transpose(1, 2)
        residual = _from_blocks(blocks - explained, scaled.shape, self.side)
        return (residual.square().mean(1) + _EPSILON).sqrt()


class CellGaussian(BlockGaussian):
    """The same with blocks of one half the side: less context, and less to learn."""

    side = 2


class TextureGaussian(Scorer):
    """Mahalanobis distance to one Gaussian of all places: for surfaces on which nothing has its place."""

    def __init__(self, mean: Tensor, whitening: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)  # (C,)
        self.register_buffer("whitening", whitening)  # (C, C)

    mean: Tensor
    whitening: Tensor

    @classmethod
    def fitted(cls, features: Tensor) -> Self:
        """Return the pooled Gaussian, its covariance shrunk towards a sphere (Ledoit and Wolf 2004)."""
        mean, whitening = _whitened(features)
        return cls(mean, whitening)

    def forward(self, features: Tensor) -> Tensor:
        """Return the distance per root of the dimension."""
        white = (features.permute(0, 2, 3, 1) - self.mean) @ self.whitening  # (B, gh, gw, C)
        return (white.square().mean(3) + _EPSILON).sqrt()


class NearestGood(Scorer):
    """Distance to the nearest of some thousand good places, wherever they lie (Roth et al., "PatchCore", CVPR 2022).

    Features are whitened first; the bank is chosen greedily on a random projection; the distance is
    one product and a minimum, so it is part of the graph.
    """

    def __init__(self, mean: Tensor, whitening: Tensor, bank: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("whitening", whitening)
        self.register_buffer("bank", bank)  # (rows, C)
        self.register_buffer("half_norms", bank.square().sum(1) / 2)

    mean: Tensor
    whitening: Tensor
    bank: Tensor
    half_norms: Tensor

    @classmethod
    def fitted(cls, features: Tensor) -> Self:
        """Return the bank of these parts."""
        mean, whitening = _whitened(features)
        places = (features.permute(0, 2, 3, 1).flatten(0, 2) - mean) @ whitening
        generator = torch.Generator().manual_seed(0)
        if len(places) > _SAMPLE_ROWS:
            places = places[torch.randperm(len(places), generator=generator)[:_SAMPLE_ROWS]]
        chosen = _spread_out(places, n=min(_BANK_ROWS, len(places)), generator=generator)
        return cls(mean, whitening, places[chosen].contiguous())

    def forward(self, features: Tensor) -> Tensor:
        """Return the distance per root of the dimension."""
        white = (features.permute(0, 2, 3, 1) - self.mean) @ self.whitening  # (B, gh, gw, C)
        # |x - b|^2 / 2 = |x|^2 / 2 - (x.b - |b|^2 / 2)
        nearest = (white @ self.bank.T - self.half_norms).amax(3)
        squared = (white.square().sum(3) - 2 * nearest).clamp(min=0)
        return (squared / white.shape[3] + _EPSILON).sqrt()


class Template(Scorer):
    """How far each cell is outside what the golden template allows there and one cell around, in its own spread."""

    def __init__(self, low: Tensor, high: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.register_buffer("low", low)  # (C, gh, gw)
        self.register_buffer("high", high)
        self.register_buffer("spread", spread)

    low: Tensor
    high: Tensor
    spread: Tensor

    @classmethod
    def fitted(cls, features: Tensor) -> Self:
        """Return the template: mean of the good parts, loosened by the neighbours' means as parts never lie still."""
        mean = features.mean(0, keepdim=True)
        high = nn.functional.max_pool2d(mean, 3, stride=1, padding=1)
        low = -nn.functional.max_pool2d(-mean, 3, stride=1, padding=1)
        within = (features - mean).square().mean(0)
        # Few parts say little about one cell's spread: half of it is that of all cells.
        spread = (0.5 * within + 0.5 * within.mean((1, 2), keepdim=True)).sqrt() + _EPSILON
        return cls(low[0], high[0], spread)

    def forward(self, features: Tensor) -> Tensor:
        """Return the root of the mean squared excess."""
        excess = torch.relu(features - self.high) + torch.relu(self.low - features)
        return ((excess / self.spread).square().mean(1) + _EPSILON).sqrt()


SCORERS: dict[str, Callable[[Tensor], Scorer]] = {
    "block_gaussian": BlockGaussian.fitted,
    "cell_gaussian": CellGaussian.fitted,
    "texture_gaussian": TextureGaussian.fitted,
    "nearest_good": NearestGood.fitted,
    "template": Template.fitted,
}


def _spread(features: Tensor) -> Tensor:
    """Return each channel's standard deviation over all places, (C, 1, 1)."""
    return features.std((0, 2, 3), unbiased=False)[:, None, None] + _EPSILON


def _to_blocks(features: Tensor, side: int) -> Tensor:
    n, channels, height, width = features.shape
    split = features.reshape(n, channels, height // side, side, width // side, side)
    return split.permute(2, 4, 0, 1, 3, 5).reshape((height // side) * (width // side), n, channels * side * side)


def _from_blocks(blocks: Tensor, shape: torch.Size, side: int) -> Tensor:
    n, channels, height, width = shape
    split = blocks.reshape(height // side, width // side, n, channels, side, side)
    return split.permute(2, 3, 0, 4, 1, 5).reshape(n, channels, height, width)


def _whitened(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean (C,) and the matrix (C, C) that gives all places unit covariance."""
    scale = _spread(features)[:, 0, 0].double()
    places = features.permute(0, 2, 3, 1).flatten(0, 2)
    # Every so many: a covariance of hundreds of channels is known well enough.
    places = places[:: max(1, len(places) // _SAMPLE_ROWS)].double()
    mean = places.mean(0)
    centred = (places - mean) / scale
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    values = values.clamp(min=0) + _FLOOR
    return mean.float(), (vectors / values.sqrt() / scale[:, None]).float()


def _spread_out(places: Tensor, *, n: int, generator: torch.Generator) -> Tensor:
    """Return the rows that a greedy search keeps: each time the farthest from all kept (Sener and Savarese 2018)."""
    width = places.shape[1]
    projection = torch.randn(width, min(_PROJECTED, width), generator=generator) / math.sqrt(_PROJECTED)
    points = places @ projection
    norms = points.square().sum(1)
    chosen = torch.zeros(n, dtype=torch.long)
    distance = torch.full((len(points),), math.inf)
    for place in range(1, n):
        last = points[chosen[place - 1]]
        distance = torch.minimum(distance, norms + last.square().sum() - 2 * (points @ last))
        chosen[place] = distance.argmax()
    return chosen
