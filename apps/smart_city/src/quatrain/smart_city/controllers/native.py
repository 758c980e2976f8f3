"""Controllers that SUMO runs itself: the city's own rows, actuated by gaps or by delay."""

from __future__ import annotations

from quatrain.smart_city.data.network import Network, Phase, Programme
from quatrain.smart_city.retime.plan import Plan
from quatrain.smart_city.signals.model import MIN_GREEN_S

# netconvert's own longest green of an actuated phase.
_MAX_GREEN_S = 50.0
# Rows shorter than this without yellow are clearances.
_SHORTEST_STAGE_S = 5.0


def native_plans(network: Network, kind: str) -> tuple[Plan, ...]:
    """Return the city's programmes as SUMO's `kind` of control: "actuated" or "delay_based".

    Green rows may last from the programme's minDur (5 s where it has none) to its maxDur (50 s, or
    the row's own duration); all other rows keep their durations. A signal that already runs an
    actuated programme keeps it.
    """
    plans = []
    for tls, programmes in sorted(network.programmes.items()):
        incumbent = programmes[-1]
        if incumbent.kind not in {"static", "actuated", "delay_based"} or not incumbent.phases:
            continue
        if incumbent.kind != "static" and kind == "actuated":
            continue
        rows = tuple(_row(incumbent, position) for position in range(len(incumbent.phases)))
        plans.append(Plan(tls=tls, name=f"quatrain-{kind}", rows=rows, offset_s=incumbent.offset_s, kind=kind))
    return tuple(plans)


def _row(programme: Programme, position: int) -> Phase:
    row = programme.phases[position]
    greens = {link for link, char in enumerate(row.state) if char in "Gg"}
    before = programme.phases[position - 1].state
    is_clearance = greens < {link for link, char in enumerate(before) if char in "Gg"} and "y" not in before
    if not greens or "y" in row.state or "u" in row.state or is_clearance or row.duration_s < _SHORTEST_STAGE_S:
        return Phase(state=row.state, duration_s=row.duration_s)
    least = row.min_s if row.min_s is not None else min(MIN_GREEN_S, row.duration_s)
    most = row.max_s if row.max_s is not None else max(_MAX_GREEN_S, row.duration_s)
    return Phase(state=row.state, duration_s=min(max(row.duration_s, least), most), min_s=least, max_s=most)
