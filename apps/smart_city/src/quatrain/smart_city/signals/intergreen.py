"""What the city's own programmes keep to: each link's yellow and shortest green, each pair's intergreen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quatrain.smart_city.data.network import Phase, Programme

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
_DEFAULT_MIN_GREEN_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Observed:
    """Times in seconds; infinite where the programmes never show one."""

    # The shortest yellow before red, by link.
    yellow: Floats
    # From the end of a green to the start of a conflicting one in the next stage, the shortest, by pair.
    gap: Floats
    # The shortest green that the programme itself gives or allows, never above five seconds unless it says so.
    min_green: Floats


def observe(programmes: Sequence[Programme], conflicts: Bools) -> Observed:
    """Return the shortest times that the programmes show, between links that `conflicts` pairs."""
    n = conflicts.shape[0]
    yellow, gap, least = np.full(n, np.inf), np.full((n, n), np.inf), np.full(n, np.inf)
    for programme in programmes:
        _observe_yellow(programme.phases, yellow)
        _observe_gaps(programme.phases, conflicts, gap)
        _observe_greens(programme.phases, least)
    return Observed(yellow=yellow, gap=gap, min_green=least)


def is_stage(phases: Sequence[Phase], position: int) -> bool:
    """Return whether a programme's row is a stage, and no part of a change between two.

    Rows with yellow are not; nor is a row that only takes greens away from the row before it, as
    when a crossing is cleared before its cars stop; nor are some seconds in which nothing is green
    that was not green before or is not green after.
    """
    row, before = phases[position], phases[position - 1]
    green = _greens(row.state)
    if not green or "y" in row.state or "u" in row.state:
        return False
    if green < _greens(before.state) and "y" not in before.state:
        return False
    after = _greens(phases[(position + 1) % len(phases)].state)
    return row.duration_s >= _DEFAULT_MIN_GREEN_S or not green < _greens(before.state) | after


def _observe_yellow(phases: Sequence[Phase], yellow: Floats) -> None:
    for position, phase in enumerate(phases):
        before = phases[position - 1].state
        for link, char in enumerate(phase.state):
            if char == "y" and before[link] in "Gg":
                lasting, at = 0.0, position
                while phases[at % len(phases)].state[link] == "y" and at < position + len(phases):
                    lasting += phases[at % len(phases)].duration_s
                    at += 1
                yellow[link] = min(yellow[link], lasting)


def _observe_gaps(phases: Sequence[Phase], conflicts: Bools, gap: Floats) -> None:
    """Measure from where a link's green ends to where the next stage starts, over the rows between."""
    n = len(phases)
    for end in range(n):
        ended = _greens(phases[end].state) - _greens(phases[(end + 1) % n].state)
        for i in ended:
            lasting = 0.0
            for step in range(1, n + 1):
                row = phases[(end + step) % n]
                started = _greens(row.state) - _greens(phases[(end + step - 1) % n].state)
                for j in started:
                    if conflicts[i, j]:
                        gap[i, j] = min(gap[i, j], lasting)
                # What starts after the next stage was not waiting for this end.
                if started or is_stage(phases, (end + step) % n):
                    break
                lasting += row.duration_s


def _observe_greens(phases: Sequence[Phase], least: Floats) -> None:
    n = len(phases)
    for start in range(n):
        begun = _greens(phases[start].state) - _greens(phases[start - 1].state)
        for link in begun:
            lasting, allowed, at = 0.0, 0.0, start
            while link in _greens(phases[at % n].state) and at < start + n:
                row = phases[at % n]
                lasting += row.duration_s
                allowed += row.min_s if row.min_s is not None else 0.0
                at += 1
            shortest = min(lasting, max(allowed, _DEFAULT_MIN_GREEN_S))
            least[link] = min(least[link], shortest)


def _greens(state: str) -> set[int]:
    return {link for link, char in enumerate(state) if char in "Gg"}
