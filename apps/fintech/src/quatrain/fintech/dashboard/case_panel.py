"""One alert in full: what happened, why it was flagged, and the analyst's verdict."""

from __future__ import annotations

import calendar
import getpass
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from quatrain.core.dashboard import formats, grid, panels
from quatrain.fintech.cases import MAX_NOTE_LENGTH, Action, Case, Event
from quatrain.fintech.dashboard.alert_table import REASONS
from quatrain.fintech.features.names import parse
from quatrain.fintech.wording import wording

NOTE_KEY = "case_note"
STATUS_LABELS = {"open": "Open", "fraud": "Confirmed fraud", "dismissed": "Dismissed"}
_STATUS_TONES: Mapping[str, panels.Tone] = {"open": "accent", "fraud": "bad", "dismissed": "neutral"}
_DONE = {"fraud": "Confirmed as fraud", "dismissed": "Dismissed", "undo": "Verdict taken back"}
# The logarithm of the amount tells an analyst nothing that the amount does not.
_REDUNDANT = frozenset({"log_amount"})
_MINUTES = 60
Decide = Callable[[Action], None]


def analyst() -> str:
    """Return who decides: the signed-in user, or the account that runs the dashboard."""
    if st.user.get("is_logged_in"):
        return str(st.user.get("email") or st.user.get("name") or "analyst")
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "analyst"


def draw_heading(alert: pd.Series[Any], *, position: int, n_shown: int) -> None:
    """Draw amount, time and status."""
    status = str(alert["status"])
    badges = panels.badge(STATUS_LABELS[status], _STATUS_TONES[status])
    badges += panels.SYNTHETIC if alert["is_synthetic"] else ""
    st.html(
        f'<div class="q-case-top"><span class="q-muted">Alert {position + 1:,} of {n_shown:,}</span>'
        f'<span class="q-case-badges">{badges}</span></div>'
        f'<div class="q-amount">{formats.money(float(alert["amount"]))}</div>'
        f'<div class="q-muted">{formats.moment(alert["timestamp"].to_pydatetime())}</div>'
    )


def draw_score(alert: pd.Series[Any]) -> None:
    """Draw the score against the threshold above which a transaction becomes an alert."""
    score, threshold = float(alert["score"]), float(alert["threshold"])
    label = f"Score {score:.3f}, alerts start at {threshold:.3f}"
    st.html(
        f'<div class="q-score"><span>Score <b>{score:.3f}</b></span>'
        f'<span class="q-muted">alerts start at {threshold:.3f}</span></div>'
        + panels.bar(score, mark=threshold, label=label)
        + _chance_html(alert)
    )


def draw_details(alert: pd.Series[Any]) -> None:
    """Draw who paid where, and the file that the transaction came in."""
    panels.section("Transaction")
    panels.facts(
        {
            "Card": _entity(alert["customer_id"], "card"),
            "Terminal": _entity(alert["terminal_id"], "terminal"),
            "Id": str(alert["transaction_id"]),
            "File": str(alert["source_file"]),
            "Model": str(alert["model"]),
        }
    )


def reasons_of(alert: pd.Series[Any]) -> list[str]:
    """Return the reasons that the alert has, the strongest first."""
    return [str(alert[name]) for name in REASONS if isinstance(alert[name], str) and alert[name]]


def draw_reasons(alert: pd.Series[Any]) -> None:
    """Draw why the model flagged the transaction, the strongest reason first."""
    reasons = reasons_of(alert)
    panels.section("Why it was flagged")
    if not reasons:
        st.html('<p class="q-sub">No single input explains this score; the combination of all of them does.</p>')
        return
    items = "".join(f"<li>{_reason_html(reason)}</li>" for reason in reasons)
    st.html(f'<ol class="q-reasons">{items}</ol>')


