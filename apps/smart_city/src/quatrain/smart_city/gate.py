"""The promise: what ships is never worse than the city's own plan, shown in shadow simulation before it ships."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from quatrain.smart_city.metrics import mean, paired_difference
from quatrain.smart_city.simulation.pool import Pool
from quatrain.smart_city.simulation.result import Job, Result

INCUMBENT = "fixed"
# From the most ambitious to the safest; the last needs no proof.
LADDER = ("rolling", "rolling-alone", "demand", "actuated", INCUMBENT)
# Both sides together: the upper bound alone is passed by chance once in twenty times.
_CONFIDENCE = 0.90
# Walkers may wait longer than under the city's plan by this share, or these seconds, at the most.
_WALKER_SHARE = 0.2
_WALKER_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One candidate beside the incumbent over the same seeds."""

    controller: str
    delay_s: float
    incumbent_delay_s: float
    # Candidate minus incumbent, with the 90 % paired interval.
    difference_s: float
    interval_s: tuple[float, float]
    passes: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What ships, and the evidence."""

    controller: str
    seeds: tuple[int, ...]
    verdicts: tuple[Verdict, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "choice": self.controller,
            "gate_seeds": list(self.seeds),
            "gate": [vars(verdict) for verdict in self.verdicts],
        }


def gate_seeds(seeds: Sequence[int], n: int) -> tuple[int, ...]:
    """Return `n` seeds that none of `seeds` is, so that the choice is not made on what it is measured on."""
    taken, seed = set(seeds), 1001
    found: list[int] = []
    while len(found) < n:
        if seed not in taken:
            found.append(seed)
        seed += 1
    return tuple(found)


def choose(
    job: Job, pool: Pool, *, seeds: Sequence[int], scales: Sequence[float] = (1.0,), n_signals: int = 2
) -> Choice:
    """Return the rung of the ladder that ships: of those not worse than the incumbent, the one of least delay.

    `job` says scenario, intergreens and settings; its controller and seed are replaced. A rung is
    "not worse" where the upper end of its paired interval over seeds and demand levels is at most
    zero, and walkers do not wait clearly longer. A lone signal has no neighbours to tell.
    """
    ladder = [name for name in LADDER if n_signals > 1 or name != "rolling-alone"]
    cells = [(seed, scale) for scale in scales for seed in seeds]
    jobs = [
        replace(job, controller=name, seed=seed, scale=job.scale * scale) for name in ladder for seed, scale in cells
    ]
    results = pool.run(jobs)
    runs = {name: results[i * len(cells) : (i + 1) * len(cells)] for i, name in enumerate(ladder)}
    verdicts = tuple(judge(name, runs[name], runs[INCUMBENT]) for name in ladder if name != INCUMBENT)
    passing = [verdict for verdict in verdicts if verdict.passes]
    best = min(passing, key=lambda verdict: verdict.delay_s, default=None)
    return Choice(controller=INCUMBENT if best is None else best.controller, seeds=tuple(seeds), verdicts=verdicts)


def judge(name: str, candidate: Sequence[Result], incumbent: Sequence[Result]) -> Verdict:
    """Return whether the candidate's runs bound it as not worse than the incumbent's of the same seeds."""
    ours, theirs = ([run.metrics["delay_s"] for run in runs] for runs in (candidate, incumbent))
    difference, interval = paired_difference(ours, theirs, confidence=_CONFIDENCE)
    walkers = _walkers(candidate, incumbent)
    passes = interval[1] <= 0 and walkers is None
    reason = walkers or ("not worse" if passes else f"may cost up to {interval[1]:.1f} s more than the city's plan")
    return Verdict(
        controller=name,
        delay_s=sum(ours) / len(ours),
        incumbent_delay_s=sum(theirs) / len(theirs),
        difference_s=difference,
        interval_s=interval,
        passes=passes,
        reason=reason,
    )


def _walkers(candidate: Sequence[Result], incumbent: Sequence[Result]) -> str | None:
    ours, theirs = (mean([run.metrics for run in runs]).get("ped_wait_s") for runs in (candidate, incumbent))
    if ours is None or theirs is None or ours <= max(theirs * (1 + _WALKER_SHARE), theirs + _WALKER_S):
        return None
    return f"walkers would wait {ours:.0f} s in place of {theirs:.0f} s"
