"""The widgets that every page shares: header, badges, empty state, key facts."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Literal

import streamlit as st

from quatrain.core.dashboard import formats
from quatrain.core.dashboard.card import Fact

ASSETS = Path(__file__).resolve().parent / "assets"
_LOADING_PX = 320
Tone = Literal["neutral", "accent", "good", "warn", "bad"]
# Marks numbers that come from generated data, wherever they are shown.
SYNTHETIC = '<span class="q-badge q-warn" title="Generated data, not real">SYNTHETIC</span>'


def badge(text: str, tone: Tone = "neutral") -> str:
    """Return a small label as HTML."""
    return f'<span class="q-badge q-{tone}">{formats.html(text)}</span>'


def header(title: str, subtitle: str = "", *, badges: Sequence[str] = ()) -> None:
    """Draw a page's title, its badges and one line that says what the page is for."""
    marks = "".join(badges)
    line = f'<p class="q-sub">{formats.html(subtitle)}</p>' if subtitle else ""
    st.html(f'<header class="q-head"><h1>{formats.html(title)}</h1>{marks}</header>{line}')


def section(title: str, note: str = "") -> None:
    """Draw the title of a panel, with a quiet explanation under it."""
    line = f'<p class="q-sub">{formats.html(note)}</p>' if note else ""
    st.html(f'<h2 class="q-section">{formats.html(title)}</h2>{line}')


def tiles(values: Sequence[Fact]) -> None:
    """Draw numbers side by side: label, value, and a quiet note under each."""
    cells = "".join(
        f"<div><dt>{formats.html(fact.label)}</dt><dd>{formats.html(fact.value)}</dd><p>{formats.html(fact.note)}</p></div>"
        for fact in values
    )
    st.html(f'<dl class="q-tiles">{cells}</dl>')


def strip(values: Sequence[Fact]) -> None:
    """Draw a page's key numbers in a frame of their own."""
    with st.container(border=True):
        tiles(values)


def facts(values: Mapping[str, str], *, are_html: bool = False) -> None:
    """Draw label and value pairs, one per line; `are_html` values are put in as they are."""
    rows = "".join(
        f"<dt>{formats.html(label)}</dt><dd>{value if are_html else formats.html(value)}</dd>"
        for label, value in values.items()
    )
    st.html(f'<dl class="q-facts">{rows}</dl>')


def empty_state(title: str, body: str, *, command: str = "") -> None:
    """Draw what a page shows before there is anything: why it is empty, and the exact next command."""
    with st.container(border=True, horizontal_alignment="center"):
        st.html(
            f'<div class="q-empty"><img src="{_mark()}" alt="" width="34" height="34"><h2>{formats.html(title)}</h2>'
            f"<p>{formats.html(body)}</p></div>"
        )
        if command:
            st.code(command, language="bash", width="content")
        st.space("small")


@cache
def _mark() -> str:
    """Return the logo's mark as a data address: streamlit takes SVG elements out of HTML."""
    encoded = base64.b64encode((ASSETS / "mark.svg").read_bytes()).decode("ascii")
    return f"data:image/svg+xml;base64,{encoded}"


def loading() -> AbstractContextManager[object]:
    """Return a context in which a grey shape stands where slow content will be."""
    return st.skeleton(height=_LOADING_PX)


def bar(value: float, *, tone: Tone = "accent", mark: float | None = None, label: str = "") -> str:
    """Return a horizontal bar as HTML; `value` and the optional `mark` line are in [0, 1]."""
    width = f"{min(max(value, 0.0), 1.0) * 100:.2f}%"
    line = "" if mark is None else f'<i style="left:{min(max(mark, 0.0), 1.0) * 100:.2f}%"></i>'
    opening = f'<div class="q-bar q-{tone}" role="img" aria-label="{formats.html(label)}">'
    return f'{opening}<b style="width:{width}"></b>{line}</div>'
