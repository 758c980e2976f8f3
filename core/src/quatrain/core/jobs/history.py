"""What jobs did and what they published, read from the ledger; light enough for a command's start-up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from quatrain.core.config import Config, settings
from quatrain.core.errors import UserError, did_you_mean
from quatrain.core.processes import lives

Status = Literal["running", "done", "bad_data", "failed", "stopped"]


class JobUnit(Config):
    """What became of one input file in one run."""

    path: str
    status: Literal["done", "refused", "failed", "duplicate"]
    reason: str | None
    key: str | None
    duplicate_of: str | None
    rows: int
    bad_rows: int
    seconds: float
    outputs: tuple[Path, ...]


class JobRun(Config):
    """One run of a job; `files` is filled by `job_run` only."""

    id: str
    name: str
    app: str
    out: Path
    status: Status
    exit_code: int | None
    started: datetime
    ended: datetime | None
    seconds: float
    model_digest: str
    config_digest: str
    config: dict[str, Any]
    units: dict[str, int]
    rows: int
    bad_rows: int
    error: str | None
    host: str
    pid: int
    files: tuple[JobUnit, ...] = Field(default=())


def list_job_runs(ledger_url: str | None = None, *, limit: int | None = None) -> list[JobRun]:
    """Return the runs of every job, newest first; none where no job has run yet."""
    from quatrain.core.jobs.tables import RUNS  # SQLAlchemy: half a second

    return [_run(row) for row in _select(ledger_url, RUNS.select().order_by(RUNS.c.started.desc()).limit(limit))]


def job_run(run_id: str, ledger_url: str | None = None) -> JobRun:
    """Return one run with its files, in the order they were taken up."""
    from quatrain.core.jobs.tables import RUNS, UNITS  # SQLAlchemy: half a second

    rows = _select(ledger_url, RUNS.select().where(RUNS.c.id == run_id))
    if not rows:
        known = [run.id for run in list_job_runs(ledger_url)]
        raise UserError(f"no job run is named {run_id!r}{did_you_mean(run_id, known)}")
    units = _select(ledger_url, UNITS.select().where(UNITS.c.run_id == run_id).order_by(UNITS.c.id))
    return _run(rows[0], files=tuple(_unit(row) for row in units))


def unit_outputs(*, name: str, output: str, ledger_url: str | None = None) -> list[Path]:
    """Return the published files of one output of a job, oldest first, those still on disk.

    Of content that was processed again, with a newer model or config, only the newest
    result counts; a file that was overwritten by other content keeps the results of both.
    """
    import sqlalchemy as sa  # half a second that only readers of outputs should pay

    from quatrain.core.jobs.tables import RUNS, UNITS

    settled = sa.select(UNITS.c.input_digest, UNITS.c.outputs).where(
        UNITS.c.scope.in_(sa.select(RUNS.c.scope).where(RUNS.c.name == name)),
        UNITS.c.status.in_(["done", "refused"]),
    )
    newest: dict[str, list[dict[str, Any]]] = {}
    for row in _select(ledger_url, settled.order_by(UNITS.c.id)):
        # Taken out first, so that the order is that of the newest result.
        newest.pop(row["input_digest"], None)
        newest[row["input_digest"]] = row["outputs"]
    paths = [Path(file["path"]) for files in newest.values() for file in files if file["output"] == output]
    return [path for path in paths if path.is_file()]


def _select(ledger_url: str | None, query: Any) -> Sequence[Any]:
    from quatrain.core.jobs.ledger import read_ledger  # SQLAlchemy: half a second

    with read_ledger(ledger_url or settings().ledger_url) as ledger:
        return [] if ledger is None else ledger.select(query)


def _run(row: Any, *, files: tuple[JobUnit, ...] = ()) -> JobRun:
    values = {name: value for name, value in row.items() if name not in {"scope", "pid_created"}}
    if row["status"] == "running" and not lives(host=row["host"], pid=row["pid"], started=row["pid_created"]):
        values |= _as_dead()
    return JobRun(**values, files=files)


def _as_dead() -> dict[str, Any]:
    from quatrain.core.jobs.ledger import DIED

    return {"status": "failed", "error": DIED}


def _unit(row: Any) -> JobUnit:
    values = {name: row[name] for name in JobUnit.model_fields if name != "outputs"}
    return JobUnit(**values, outputs=tuple(Path(file["path"]) for file in row["outputs"]))
