"""The control that chooses a training run; the choice is in the page's address."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from quatrain.core.tracking import RunRecord

# The widget's key, and so the name in the address.
KEY = "run"


def pick(runs: Sequence[RunRecord]) -> RunRecord:
    """Return the chosen run, the newest unless the address names another."""
    by_id = {run.id: run for run in runs}
    chosen = st.selectbox("Run", list(by_id), key=KEY, bind="query-params", label_visibility="collapsed")
    return by_id[chosen]


def choose(run: RunRecord) -> None:
    """Make this the chosen run; for callbacks."""
    st.session_state[KEY] = run.id
