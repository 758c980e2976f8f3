"""Tokens as vectors to read, and as classes to predict."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quatrain.fintech.features.sequences import CHANNELS, KEYS, PLACES, Values
from quatrain.fintech.models.history_settings import HistorySettings

CHANNEL = {name: place for place, name in enumerate(CHANNELS)}
HOURS = 24
_WEEKDAYS = 7
# The hour enters as so many sines and cosines, from once to so often a day.
_HARMONICS = 3
# Lower bounds of the classes of "so many events ago"; below the first is "never".
_AGO_BOUNDS = (0.5, 1.5, 2.5, 4.5, 8.5, 16.5, 32.5)
N_AGO = len(_AGO_BOUNDS) + 1
# Bounds of bins in the tail, where frauds are, beside the even ones.
_TAIL = (0.99, 0.995, 0.999)
# Logarithms of counts, seconds and amounts are some units wide; divided by this they are about one.
_LOG_SCALE = 4.0
_EMBEDDING_SD = 0.1


def channel(x: Tensor, name: str) -> Tensor:
    """Return one channel of tokens (..., C)."""
    return x[..., CHANNEL[name]]


class Bins(nn.Module):
    """A number as one of a few quantile bins, and as a vector that says how far through each bin it lies.

    The vector is the piecewise linear encoding of Gorishniy et al. (2022), section 3.1.
    """

    bounds: Tensor

    def __init__(self, values: NDArray[np.float32], *, n_bins: int) -> None:
        super().__init__()
        shares = np.concatenate([np.linspace(0, 1, n_bins + 1)[1:-1], _TAIL])
        low = values.min()
        bounds = np.unique(np.quantile(values, shares, method="higher"))
        bounds = bounds[bounds > low]
        if len(bounds) < 2:  # noqa: PLR2004 - a constant, or two values: the encoding needs an inner bin
            bounds = low + np.array([1.0, 2.0])
        self.n_classes = len(bounds) + 1
        # Of `encode`.
        self.width = len(bounds)
        self.register_buffer("bounds", torch.as_tensor(bounds, dtype=torch.float32))

    def classes(self, x: Tensor) -> Tensor:
        """Return each number's bin, int64, of the shape of x."""
        return (x[..., None] >= self.bounds).sum(-1)

    def encode(self, x: Tensor) -> Tensor:
        """Return (..., width): the number itself, then 0 to 1 for each inner bin."""
        low, high = self.bounds[:-1], self.bounds[1:]
        through = ((x[..., None] - low) / (high - low)).clamp(0, 1)
        return torch.cat([x[..., None] / _LOG_SCALE, through], -1)


class TokenParts(nn.Module):
    """Three vectors of each token: when, where and how much.

    Apart, so that where can be predicted given when, and how much given both.
    """

    ago_bounds: Tensor

    def __init__(self, tokens: Values, settings: HistorySettings) -> None:
        super().__init__()
        width = settings.width
        # What no event of the training data has says nothing.
        self.keys = tuple(key for key in KEYS if tokens[:, CHANNEL[f"{key}_bucket"]].any())
        self.places = tuple(key for key in self.keys if key in PLACES)
        self.amount = Bins(tokens[:, CHANNEL["log_amount"]], n_bins=settings.n_bins)
        self.gap = Bins(tokens[:, CHANNEL["log_gap"]], n_bins=settings.n_bins)
        self.register_buffer("ago_bounds", torch.tensor(_AGO_BOUNDS))
        self._logs = (
            *(f"{key}_{kind}" for key in self.keys for kind in ("log_count", "log_gap")),
            *(f"{place}_log_follows" for place in self.places),
        )
        self.when = nn.Linear(self.gap.width + 1 + 2 * _HARMONICS, width)
        self.weekday = _embedding(_WEEKDAYS, width)
        self.where = nn.Linear(max(len(self._logs), 1), width)
        self.place = nn.ModuleList(_embedding(settings.sequence.buckets, width) for _ in self.places)
        self.ago = nn.ModuleList(_embedding(N_AGO, width) for _ in self.keys)
        self.how_much = nn.Linear(self.amount.width + 1, width)
        self.same_amount = _embedding(N_AGO, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (when, where, how much), each (B, T, width), of tokens (B, T, C)."""
        log_count = channel(x, "log_count")[..., None] / _LOG_SCALE
        when = self.when(torch.cat([self.gap.encode(channel(x, "log_gap")), log_count, _clock(x)], -1))
        when = when + self.weekday(channel(x, "weekday").long())
        how_much = self.how_much(
            torch.cat([self.amount.encode(channel(x, "log_amount")), channel(x, "amount_step")[..., None]], -1)
        )
        return when, self._where(x), how_much + self.same_amount(self.ago_classes(x, "same_amount_ago"))

    def _where(self, x: Tensor) -> Tensor:
        names = self._logs or ("is_event",)
        where: Tensor = self.where(torch.stack([channel(x, name) / _LOG_SCALE for name in names], -1))
        for embed, bucket in zip(self.place, self.buckets(x), strict=True):
            where = where + embed(bucket)
        for embed, key in zip(self.ago, self.keys, strict=True):
            where = where + embed(self.ago_classes(x, f"{key}_ago"))
        return where

    def buckets(self, x: Tensor) -> list[Tensor]:
        """Return each place's bucket, int64 (B, T)."""
        return [channel(x, f"{place}_bucket").long() for place in self.places]

    def ago_classes(self, x: Tensor, name: str) -> Tensor:
        """Return the class of "so many events ago", int64 (B, T)."""
        return (channel(x, name)[..., None] >= self.ago_bounds).sum(-1)


def _clock(x: Tensor) -> Tensor:
    angle = channel(x, "hour")[..., None] * (2 * math.pi / HOURS)
    turns = angle * torch.arange(1, _HARMONICS + 1, device=x.device)
    return torch.cat([turns.sin(), turns.cos()], -1)


def _embedding(n: int, width: int) -> nn.Embedding:
    embedding = nn.Embedding(n, width)
    nn.init.normal_(embedding.weight, std=_EMBEDDING_SD)
    return embedding
