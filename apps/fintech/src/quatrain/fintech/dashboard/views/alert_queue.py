"""The alert queue: what is open, what is at stake, and one alert after the other to decide."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from quatrain.core.dashboard import formats, grid, panels
from quatrain.core.dashboard.card import Fact
from quatrain.fintech.cases import OPEN, CaseKey
from quatrain.fintech.dashboard import alert_table, case_panel, filter_bar, sources, status, triage

# More rows than an analyst scrolls through; filters reach the rest.
MAX_SHOWN = 1000
_VISIBLE_ROWS = 16
_STATUS_SHOWN = {"open": ["Open"], "fraud": ["Fraud"], "dismissed": ["Dismissed"]}
_PURPOSE = "Transactions that the model ranks as most likely fraud. Your verdicts are kept with time and note."


def alert_queue() -> None:
    """Draw the queue: numbers, filters, the table, and the open alert beside it."""
    with panels.loading():
        frame = sources.current_alerts()
    is_synthetic = bool(frame["is_synthetic"].any())
    panels.header("Alert queue", _PURPOSE, badges=[panels.SYNTHETIC] if is_synthetic else [])
    if frame.empty:
        _draw_empty()
        return
    _draw_numbers(frame)
    filters, order = filter_bar.draw(frame)
    shown = alert_table.put_in_order(alert_table.apply_filters(frame, filters), order)
    if shown.empty:
        _draw_nothing_left(filters)
        return
    row = triage.selected_row(shown)
    with st.grid(2, min_column_width=400, gap="medium") as cells:
        with cells.cell():
            _draw_table(shown, row=row)
        with cells.cell(), st.container(border=True, gap="small"):
            _draw_case(shown.iloc[row], row=row, n_shown=len(shown))


def _draw_empty() -> None:
    if sources.production_version() is None:
        panels.empty_state(
            "There is no fraud model yet",
            "Train one first. This uses a public set of real card transactions; it is downloaded once.",
            command="quatrain fintech train --data ulb-creditcard",
        )
        return
    panels.empty_state(
        "No transactions have been scored yet",
        "Score a file of transactions; the ones worth a look will appear here.",
        command="quatrain fintech score --data transactions.csv",
    )


def _draw_nothing_left(filters: alert_table.Filters) -> None:
    if filters.status == "open" and not filters.n_active:
        panels.empty_state("All alerts are decided", "New ones appear here after the next batch of transactions.")
        return
    panels.empty_state("No alert matches these filters", "Change them, or show everything.")
    st.button("Show all alerts", on_click=filter_bar.clear)


def _draw_numbers(frame: pd.DataFrame) -> None:
    summary = alert_table.summarise(frame)
    run = sources.last_batch()
    n_decided = formats.count(summary.n_alerts - summary.n_open)
    panels.strip(
        [
            Fact(
                label="Open alerts",
                value=formats.count(summary.n_open),
                note=f"{n_decided} of {formats.count(summary.n_alerts)} decided",
            ),
            Fact(
                label="Value at risk",
                value=formats.money(summary.open_amount),
                note=f"{formats.money(summary.fraud_amount)} confirmed as fraud",
            ),
            _alert_rate(frame),
            Fact(label="Last batch", value=formats.ago(run.started if run else None), note=status.batch_note(run)),
        ]
    )


def _alert_rate(frame: pd.DataFrame) -> Fact:
    version = sources.production_version()
    budget = sources.sealed_model(version).decision.get("alert_budget") if version else None
    n_rows = sources.scored_rows()
    return Fact(
        label="Alert rate",
        value=formats.share(len(frame) / n_rows if n_rows else None, digits=2),
        note=f"of transactions; the budget is {formats.share(budget, digits=2)}" if budget else "of transactions",
    )


def _draw_table(shown: pd.DataFrame, *, row: int) -> None:
    table = shown.head(MAX_SHOWN)
    columns = ["score", "amount", "timestamp", "customer_id", "terminal_id", "status_shown"]
    absent = {name for name in ("customer_id", "terminal_id") if table[name].isna().all()}
    if table["status"].nunique() == 1:
        absent.add("status_shown")
    table = table.assign(status_shown=table["status"].map(_STATUS_SHOWN))
    grid.pick(
        table[[name for name in columns if name not in absent]],
        key="alert_table",
        row=row,
        on_pick=triage.open_row,
        rows=_VISIBLE_ROWS,
        columns=_column_config(),
        alt="Alerts with score, amount, time, card and terminal",
    )
    if len(shown) > MAX_SHOWN:
        st.caption(f"The first {formats.count(MAX_SHOWN)} of {formats.count(len(shown))} alerts; filter to see others.")


def _column_config() -> dict[str, Any]:
    column = st.column_config
    return {
        "score": column.ProgressColumn("Score", min_value=0, max_value=1, format="%.3f", width=100),
        "amount": column.NumberColumn("Amount", format="%,.2f", width=76),
        "timestamp": column.DatetimeColumn("Time (UTC)", format="D MMM, HH:mm", timezone="UTC", width=104),
        "customer_id": column.TextColumn("Card", width=64),
        "terminal_id": column.TextColumn("Terminal", width=70),
        "status_shown": column.MultiselectColumn(
            "Status", options=["Open", "Fraud", "Dismissed"], color=["violet", "red", "gray"], width=95
        ),
    }


def _draw_case(alert: pd.Series[Any], *, row: int, n_shown: int) -> None:
    known = sources.current_cases()
    key = CaseKey(str(alert["source_file"]), str(alert["transaction_id"]))
    case = known.get(key, OPEN)
    case_panel.draw_heading(alert, position=row, n_shown=n_shown)
    case_panel.draw_score(alert)
    case_panel.draw_reasons(alert)
    decide = partial(triage.decide, key=key, seen=len(case.events))
    case_panel.draw_verdict(
        case,
        decide=decide,
        step=triage.step,
        is_undoable=triage.undoable(key, known),
        is_first=row == 0,
        is_last=row + 1 >= n_shown,
    )
    case_panel.draw_details(alert)
    case_panel.draw_history(case.events)
    model = sources.model_of(str(alert["model"]))
    inputs = alert_table.read_inputs(str(alert["path"]), int(alert["row"]))
    typical = model.decision.get("reference", {}) if model else {}
    table = case_panel.inputs_table(inputs, typical, reasons=case_panel.reasons_of(alert))
    case_panel.draw_inputs(table)
