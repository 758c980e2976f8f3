"""The overview: a card per installed app, and what happened lately."""

from __future__ import annotations

import os

import pandas as pd
import streamlit as st

from quatrain.core.dashboard import activity, faults, formats, grid, installed, panels
from quatrain.core.dashboard.card import Card, State
from quatrain.core.dashboard.run import APP_VARIABLE
from quatrain.core.errors import UserError

_TONES: dict[State, panels.Tone] = {"good": "good", "attention": "warn", "empty": "neutral"}


def overview() -> None:
    """Draw where every app stands and the latest runs."""
    panels.header("Overview", "Every app on this machine: what is live, when it last ran, and what waits for you.")
    only = os.environ.get(APP_VARIABLE)
    cards = {name: card for name, card in installed.cards().items() if only in (None, "", name)}
    if not cards:
        panels.empty_state(
            "No app is installed here",
            "Install one, then reload this page.",
            command="pip install 'quatrain-fintech[all]'",
        )
        return
    with st.grid(min(len(cards), 2), min_column_width=420, gap="medium"):
        for name, card in cards.items():
            with st.container(border=True, height="stretch"):
                _draw_card(name, card)
    _draw_activity()


def _draw_card(name: str, card: Card) -> None:
    try:
        status = card.status()
    except UserError as error:
        panels.section(card.title, card.summary)
        faults.show(error)
        return
    badges = panels.badge(status.headline, _TONES[status.state]) + (panels.SYNTHETIC if status.is_synthetic else "")
    st.html(
        f'<div class="q-card-top"><h2 class="q-section">{formats.html(card.title)}</h2><span>{badges}</span></div>'
        f'<p class="q-sub">{formats.html(card.summary)}</p>'
    )
    if status.facts:
        panels.tiles(status.facts)
    if status.command:
        st.html(f'<p class="q-next">{formats.html(status.next_step)}:</p>')
        st.code(status.command, language="bash")
    st.space("stretch")
    _draw_links(name)


def _draw_links(name: str) -> None:
    pages = installed.pages(name)
    with st.container(horizontal=True, gap="small"):
        for page in (page for group in pages.values() for page in group):
            if st.button(page.title, key=f"open_{name}_{page.url_path}", icon=page.icon):
                st.switch_page(page)


def _draw_activity() -> None:
    entries = activity.latest(limit=8)
    if not entries:
        return
    st.space("small")
    panels.section("Latest runs")
    rows = [
        {
            "What": entry.title,
            "Status": [activity.STATUS_LABELS[entry.status]],
            "When": formats.ago(entry.started),
            "Took": formats.duration(entry.seconds),
            "Result": entry.result,
        }
        for entry in entries
    ]
    columns = {
        "What": st.column_config.TextColumn(width=190),
        "Status": activity.status_column(),
        "When": st.column_config.TextColumn(width=110),
        "Took": st.column_config.TextColumn(width=90),
        "Result": st.column_config.TextColumn(width="large"),
    }
    grid.show(pd.DataFrame(rows), columns=columns, alt="The latest training and batch runs")
