"""Batch runs: what cron did, file by file, and every row it refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import streamlit as st

from quatrain.core.dashboard import activity, formats, grid, panels, quarantine
from quatrain.core.dashboard.card import Fact
from quatrain.core.jobs.history import JobRun, JobUnit, job_run, list_job_runs

_LISTED = 200
_PICKED = "batch_run_row"
_FILE_STATUS = {"done": "Done", "refused": "Refused", "failed": "Failed", "duplicate": "Seen before"}


def batch_runs() -> None:
    """Draw the runs as a table, and the chosen run's files and rejected rows."""
    panels.header("Batch runs", "Every run of a scheduled job: its files, its rejected rows and the reasons.")
    runs = list_job_runs(limit=_LISTED)
    if not runs:
        panels.empty_state(
            "No batch has run yet",
            "Score a folder of files; run the same command from cron and only new files are taken up.",
            command="quatrain fintech score --data incoming",
        )
        return
    _draw_numbers(runs)
    chosen = _pick(runs)
    _draw_run(job_run(chosen.id))


def _draw_numbers(runs: list[JobRun]) -> None:
    good = next((run for run in runs if run.status == "done"), None)
    age = formats.ago(good.started if good else None)
    rows, bad = sum(run.rows for run in runs), sum(run.bad_rows for run in runs)
    problems = sum(run.status in {"failed", "bad_data", "stopped"} for run in runs[:20])
    panels.strip(
        [
            Fact(label="Last success", value=age, note=good.name if good else "no run succeeded"),
            Fact(label="Rows read", value=formats.count(rows), note=f"in {formats.plural(len(runs), 'run')}"),
            Fact(
                label="Rows rejected",
                value=formats.count(bad),
                note=f"{formats.share(bad / rows if rows else 0, digits=2)} of rows",
            ),
            Fact(label="Runs with problems", value=formats.count(problems), note=f"of the last {min(len(runs), 20)}"),
        ]
    )


def _pick(runs: list[JobRun]) -> JobRun:
    table = pd.DataFrame(
        {
            "Started": [run.started for run in runs],
            "Job": [run.name for run in runs],
            "Status": [[activity.STATUS_LABELS[run.status]] for run in runs],
            "Files": [run.units.get("new", 0) for run in runs],
            "Rows": [run.rows for run in runs],
            "Rejected": [run.bad_rows for run in runs],
            "Took": [formats.duration(run.seconds) for run in runs],
            "Model": [formats.digest(run.model_digest) for run in runs],
        }
    )
    number = st.column_config.NumberColumn(format="localized", width=85)
    row = min(int(st.session_state.get(_PICKED, 0)), len(runs) - 1)
    grid.pick(
        table,
        key="batch_table",
        row=row,
        on_pick=_open,
        rows=7,
        alt="Batch runs, newest first",
        columns={
            "Started": st.column_config.DatetimeColumn("Started (UTC)", format="D MMM YYYY, HH:mm", timezone="UTC"),
            "Status": activity.status_column(),
            "Files": number,
            "Rows": number,
            "Rejected": number,
        },
    )
    return runs[row]


def _open(row: int) -> None:
    st.session_state[_PICKED] = row


def _draw_run(run: JobRun) -> None:
    rejected = quarantine.read(quarantine.describe(run.files))
    with st.grid(2, min_column_width=380, gap="medium"):
        with st.container(border=True, gap="small", height="stretch"):
            panels.section("Files", f"{run.name}, {formats.moment(run.started)}")
            if run.error:
                st.warning(formats.plain(run.error))
            _draw_files(run.files)
        with st.container(border=True, gap="small", height="stretch"):
            panels.section("Why rows were rejected", "By reason, the most frequent first.")
            _draw_reasons(rejected)
    if not rejected.empty:
        _draw_rejected(rejected)


def _draw_files(files: tuple[JobUnit, ...]) -> None:
    if not files:
        st.html('<p class="q-sub">Nothing new to do: every file had been taken up before.</p>')
        return
    table = pd.DataFrame(
        {
            "File": [Path(unit.path).name for unit in files],
            "Status": [_FILE_STATUS[unit.status] for unit in files],
            "Rows": [unit.rows for unit in files],
            "Rejected": [unit.bad_rows for unit in files],
        }
    )
    number = st.column_config.NumberColumn(format="localized", width=80)
    grid.show(table, rows=8, columns={"Rows": number, "Rejected": number}, alt="Files of this run")
    refused = {Path(unit.path).name: unit.reason for unit in files if unit.reason}
    if refused:
        panels.facts(refused)


def _draw_reasons(rejected: pd.DataFrame) -> None:
    from quatrain.core.dashboard import charts  # Altair: most of a second that other pages need not pay

    rows = rejected[rejected["row"].notna()]
    if rows.empty:
        st.html('<p class="q-sub">No single row was rejected in this run.</p>')
        return
    st.altair_chart(
        charts.bars(quarantine.by_reason(rows), label="reason", value="rows"), alt="Rejected rows by reason"
    )


def _draw_rejected(rejected: pd.DataFrame) -> None:
    columns = {
        "file": st.column_config.TextColumn("File", width=220),
        "row": st.column_config.NumberColumn("Row", format="localized", width=80),
        "column": st.column_config.TextColumn("Column", width=130),
        "value": st.column_config.TextColumn("Value", width=160),
        "reason": st.column_config.TextColumn("Reason", width="large"),
    }
    with st.container(border=True, gap="small"):
        panels.section("Quarantine", "What was kept out, with its value and reason; the good rows went through.")
        grid.show(rejected.head(_LISTED), rows=8, columns=columns, alt="Rejected rows")
