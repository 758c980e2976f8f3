"""The charts of the model report."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from quatrain.core.dashboard.charts import MUTED, axis

_MIDDLE = 0.5
_HEIGHT = 250
_FAR = 0.7
# A symmetric logarithmic scale finds no ticks of its own between 0 and the largest count.
_COUNTS = alt.Axis(
    title="Transactions", format=",.0f", values=[0, 10, 100, 1e3, 1e4, 1e5, 1e6], domain=False, ticks=False
)
_LEGEND = alt.Legend(title=None, orient="top")
# Told apart in both themes, and by colour-blind readers.
_KINDS = alt.Scale(domain=["Legitimate", "Fraud"], range=["#8b93a7", "#e0525a"])
_MODELS = alt.Scale(domain=[True, False], range=["#6470e8", "#8b93a7"])


def intervals(frame: pd.DataFrame, *, title: str) -> Any:
    """Return a point with its interval for each model; columns name, value, low, high, is_champion."""
    base = alt.Chart(frame).encode(
        y=alt.Y("name:N", sort=None, axis=alt.Axis(title=None, domain=False, ticks=False, labelLimit=200)),
        color=alt.Color("is_champion:N", legend=None, scale=_MODELS),
        tooltip=["name", alt.Tooltip("value:Q", format=".3f"), alt.Tooltip("low:Q", format=".3f"), "high:Q"],
    )
    scale = alt.Scale(zero=False, padding=12, nice=True)
    rules = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", axis=axis(title), scale=scale), x2="high:Q")
    points = base.mark_point(filled=True, size=90, opacity=1).encode(x=alt.X("value:Q", scale=scale))
    return (rules + points).properties(height=max(44 * len(frame), 110))


def precision_recall(frame: pd.DataFrame, *, threshold: float | None) -> Any:
    """Return precision over recall, with the point of the sealed threshold; columns threshold, precision, recall."""
    x = alt.X("recall:Q", axis=axis("Share of frauds caught", number_format=".0%"), scale=alt.Scale(domain=[0, 1]))
    y = alt.Y(
        "precision:Q", axis=axis("Share of alerts that are fraud", number_format=".0%"), scale=alt.Scale(domain=[0, 1])
    )
    tooltip = [alt.Tooltip(f"{name}:Q", format=".3f") for name in ("precision", "recall", "threshold")]
    line = alt.Chart(frame).mark_line(strokeWidth=2, interpolate="step-after").encode(x=x, y=y, tooltip=tooltip)
    if threshold is None:
        return line.properties(height=_HEIGHT)
    nearest = frame.loc[[(frame["threshold"] - threshold).abs().idxmin()]].assign(label="sealed threshold")
    here = alt.Chart(nearest).encode(x=x, y=y, tooltip=tooltip)
    point = here.mark_point(filled=True, size=110, opacity=1)
    # Near the right edge a label to the right would push the curve aside.
    is_far = bool(nearest["recall"].item() > _FAR)
    text = here.mark_text(
        align="right" if is_far else "left", dx=-9 if is_far else 9, dy=14 if is_far else -9, fontSize=12, color=MUTED
    ).encode(text="label:N")
    return (line + point + text).properties(height=_HEIGHT)


def calibration(frame: pd.DataFrame) -> Any:
    """Return the observed fraud share over the predicted one, against the diagonal; columns n, score, rate."""
    scale = alt.Scale(domain=[0, 1])
    diagonal = pd.DataFrame({"score": [0.0, 1.0], "rate": [0.0, 1.0]})
    x = alt.X("score:Q", axis=axis("Chance of fraud", number_format=".0%"), scale=scale)
    y = alt.Y("rate:Q", axis=axis("Share that was fraud", number_format=".0%"), scale=scale)
    guide = alt.Chart(diagonal).mark_line(strokeDash=[4, 4], strokeWidth=1.2, opacity=0.5, color=MUTED).encode(x=x, y=y)
    base = alt.Chart(frame).encode(
        x=x,
        y=y,
        tooltip=[
            alt.Tooltip("score:Q", title="mean chance", format=".1%"),
            alt.Tooltip("rate:Q", title="fraud share", format=".1%"),
            alt.Tooltip("n:Q", title="transactions", format=","),
        ],
    )
    return (guide + base.mark_line(strokeWidth=1.6) + base.mark_point(filled=True, size=60, opacity=1)).properties(
        height=_HEIGHT
    )


def score_histogram(frame: pd.DataFrame, *, threshold: float | None) -> Any:
    """Return counts per score on a log scale, with the alert threshold; columns low, high, kind, n."""
    bars = (
        alt.Chart(frame[frame["n"] > 0])
        .mark_bar(opacity=0.85)
        .encode(
            x=alt.X("low:Q", axis=axis("Score"), scale=alt.Scale(domain=[0, 1])),
            x2="high:Q",
            y=alt.Y("n:Q", axis=_COUNTS, scale=alt.Scale(type="symlog"), stack=None),
            y2=alt.datum(0),
            color=alt.Color("kind:N", legend=_LEGEND, scale=_KINDS),
            tooltip=[
                "kind",
                alt.Tooltip("low:Q", format=".2f"),
                alt.Tooltip("high:Q", format=".2f"),
                alt.Tooltip("n:Q", format=","),
            ],
        )
    )
    if threshold is None:
        return bars.properties(height=_HEIGHT)
    line = pd.DataFrame({"threshold": [threshold], "label": ["alerts from here"]})
    rule = alt.Chart(line).mark_rule(strokeDash=[4, 3], strokeWidth=1.5, color=MUTED).encode(x="threshold:Q")
    is_high = threshold > _MIDDLE
    text = (
        alt.Chart(line)
        # On the side where there is room.
        .mark_text(align="right" if is_high else "left", dx=-10 if is_high else 10, fontSize=12, color=MUTED)
        .encode(x="threshold:Q", y=alt.value(8), text="label:N")
    )
    return (bars + rule + text).properties(height=_HEIGHT)


def budget(frame: pd.DataFrame, *, chosen: float) -> Any:
    """Return frauds caught and alerts that are right over the alert budget; columns alerts, measure, value."""
    lines = (
        alt.Chart(frame)
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("alerts:Q", axis=axis("Alerts per 1,000 transactions", grid=False), scale=alt.Scale(type="log")),
            y=alt.Y("value:Q", axis=axis("", number_format=".0%"), scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("measure:N", legend=_LEGEND, sort=None),
            tooltip=["measure", alt.Tooltip("alerts:Q", format=".2f"), alt.Tooltip("value:Q", format=".1%")],
        )
    )
    rule = (
        alt.Chart(pd.DataFrame({"alerts": [chosen]}))
        .mark_rule(strokeDash=[4, 3], strokeWidth=1.5, color=MUTED)
        .encode(x="alerts:Q")
    )
    return (lines + rule).properties(height=_HEIGHT)
