"""The fraud pages for the portal, and the fraud app's card on its overview."""

from __future__ import annotations

from typing import Any

import streamlit as st

from quatrain.core.dashboard.card import Card
from quatrain.fintech.dashboard.status import status
from quatrain.fintech.dashboard.views.alert_queue import alert_queue
from quatrain.fintech.dashboard.views.model_report import model_report

card = Card(
    title="Card fraud",
    summary="Ranks card transactions by how likely they are fraud, and puts the top ones before an analyst.",
    status=status,
)


def pages() -> list[Any]:
    """Return the pages in the order of an analyst's day."""
    return [
        st.Page(alert_queue, title="Alert queue", icon=":material/inbox:", url_path="alert-queue"),
        st.Page(model_report, title="Model report", icon=":material/query_stats:", url_path="model-report"),
    ]
