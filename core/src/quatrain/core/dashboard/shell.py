"""The frame of every page: its title and icon, the navigation, and one place that catches what goes wrong."""

from __future__ import annotations

import os
from typing import Any

import streamlit as st

from quatrain.core.dashboard import faults, installed, panels
from quatrain.core.dashboard.run import APP_VARIABLE
from quatrain.core.dashboard.views.batch_runs import batch_runs
from quatrain.core.dashboard.views.overview import overview
from quatrain.core.dashboard.views.training_runs import training_runs


def main() -> None:
    """Draw the page that the address names."""
    st.set_page_config(page_title="Quatrain", page_icon=str(panels.ASSETS / "favicon.svg"), layout="wide")
    st.html(panels.ASSETS / "quatrain.css")
    st.logo(str(panels.ASSETS / "logo.svg"), icon_image=str(panels.ASSETS / "mark.svg"), size="medium")
    page = st.navigation(sections(os.environ.get(APP_VARIABLE) or None))
    faults.guarded(page.run)


def sections(only: str | None = None) -> dict[str, list[Any]]:
    """Return the navigation: the overview, a section per installed app, and operations."""
    home = st.Page(overview, title="Overview", icon=":material/dashboard:", default=True)
    operations = [
        st.Page(batch_runs, title="Batch runs", icon=":material/schedule:", url_path="batch-runs"),
        st.Page(training_runs, title="Training runs", icon=":material/show_chart:", url_path="training-runs"),
    ]
    return {"": [home], **installed.pages(only), "Operations": operations}
