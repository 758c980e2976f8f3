"""Webster's cycle, splits and delay (Webster 1958, Road Research Technical Paper 39)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quatrain.smart_city.data.network import Phase, Programme
from quatrain.smart_city.retime.plan import Plan
from quatrain.smart_city.signals.intergreen import is_stage
from quatrain.smart_city.signals.model import GREENS, MIN_GREEN_S, SignalModel

# Vehicles per hour of green over one lane (Highway Capacity Manual 2010, chapter 18: base saturation flow 1,900).
SATURATION_VPH = 1800.0
# Cycles outside this are not shown to drivers and walkers.
_SHORTEST_S, _LONGEST_S = 30.0, 150.0
# Above this total flow ratio the formula has no meaning: the longest cycle then serves best.
_SATURATED = 0.95


@dataclass(frozen=True, kw_only=True)
class Timing:
    """A cycle and each stage's effective green, in seconds."""

    cycle_s: float
    greens_s: tuple[float, ...]


def webster(ratios: Sequence[float], lost_s: float) -> Timing:
    """Return Webster's optimum cycle (1.5 L + 5) / (1 - Y), held within 30 and 150 s, and its greens.

    `ratios` are each stage's critical flow over saturation flow, `lost_s` the time lost per cycle.
    Raises ValueError for negative ratios or lost time.
    """
    if min(ratios, default=0.0) < 0 or lost_s < 0:
        raise ValueError(f"flow ratios and lost time must not be negative, got {list(ratios)} and {lost_s}")
    total = sum(ratios)
    cycle = _LONGEST_S if total >= _SATURATED else (1.5 * lost_s + 5) / (1 - total)
    cycle = max(min(cycle, _LONGEST_S), _SHORTEST_S, lost_s + len(ratios))
    green = cycle - lost_s
    shares = [ratio / total for ratio in ratios] if total > 0 else [1 / len(ratios)] * len(ratios)
    return Timing(cycle_s=cycle, greens_s=tuple(green * share for share in shares))


def webster_delay_s(*, cycle_s: float, green_s: float, flow_vph: float, saturation_vph: float) -> float:
    """Return the mean delay of one stream by the two main terms of Webster's formula; infinite when saturated."""
    share, flow = green_s / cycle_s, flow_vph / 3600
    load = flow_vph / (share * saturation_vph)
    if load >= 1:
        return float("inf")
    uniform = cycle_s * (1 - share) ** 2 / (2 * (1 - share * load))
    return uniform + (load**2 / (2 * flow * (1 - load)) if flow else 0.0)


def stage_ratios(model: SignalModel, programme: Programme, flows_vph: Sequence[float]) -> list[float]:
    """Return the critical flow ratio of each stage row of a programme, from vehicles per hour by link.

    The flow of an approach lane is shared among its links' stages: a movement that is green in two
    stages counts in the one that shows it first.
    """
    ratios = []
    counted: set[int] = set()
    for row in stage_rows(programme):
        green = {link for link, char in enumerate(programme.phases[row].state) if char in GREENS} - counted
        by_lane: dict[str, float] = {}
        for link in sorted(green):
            lanes = sorted({c.from_lane for c in model.connections[link] if not c.is_crossing})
            for lane in lanes:
                by_lane[lane] = by_lane.get(lane, 0.0) + flows_vph[link] / len(lanes)
        # A yielding movement that also has a stage of its own is served there.
        counted |= {link for link in green if programme.phases[row].state[link] == "G"}
        ratios.append(max(by_lane.values(), default=0.0) / SATURATION_VPH)
    return ratios


def stage_rows(programme: Programme) -> list[int]:
    """Return the rows of a programme that are stages."""
    return [row for row in range(len(programme.phases)) if is_stage(programme.phases, row)]


def with_greens(programme: Programme, greens_s: Sequence[float], *, name: str, offset_s: float = 0.0) -> Plan:
    """Return the programme with other greens in its stage rows, in whole seconds, and its own rows between them.

    Greens below the row's minDur, or 5 s, are lifted to it.
    """
    rows = list(programme.phases)
    for row, green in zip(stage_rows(programme), greens_s, strict=True):
        old = rows[row]
        least = old.min_s if old.min_s is not None else min(MIN_GREEN_S, old.duration_s)
        seconds = float(max(np.ceil(least), round(green)))
        rows[row] = Phase(state=old.state, duration_s=seconds, min_s=old.min_s, max_s=old.max_s)
    return Plan(tls=programme.tls, name=name, rows=tuple(rows), offset_s=float(round(offset_s)))


def webster_plan(model: SignalModel, programme: Programme, flows_vph: Sequence[float]) -> Plan:
    """Return the programme re-timed by Webster's method for flows in vehicles per hour by link."""
    rows = stage_rows(programme)
    lost = programme.cycle_s - sum(programme.phases[row].duration_s for row in rows)
    timing = webster(stage_ratios(model, programme, flows_vph), lost)
    return with_greens(programme, timing.greens_s, name="webster", offset_s=programme.offset_s)
