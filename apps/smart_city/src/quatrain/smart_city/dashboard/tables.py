"""Tables and charts of kept results; no page logic."""

from __future__ import annotations

from typing import Any

import pandas as pd

from quatrain.smart_city.retime.plan import Plan
from quatrain.smart_city.signals.model import GREENS

MEASURES = {
    "delay_s": "Delay (s)",
    "trip_s": "Trip (s)",
    "wait_s": "Waiting (s)",
    "stops": "Stops",
    "queue": "Queue",
    "throughput_vph": "Arrivals per hour",
    "undeparted": "Never got in",
    "ped_wait_s": "Walkers' loss (s)",
    "co2_kg": "CO2 (kg)",
}
_CYCLES_SHOWN = 3


def comparison_frame(document: dict[str, Any]) -> pd.DataFrame:
    """Return one row per controller: its name, measures, and the interval of its delay."""
    rows = []
    for row in document["rows"]:
        low, high = row["intervals"].get("delay_s", (None, None))
        measures = {title: row["metrics"][name] for name, title in MEASURES.items() if name in row["metrics"]}
        rows.append({"Controller": title_of(row), **measures, "low": low, "high": high})
    return pd.DataFrame(rows)


def title_of(row: dict[str, Any]) -> str:
    """Return what a row is called: the shipped choice with what it is."""
    return f"{row['name']} ({row['choice']})" if "choice" in row else str(row["name"])


def delay_chart(frame: pd.DataFrame) -> Any:
    """Return bars of delay by controller, each with its interval over seeds."""
    import altair as alt  # most of a second that other pages need not pay

    from quatrain.core.dashboard import charts

    base = alt.Chart(frame).encode(
        y=alt.Y("Controller:N", sort=None, axis=alt.Axis(title=None, domain=False, ticks=False, labelLimit=260))
    )
    bars = base.mark_bar(height=16, cornerRadiusEnd=3).encode(
        x=alt.X("Delay (s):Q", axis=charts.axis("Delay per vehicle (s)", number_format="~f")),
        tooltip=["Controller", alt.Tooltip("Delay (s):Q", format=".1f")],
    )
    rules = base.mark_rule(strokeWidth=1.5, color=charts.MUTED).encode(x="low:Q", x2="high:Q")
    return (bars + rules).properties(height=40 * len(frame) + 30)


def plan_frame(plan: dict[str, Any]) -> pd.DataFrame:
    """Return one line per row of a plan: what is green, and for how long."""
    return pd.DataFrame(
        [
            {
                "Shows": "change" if "y" in row["state"] or not set(row["state"]) & GREENS else "green",
                "Green links": " ".join(str(i) for i, char in enumerate(row["state"]) if char in GREENS),
                "State": row["state"],
                "Seconds": float(row["seconds"]),
            }
            for row in plan["rows"]
        ]
    )


def time_space_frame(plans: list[Plan], places_m: dict[str, float]) -> pd.DataFrame:
    """Return the greens of each signal's first row over three cycles: signal, place, start and end in seconds."""
    rows = []
    for plan in plans:
        for cycle in range(_CYCLES_SHOWN):
            start = cycle * plan.cycle_s + plan.offset_s % plan.cycle_s
            rows.append(
                {
                    "Signal": plan.tls,
                    "Place (m)": places_m[plan.tls],
                    "Start (s)": start,
                    "End (s)": start + plan.rows[0].duration_s,
                }
            )
    return pd.DataFrame(rows)


def time_space_chart(frame: pd.DataFrame) -> Any:
    """Return greens as bars over time, at the place of each signal along the road."""
    import altair as alt

    from quatrain.core.dashboard import charts

    encoded = alt.Chart(frame).encode(
        x=alt.X("Start (s):Q", axis=charts.axis("Time (s)", number_format="~f", grid=False)),
        x2="End (s):Q",
        y=alt.Y(
            "Place (m):Q", axis=charts.axis("Place (m)", number_format="~f"), scale=alt.Scale(zero=False, padding=12)
        ),
        tooltip=["Signal", alt.Tooltip("Start (s):Q", format=".0f"), alt.Tooltip("End (s):Q", format=".0f")],
    )
    return encoded.mark_rule(strokeWidth=7).properties(height=260)
