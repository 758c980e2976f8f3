"""A search over splits, cycle and offsets by CMA-ES (Hansen 2016) on simulations with common random numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quatrain.core.errors import require
from quatrain.smart_city.data.network import Programme
from quatrain.smart_city.retime.plan import Plan
from quatrain.smart_city.retime.webster import stage_rows, with_greens
from quatrain.smart_city.simulation.pool import Pool
from quatrain.smart_city.simulation.result import Job

Floats = NDArray[np.float64]

# First step of the search, in the units of `Space`: about a quarter more or less green.
_STEP = 0.25
# Offsets move in quarters of a cycle.
_OFFSET_SHARE = 0.25


class Space:
    """Plans of several signals as one vector around a centre: log greens per stage, then offsets, then the cycle."""

    def __init__(self, programmes: Mapping[str, Programme]) -> None:
        self.programmes = dict(programmes)
        self._rows = {tls: stage_rows(programme) for tls, programme in programmes.items()}
        self.n_stages = sum(map(len, self._rows.values()))
        # One signal has nothing to be coordinated with.
        self.n_offsets = len(programmes) if len(programmes) > 1 else 0
        self.size = self.n_stages + self.n_offsets + 1

    def vector(self, plans: Mapping[str, Plan]) -> Floats:
        """Return the vector of plans that have the programmes' rows with other durations."""
        logs = [
            math.log(plans[tls].rows[row].duration_s / programme.phases[row].duration_s)
            for tls, programme in self.programmes.items()
            for row in self._rows[tls]
        ]
        return np.array([*logs, *([0.0] * (self.n_offsets + 1))])

    def plans(self, vector: Floats, *, name: str = "retimed") -> tuple[Plan, ...]:
        """Return the plans that a vector stands for."""
        found, at = [], 0
        for number, (tls, programme) in enumerate(self.programmes.items()):
            rows = self._rows[tls]
            scale = np.exp(np.clip(vector[at : at + len(rows)] + vector[-1], -2.5, 2.5))
            greens = [programme.phases[row].duration_s * factor for row, factor in zip(rows, scale, strict=True)]
            at += len(rows)
            shift = vector[self.n_stages + number] * _OFFSET_SHARE * programme.cycle_s if self.n_offsets else 0.0
            found.append(with_greens(programme, greens, name=name, offset_s=programme.offset_s + float(shift)))
        return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Found:
    """The best plans of a search, their mean delay on its seeds, and how many it tried."""

    plans: tuple[Plan, ...]
    delay_s: float
    tried: int
    # Best delay after each generation.
    history: tuple[float, ...]


def search(
    base: Job, space: Space, starts: Sequence[Floats], pool: Pool, *, seeds: Sequence[int], budget: int, patience: int
) -> Found:
    """Return the plans of least delay: the best start, moved by CMA-ES until the budget or patience is spent.

    Raises MissingExtraError where the optimiser is not installed and the budget allows a search.
    """
    tried: dict[tuple[float, ...], float] = {}

    def measure(vectors: Sequence[Floats]) -> list[float]:
        jobs = [_job(base, space.plans(vector), seed) for vector in vectors for seed in seeds]
        delays = [run.metrics["delay_s"] for run in pool.run(jobs, title="plans")]
        means = np.array(delays).reshape(len(vectors), len(seeds)).mean(axis=1).tolist()
        tried.update({tuple(vector.tolist()): delay for vector, delay in zip(vectors, means, strict=True)})
        return [float(delay) for delay in means]

    scores = measure(starts)
    centre = starts[int(np.argmin(scores))]
    history = [min(scores)]
    if budget > len(starts):
        module = require("cma", package="quatrain-smart-city[train]")
        options = {"verbose": -9, "seed": base.seed + 1, "popsize": max(6, 4 + int(3 * math.log(space.size)))}
        strategy = module.CMAEvolutionStrategy(centre, _STEP, options)
        stale = 0
        while len(tried) + options["popsize"] <= budget and stale < patience and not strategy.stop():
            vectors = [np.asarray(vector, dtype=np.float64) for vector in strategy.ask()]
            strategy.tell(vectors, measure(vectors))
            best = min(tried.values())
            stale = stale + 1 if best >= history[-1] else 0
            history.append(best)
    vector, delay = min(tried.items(), key=lambda item: item[1])
    return Found(plans=space.plans(np.array(vector)), delay_s=delay, tried=len(tried), history=tuple(history))


def _job(base: Job, plans: tuple[Plan, ...], seed: int) -> Job:
    return replace(base, controller="plan", plans=plans, seed=seed)
