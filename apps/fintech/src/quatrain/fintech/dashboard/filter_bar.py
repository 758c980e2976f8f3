"""The controls above the alert table; every one of them is in the page's address."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import cast

import pandas as pd
import streamlit as st

from quatrain.core.dashboard import formats, panels
from quatrain.fintech.dashboard.alert_table import Filters, Order

STATUSES: Mapping[str, str | None] = {
    "Open": "open",
    "Fraud": "fraud",
    "Dismissed": "dismissed",
    "All": None,
}
ORDERS: Mapping[str, Order] = {"Highest score": "score", "Highest amount": "amount", "Newest": "newest"}
# Widget keys, and so the names in the address.
_MORE = ("min_score", "min_amount", "max_amount", "days", "files")
_BOTH_ENDS = 2


def draw(frame: pd.DataFrame) -> tuple[Filters, Order]:
    """Draw the controls and return what they ask for."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        status = st.segmented_control(
            "Status",
            list(STATUSES),
            default="Open",
            required=True,
            key="status",
            bind="query-params",
            label_visibility="collapsed",
        )
        st.space("stretch")
        # Filled below: only the widgets in the popover know what the address asks for.
        note = st.container(width="content")
        with st.popover("Filters", icon=":material/filter_list:", key="more_filters"):
            filters = _draw_more(frame, status=STATUSES[status])
        if filters.n_active:
            note.html(panels.badge(f"{formats.plural(filters.n_active, 'filter')} on", "accent"))
        order = st.selectbox(
            "Order", list(ORDERS), key="order", bind="query-params", label_visibility="collapsed", width=150
        )
    return filters, ORDERS[order]


def clear() -> None:
    """Take back every filter; a button's callback."""
    for key in _MORE:
        st.session_state[key] = [] if key in {"days", "files"} else None
    st.session_state["status"] = "All"


def _draw_more(frame: pd.DataFrame, *, status: str | None) -> Filters:
    min_score = st.number_input(
        "Score from",
        min_value=0.0,
        max_value=1.0,
        step=0.05,
        value=None,
        placeholder="Any",
        format="%.2f",
        key="min_score",
        bind="query-params",
    )
    low, high = st.columns(2)
    min_amount = low.number_input(
        "Amount from", min_value=0.0, value=None, placeholder="Any", key="min_amount", bind="query-params"
    )
    max_amount = high.number_input(
        "Amount to", min_value=0.0, value=None, placeholder="Any", key="max_amount", bind="query-params"
    )
    first, last = frame["timestamp"].min().date(), frame["timestamp"].max().date()
    days = st.date_input("Days", value=[], min_value=first, max_value=last, key="days", bind="query-params")
    files = st.multiselect(
        "Files",
        sorted(frame["source_file"].unique(), reverse=True),
        placeholder="All files",
        key="files",
        bind="query-params",
    )
    st.button("Clear filters", type="tertiary", icon=":material/close:", on_click=clear)
    ends = cast("tuple[date, ...]", days)
    return Filters(
        status=status,
        min_score=min_score,
        min_amount=min_amount,
        max_amount=max_amount,
        first_day=ends[0] if ends else None,
        last_day=ends[1] if len(ends) == _BOTH_ENDS else None,
        source_files=tuple(files),
    )
