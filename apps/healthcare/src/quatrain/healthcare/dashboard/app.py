"""The medical pages for the portal, and the app's card on its overview."""

from __future__ import annotations

from typing import Any

import streamlit as st

from quatrain.core.dashboard.card import Card
from quatrain.healthcare.dashboard.status import status
from quatrain.healthcare.dashboard.views.model_audit import model_audit
from quatrain.healthcare.dashboard.views.worklist import worklist

card = Card(
    title="Medical images",
    summary="Puts urgent images first, and says when it does not know. Not for diagnosis.",
    status=status,
)


def pages() -> list[Any]:
    """Return the pages in the order of a reader's day."""
    return [
        st.Page(worklist, title="Worklist", icon=":material/radiology:", url_path="worklist"),
        st.Page(model_audit, title="Model audit", icon=":material/balance:", url_path="model-audit"),
    ]
