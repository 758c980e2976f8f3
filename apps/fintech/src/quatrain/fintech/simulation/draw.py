"""Weighted draws from many small pools at once, ragged ranges, and the moments of a fraud's course."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Codes = NDArray[np.int8]
Rng = np.random.Generator


@dataclass(frozen=True, kw_only=True)
class Pools:
    """Weighted members of many pools, so that one call draws from a different pool per row."""

    members: Ints
    # Where each pool begins in `members`; one more than there are pools.
    first: Ints
    # Running sum of all weights, from 0; one more than there are members.
    cumulative: Floats

    @classmethod
    def dense(cls, weights: Floats) -> Pools:
        """Return one pool per row of a matrix (pools, members), the members being the column numbers."""
        n_pools, n_members = weights.shape
        return cls(
            members=np.tile(np.arange(n_members), n_pools),
            first=np.arange(n_pools + 1) * n_members,
            cumulative=np.concatenate([[0.0], np.cumsum(weights.ravel())]),
        )

    @classmethod
    def grouped(cls, pool: Ints, weight: Floats, *, n_pools: int) -> Pools:
        """Return the pools of members 0, 1, ... that each lie in one pool with one weight."""
        order = np.argsort(pool, kind="stable")
        return cls(
            members=order,
            first=np.searchsorted(pool[order], np.arange(n_pools + 1)),
            cumulative=np.concatenate([[0.0], np.cumsum(weight[order])]),
        )

    def draw(self, rng: Rng, pool: Ints) -> Ints:
        """Return one member per entry of `pool`, by weight; no pool that is named may be empty."""
        low, high = self.cumulative[self.first[pool]], self.cumulative[self.first[pool + 1]]
        target = low + rng.random(pool.shape) * (high - low)
        place = np.searchsorted(self.cumulative, target, side="right") - 1
        # Rounding may step over the edge of a pool, never further.
        return self.members[np.clip(place, self.first[pool], self.first[pool + 1] - 1)]


class Numbers:
    """Gives out consecutive numbers; a file shows them shuffled, so that their order tells nothing."""

    def __init__(self, first: int = 0) -> None:
        self.next = first

    def issue(self, n: int) -> Ints:
        """Return n new numbers."""
        self.next += n
        return np.arange(self.next - n, self.next)


def spread(counts: Ints) -> tuple[Ints, Ints]:
    """Return (owner, place within the owner) of sum(counts) entries in the order of their owners."""
    owner = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    return owner, place


def running_sum(values: Floats, place: Ints) -> Floats:
    """Return the sum of an owner's values up to and with each entry; `place` as `spread` gives it."""
    total: Floats = np.cumsum(values)
    before: Floats = total - values
    since: Floats = total - before[np.arange(len(values)) - place]
    return since


def clipped_lognormal(rng: Rng, median: float, sigma: float, size: int, *, low: float, high: float) -> Floats:
    """Return log-normal values cut to [low, high]."""
    return np.clip(median * np.exp(sigma * rng.standard_normal(size)), low, high)


def moments(rng: Rng, course: Sequence[float], n: int) -> Floats:
    """Return n moments in [0, 1) whose density runs linearly through `course` at equal steps."""
    grid = np.linspace(0, 1, 1001)
    density = np.interp(grid, np.linspace(0, 1, len(course)), course)
    steps = (density[1:] + density[:-1]) / 2
    cumulative = np.concatenate([[0.0], np.cumsum(steps)])
    drawn: Floats = np.interp(rng.random(n) * cumulative[-1], cumulative, grid)
    return np.minimum(drawn, np.nextafter(1.0, 0.0))
