"""The traffic pages for the portal, and the traffic app's card on its overview."""

from __future__ import annotations

from typing import Any

import streamlit as st

from quatrain.core.dashboard.card import Card
from quatrain.smart_city.dashboard.status import status
from quatrain.smart_city.dashboard.views.comparison import comparison
from quatrain.smart_city.dashboard.views.plans import plans

card = Card(
    title="Traffic signals",
    summary="Times a city's signals, and shows in simulation that nobody waits longer than under its own plan.",
    status=status,
)


def pages() -> list[Any]:
    """Return the pages in the order of an engineer's work."""
    return [
        st.Page(comparison, title="Before and after", icon=":material/traffic:", url_path="traffic-comparison"),
        st.Page(plans, title="Signal plans", icon=":material/timer:", url_path="signal-plans"),
    ]
