"""Charts in the house style, drawn with Altair; streamlit's theme gives them font and colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from quatrain.core import tracking
from quatrain.core.dashboard import formats

# Text and guides inside a chart: readable on both themes, of which Vega knows nothing.
MUTED = "#7b849a"
_HEIGHT = 240


def axis(title: str, *, number_format: str = "~g", grid: bool = True) -> alt.Axis:
    """Return a quiet axis: few ticks, no line."""
    return alt.Axis(title=title, format=number_format, grid=grid, tickCount=5, domain=False, ticks=False)


def history_panels(rows: Sequence[Mapping[str, float]]) -> dict[str, list[str]]:
    """Return what to draw together, by the panel's title."""
    return {formats.label(title): names for title, names in tracking.panels_of(rows).items()}


def series_label(name: str) -> str:
    """Return what a line is called: "valid_loss" -> "Valid loss", "valid_ap/lightgbm" -> "lightgbm"."""
    _, slash, line = name.partition("/")
    return line if slash else formats.label(name)


def history_frame(histories: Mapping[str, Sequence[Mapping[str, float]]], names: Sequence[str]) -> pd.DataFrame:
    """Return one row per run, step and measure: columns run, step, measure, value."""
    records = [
        {"run": run, "step": row["step"], "measure": series_label(name), "value": row[name]}
        for run, rows in histories.items()
        for row in rows
        for name in names
        if name in row
    ]
    return pd.DataFrame(records, columns=["run", "step", "measure", "value"])


def history(frame: pd.DataFrame) -> Any:
    """Return line charts over steps: a colour per run, or per measure when there is one run."""
    several_runs = frame["run"].nunique() > 1
    colour = alt.Color(
        "run:N" if several_runs else "measure:N", legend=alt.Legend(title=None, orient="top", labelLimit=260)
    )
    # A line needs two points; a lone one would be invisible.
    lines = alt.Chart(frame).mark_line(strokeWidth=1.8, point=bool(frame["step"].nunique() == 1))
    encoded = lines.encode(
        x=alt.X("step:Q", axis=axis("Step", number_format=",.0f", grid=False)),
        y=alt.Y("value:Q", axis=axis(""), scale=alt.Scale(zero=False)),
        color=colour,
        tooltip=["run", "measure", alt.Tooltip("step:Q", format=","), alt.Tooltip("value:Q", format=".4g")],
    )
    if several_runs and frame["measure"].nunique() > 1:
        encoded = encoded.encode(strokeDash=alt.StrokeDash("measure:N", legend=alt.Legend(title=None, orient="top")))
    return encoded.properties(height=_HEIGHT)


def bars(frame: pd.DataFrame, *, label: str, value: str, height_per_bar: int = 30) -> Any:
    """Return horizontal bars in the frame's order, with the number at the end of each."""
    base = alt.Chart(frame).encode(
        y=alt.Y(f"{label}:N", sort=None, axis=alt.Axis(title=None, domain=False, ticks=False, labelLimit=320)),
        x=alt.X(f"{value}:Q", axis=None),
    )
    return (
        base.mark_bar(height=14, cornerRadiusEnd=3)
        + base.mark_text(align="left", dx=6, fontSize=12, color=MUTED).encode(text=alt.Text(f"{value}:Q", format=","))
    ).properties(height=height_per_bar * len(frame) + 8)
