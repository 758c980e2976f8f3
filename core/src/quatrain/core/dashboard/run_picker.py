"""The control that chooses a training run; the choice is in the page's address."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from quatrain.core.dashboard import formats
from quatrain.core.tracking import RunRecord

# The widget's key, and so the name in the address.
KEY = "run"


def pick(runs: Sequence[RunRecord], *, label: str = "Run") -> RunRecord:
    """Return the chosen run, the newest unless the address names another."""
    by_id = {run.id: run for run in runs}
    chosen = st.selectbox(
        label,
        list(by_id),
        format_func=lambda run_id: title(by_id[run_id]),
        key=KEY,
        bind="query-params",
        label_visibility="collapsed",
    )
    return by_id[chosen]


def choose(run: RunRecord) -> None:
    """Make this the chosen run; for callbacks."""
    st.session_state[KEY] = run.id


def title(run: RunRecord) -> str:
    """Return how a run is named in a list: "fintech train, 3 Nov 2026, 14:02 UTC (2f8a1c)"."""
    return f"{run.app} {run.command}, {formats.moment(run.started)} ({run.id.rpartition('-')[2]})"
