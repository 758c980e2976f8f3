"""The inspection pages for the portal, and the app's card on its overview."""

from __future__ import annotations

from typing import Any

import streamlit as st

from quatrain.core.dashboard.card import Card
from quatrain.industrial.dashboard.status import status
from quatrain.industrial.dashboard.views.parts import parts
from quatrain.industrial.dashboard.views.threshold import threshold

card = Card(
    title="Surface inspection",
    summary="Learns good parts, fails the share of them that you allow, and shows where a part is unlike them.",
    status=status,
)


def pages() -> list[Any]:
    """Return the pages in the order of a shift."""
    return [
        st.Page(parts, title="Inspected parts", icon=":material/grid_view:", url_path="parts"),
        st.Page(threshold, title="Threshold", icon=":material/tune:", url_path="threshold"),
    ]
