"""Training runs and batch runs as one list, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from quatrain.core import tracking
from quatrain.core.dashboard import formats, installed
from quatrain.core.jobs.history import JobRun, list_job_runs
from quatrain.core.tracking import RunRecord

STATUS_LABELS = {
    "running": "Running",
    "done": "Done",
    "bad_data": "Bad data",
    "failed": "Failed",
    "stopped": "Stopped",
}
_COLOURS = ("blue", "green", "orange", "red", "gray")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One run of either kind."""

    title: str
    status: str
    started: datetime
    seconds: float | None
    result: str


def latest(*, limit: int) -> list[Entry]:
    """Return the newest runs of either kind."""
    entries = [of_job(run) for run in list_job_runs(limit=limit)]
    entries += [of_training(run) for run in tracking.list_runs()[:limit]]
    return sorted(entries, key=lambda entry: entry.started, reverse=True)[:limit]


def of_job(run: JobRun) -> Entry:
    """Return a batch run as an entry."""
    rejected = f", {formats.plural(run.bad_rows, 'row')} rejected" if run.bad_rows else ""
    result = reason(run.error) if run.error else formats.plural(run.rows, "row") + rejected
    return Entry(
        title=_title(run.app, run.name.rpartition(".")[2]),
        status=run.status,
        started=run.started,
        seconds=run.seconds,
        result=result,
    )


def of_training(run: RunRecord) -> Entry:
    """Return a training run as an entry."""
    numbers = {name: value for name, value in run.metrics.items() if isinstance(value, int | float)}
    measures = [f"{formats.label(name)} {formats.measure(value)}" for name, value in numbers.items()]
    return Entry(
        title=_title(run.app, run.command),
        status=run.status,
        started=run.started,
        seconds=run_seconds(run),
        result=reason(run.error) if run.error else ", ".join(measures[:2]),
    )


def reason(error: str) -> str:
    """Return the words of an error without the name of its class."""
    kind, colon, words = error.partition(": ")
    return words if colon and kind.isidentifier() and kind.endswith("Error") else error


def run_seconds(run: RunRecord) -> float | None:
    """Return how long a training run took, or has taken so far."""
    if run.ended is None and run.status != "running":
        return None
    return ((run.ended or datetime.now(UTC)) - run.started).total_seconds()


def status_column() -> Any:
    """Return the column that shows a status as a coloured label."""
    return st.column_config.MultiselectColumn("Status", options=list(STATUS_LABELS.values()), color=_COLOURS, width=100)


def _title(app: str, verb: str) -> str:
    cards = installed.cards()
    return f"{cards[app].title if app in cards else app}: {verb}"
