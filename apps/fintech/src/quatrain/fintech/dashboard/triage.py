"""Which alert is open in the queue, and what a verdict does to it; kept in the session and the address."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from quatrain.core.errors import UserError
from quatrain.fintech import cases
from quatrain.fintech.cases import OPEN, Action, CaseKey
from quatrain.fintech.dashboard import case_panel, sources

# The address names the open alert, so that a colleague can be sent to it.
_ADDRESS = "alert"
_SELECTED, _ORDER, _LAST = "triage_selected", "triage_order", "triage_last_verdict"
_TOAST = {"fraud": "Confirmed as fraud", "dismissed": "Dismissed", "undo": "Verdict taken back"}


def selected_row(shown: pd.DataFrame) -> int:
    """Return the row of the open alert among those shown, the first one when it is not there."""
    ids = list(shown["id"])
    st.session_state[_ORDER] = ids
    wanted = st.session_state.get(_SELECTED) or st.query_params.get(_ADDRESS)
    row = ids.index(wanted) if wanted in ids else 0
    _select(ids[row])
    return row


def open_row(row: int) -> None:
    """Open the alert of a row of the table that was last shown; the table's callback."""
    ids = st.session_state.get(_ORDER, [])
    if row < len(ids):
        _select(ids[row])


def step(by: int) -> None:
    """Open the alert that many rows further; a button's callback."""
    ids: list[str] = st.session_state.get(_ORDER, [])
    selected = st.session_state.get(_SELECTED)
    if selected in ids:
        _select(ids[min(max(ids.index(selected) + by, 0), len(ids) - 1)])


def decide(action: Action, *, key: CaseKey, seen: int) -> None:
    """Record a verdict on the open alert and open the next one, or take the last verdict back."""
    note = str(st.session_state.get(case_panel.NOTE_KEY) or "")
    try:
        if action == "undo":
            _undo(key, note)
        else:
            cases.record(key, action, seen=seen, analyst=case_panel.analyst(), note=note)
            st.session_state[_LAST] = key
            _advance()
    except UserError as error:
        st.toast(str(error), icon=":material/error:", duration="long")
        return
    st.session_state[case_panel.NOTE_KEY] = ""
    st.toast(_TOAST[action], icon=":material/check:")


def undoable(key: CaseKey, known: dict[CaseKey, cases.Case]) -> bool:
    """Return whether there is a verdict to take back: the open alert's, or the last one given here."""
    return _undo_target(key, known) is not None


def case_id(key: CaseKey) -> str:
    """Return the text that names a case in the address."""
    return f"{key.source_file}/{key.transaction_id}"


def _undo(key: CaseKey, note: str) -> None:
    known = sources.current_cases()
    target = _undo_target(key, known)
    if target is None:
        raise UserError("there is no verdict to take back")
    seen = len(known.get(target, OPEN).events)
    cases.record(target, "undo", seen=seen, analyst=case_panel.analyst(), note=note)
    st.session_state[_LAST] = None
    _select(case_id(target))


def _undo_target(key: CaseKey, known: dict[CaseKey, cases.Case]) -> CaseKey | None:
    last = st.session_state.get(_LAST)
    candidates = [candidate for candidate in (key, last) if candidate is not None]
    return next((one for one in candidates if known.get(one, OPEN).decided is not None), None)


def _advance() -> None:
    """Open the row below; from the last row, the one above."""
    ids: list[str] = st.session_state.get(_ORDER, [])
    selected = st.session_state.get(_SELECTED)
    if selected in ids and len(ids) > 1:
        row = ids.index(selected)
        _select(ids[row + 1] if row + 1 < len(ids) else ids[row - 1])


def _select(alert_id: str) -> None:
    st.session_state[_SELECTED] = alert_id
    st.query_params[_ADDRESS] = alert_id
