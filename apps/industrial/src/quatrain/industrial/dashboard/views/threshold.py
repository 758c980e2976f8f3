"""The threshold: what it fails, what it lets through, and what it can promise."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from quatrain.core.dashboard import panels
from quatrain.core.dashboard.card import Fact
from quatrain.core.dashboard.faults import guarded
from quatrain.industrial.dashboard import sources
from quatrain.industrial.dashboard.tuner import curve, tuning
from quatrain.industrial.decision import Rule
from quatrain.industrial.evaluate.kept import last_of


def threshold() -> None:
    """Draw the page."""
    guarded(_draw)


def _draw() -> None:
    version = sources.production_version()
    if version is None:
        panels.header("Threshold", "What it fails, what it lets through, and what it can promise.")
        panels.empty_state(
            "No model yet",
            "Four good parts are enough to begin; 49 can promise 2 % overkill.",
            command="quatrain industrial train --data parts/good",
        )
        return
    bundle = sources.sealed_model(version)
    rule = Rule.of(bundle.manifest)
    good = [float(score) for score in bundle.manifest.decision["good_scores"]]
    evaluated = last_of(bundle.digest)
    badges = [panels.SYNTHETIC] if bundle.manifest.decision.get("is_synthetic") else []
    panels.header("Threshold", f"{version.reference}. {rule.promise.text()}", badges=badges)
    frame = curve(good, evaluated)
    low, high = float(frame["threshold"].min()), float(frame["threshold"].max())
    sealed = rule.review_above if rule.fail_above is None else rule.fail_above
    at = st.slider("Fail above", low, max(high, sealed), sealed, (high - low) / 200, format="%.2f", key="threshold")
    found = tuning(at, good=good, evaluated=evaluated)
    facts = [Fact(label="Overkill", value=f"{found.overkill.value:.1%}", note=found.overkill.text())]
    if found.escape is not None:
        facts.append(Fact(label="Escapes", value=f"{found.escape.value:.1%}", note=found.escape.text()))
    panels.strip(facts)
    _draw_curve(frame, at)
    if found.escape is None:
        st.info("Escapes are shown once the model was measured: `quatrain industrial evaluate --data FOLDER`.")
    st.caption("The sealed rule stays as it is: a threshold tried on known bad parts promises nothing of new ones.")


def _draw_curve(frame: pd.DataFrame, at: float) -> None:
    import altair as alt  # most of a second that other pages need not pay

    from quatrain.core.dashboard.charts import axis

    lines = (
        alt.Chart(frame)
        .mark_line(strokeWidth=1.8)
        .encode(
            x=alt.X("threshold:Q", axis=axis("Fail above")),
            y=alt.Y("share:Q", axis=axis("Share of parts", number_format=".0%")),
            color=alt.Color("measure:N", legend=alt.Legend(title=None, orient="top")),
        )
    )
    mark = alt.Chart(frame.head(1).assign(threshold=at)).mark_rule(strokeDash=[4, 3]).encode(x="threshold:Q")
    st.altair_chart((lines + mark).properties(height=280), width="stretch")
