"""Training runs: how each one went, step by step, and what it was told."""

from __future__ import annotations

import json

import pandas as pd
import streamlit as st

from quatrain.core import tracking
from quatrain.core.dashboard import activity, formats, grid, panels, run_picker
from quatrain.core.dashboard.card import Fact
from quatrain.core.tracking import RunRecord

_LISTED = 200
_MAX_COMPARED = 4


def training_runs() -> None:
    """Draw the runs as a table, and the chosen ones' histories over each other."""
    panels.header("Training runs", "How each training went: its measures step by step, its settings, its result.")
    runs = tracking.list_runs()[:_LISTED]
    if not runs:
        panels.empty_state(
            "No training run yet",
            "Train a model; its history appears here while it runs.",
            command="quatrain fintech train --data ulb-creditcard",
        )
        return
    run = run_picker.pick(runs)
    _draw_numbers(run)
    _draw_history(run, others=[other for other in runs if other.id != run.id])
    with st.grid(2, min_column_width=380, gap="medium"):
        with st.container(border=True, gap="small", height="stretch"):
            panels.section("Settings", "As resolved from file, environment and flags.")
            panels.facts(
                {formats.label(key): _value(value) for key, value in run.config.items()} or {"Settings": formats.NONE}
            )
        with st.container(border=True, gap="small", height="stretch"):
            panels.section("All runs")
            _draw_table(runs)


def _draw_numbers(run: RunRecord) -> None:
    numbers = {name: value for name, value in run.metrics.items() if isinstance(value, int | float)}
    measures = [
        Fact(label=formats.label(name), value=formats.measure(value)) for name, value in list(numbers.items())[:3]
    ]
    status = Fact(label="Status", value=activity.STATUS_LABELS[run.status], note=formats.ago(run.started))
    took = Fact(label="Took", value=formats.duration(activity.run_seconds(run)), note=_sealed(run))
    panels.strip([status, took, *measures])
    if run.error:
        st.error(formats.plain(activity.reason(run.error)), title="This run did not finish")


def _sealed(run: RunRecord) -> str:
    return f"sealed {formats.digest(run.bundle)}" if run.bundle else "no bundle sealed"


def _draw_history(run: RunRecord, *, others: list[RunRecord]) -> None:
    from quatrain.core.dashboard import charts  # Altair: most of a second that other pages need not pay

    rows = tracking.read_history(run.id)
    with st.container(border=True, gap="small"):
        panels.section("History")
        if not rows:
            st.html('<p class="q-sub">This run logged no steps: its model is fitted in one go, or it ended early.</p>')
            return
        compared = st.multiselect(
            "Compare with",
            [other.id for other in others],
            max_selections=_MAX_COMPARED - 1,
            key="compare",
            bind="query-params",
            placeholder="Compare with other runs",
            label_visibility="collapsed",
        )
        histories = {run.id: rows} | {other: tracking.read_history(other) for other in compared}
        every_row = [row for history in histories.values() for row in history]
        drawn = charts.history_panels(every_row)
        with st.grid(min(len(drawn), 2), min_column_width=360, gap="medium"):
            for title, names in drawn.items():
                with st.container(gap="xsmall"):
                    st.html(f'<p class="q-chart-title">{formats.html(title)}</p>')
                    st.altair_chart(charts.history(charts.history_frame(histories, names)), alt=f"{title} over steps")


def _draw_table(runs: list[RunRecord]) -> None:
    table = pd.DataFrame(
        {
            "Started": [run.started for run in runs],
            "What": [f"{run.app} {run.command}" for run in runs],
            "Status": [[activity.STATUS_LABELS[run.status]] for run in runs],
            "Took": [formats.duration(activity.run_seconds(run)) for run in runs],
        }
    )
    columns = {
        "Started": st.column_config.DatetimeColumn("Started (UTC)", format="D MMM YYYY, HH:mm", timezone="UTC"),
        "Status": activity.status_column(),
    }
    row = next(row for row, run in enumerate(runs) if run.id == st.session_state[run_picker.KEY])
    grid.pick(
        table,
        key="training_table",
        row=row,
        on_pick=lambda row: run_picker.choose(runs[row]),
        rows=12,
        columns=columns,
        alt="Training runs, newest first",
    )


def _value(value: object) -> str:
    if value is None:
        return formats.NONE
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)