def draw_verdict(
    case: Case, *, decide: Decide, step: Callable[[int], None], is_undoable: bool, is_first: bool, is_last: bool
) -> None:
    """Draw the verdict buttons with their keys, the way to the next alert, and the note."""
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
        st.button(
            "Confirm fraud",
            key="case_fraud",
            shortcut="F",
            type="primary",
            on_click=decide,
            args=("fraud",),
            disabled=case.status == "fraud",
        )
        st.button(
            "Dismiss",
            key="case_dismiss",
            shortcut="D",
            on_click=decide,
            args=("dismissed",),
            disabled=case.status == "dismissed",
        )
        st.button(
            "Undo",
            key="case_undo",
            shortcut="U",
            type="tertiary",
            on_click=decide,
            args=("undo",),
            disabled=not is_undoable,
        )
        st.space("stretch")
        st.button(
            "Previous", key="case_previous", shortcut="P", type="tertiary", on_click=step, args=(-1,), disabled=is_first
        )
        st.button("Next", key="case_next", shortcut="N", type="tertiary", on_click=step, args=(1,), disabled=is_last)
    st.text_input(
        "Note",
        key=NOTE_KEY,
        placeholder="Add a note to your verdict (optional)",
        label_visibility="collapsed",
        max_chars=MAX_NOTE_LENGTH,
        on_change="ignore",
    )


def draw_history(events: tuple[Event, ...]) -> None:
    """Draw what analysts did with the case, newest first."""
    if not events:
        return
    panels.section("History")
    items = "".join(_history_item(event) for event in reversed(events))
    st.html(f'<ul class="q-history">{items}</ul>')


def inputs_table(
    inputs: Mapping[str, float], typical: Mapping[str, float], *, reasons: Sequence[str] = ()
) -> pd.DataFrame:
    """Return the model's inputs beside a typical legitimate transaction's: those of the reasons, then the others."""
    named = [name for reason in reasons for name in inputs if reason.startswith(f"{wording(name).label} ")]
    shown = [name for name in dict.fromkeys([*named, *inputs]) if name not in _REDUNDANT]
    return pd.DataFrame(
        {
            "Input": [_input_label(name) for name in shown],
            "Here": [input_text(name, inputs[name]) for name in shown],
            "Typical": [input_text(name, typical.get(name)) for name in shown],
        }
    )


def input_text(name: str, value: float | None) -> str:
    """Return a model input as an analyst reads it: 22.5 of `hour` is "22:30"."""
    if value is None:
        return formats.NONE
    if name == "amount":
        return formats.money(value)
    if name == "hour":
        return f"{int(value):02d}:{int(value % 1 * _MINUTES):02d} UTC"
    if name == "weekday":
        return calendar.day_name[int(value)]
    if name.startswith("is_"):
        return "yes" if value else "no"
    return wording(name).text(value) if parse(name) else formats.measure(value)


def draw_inputs(table: pd.DataFrame) -> None:
    """Draw the model's inputs of this transaction against typical ones."""
    panels.section("What the model saw", "Beside the median of the legitimate transactions that it learned from.")
    # Fits beside the queue at 1280 pixels; a longer label is whole in its tooltip.
    widths = {"Input": 226, "Here": 100, "Typical": 100}
    columns = {name: st.column_config.TextColumn(width=width) for name, width in widths.items()}
    alt = "The model's inputs for this transaction beside typical legitimate values"
    grid.show(table, alt=alt, rows=9, columns=columns)


def _input_label(name: str) -> str:
    label = wording(name).label if parse(name) else formats.label(name.removeprefix("is_"))
    return label[:1].upper() + label[1:]


def _chance_html(alert: pd.Series[Any]) -> str:
    """Return the calibrated chance of fraud with its interval; nothing for a model that gives none."""
    if pd.isna(alert["probability"]):
        return ""
    chance, low, high = (float(alert[name]) for name in ("probability", "low", "high"))
    return (
        f'<div class="q-score"><span>Chance of fraud <b>{chance:.0%}</b></span>'
        f'<span class="q-muted">between {low:.0%} and {high:.0%}</span></div>'
    )


def _reason_html(reason: str) -> str:
    """Return "amount 950.00, usually 22.00" with the usual value quiet."""
    here, comma, usual = (reason[:1].upper() + reason[1:]).rpartition(", usually ")
    quiet = f' <span class="q-muted">usually {formats.html(usual)}</span>' if comma else formats.html(usual)
    return f"{formats.html(here)}{quiet}"


def _entity(value: object, noun: str) -> str:
    return str(value) if isinstance(value, str) and value else f"No {noun} given"


def _history_item(event: Event) -> str:
    note = f"<q>{formats.html(event.note)}</q>" if event.note else ""
    when = f'<span class="q-muted">{formats.html(event.analyst)}, {formats.moment(event.at)}</span>'
    return f"<li><b>{_DONE[event.action]}</b> {when}{note}</li>"
