"""`quatrain runs`: training runs and batch job runs in one list, and what each of them did."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from quatrain.core.cli.options import Json, print_json
from quatrain.core.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from quatrain.core.jobs.history import JobRun
    from quatrain.core.tracking import RunRecord

app = typer.Typer(name="runs", help="Training runs and batch job runs.", no_args_is_help=True)

Kind = Literal["training", "job"]
# Wide enough for any path: what is not a terminal gets one line per row, for grep.
_PIPE_WIDTH = 10_000
_MINUTE_S = 60
# How many ids an error names.
_N_SUGGESTED = 5
_STYLES = {"done": "green", "running": "cyan", "stopped": "yellow", "bad_data": "yellow", "failed": "red"}
_STYLES |= {"refused": "yellow", "duplicate": "dim"}


@app.callback()
def _runs() -> None:
    from quatrain.core import logs

    logs.configure()


@app.command("list")
def list_runs(
    *,
    app_name: Annotated[str | None, typer.Option("--app", help="Only this app's runs.")] = None,
    kind: Annotated[Kind | None, typer.Option("--kind", help="Only training runs, or only job runs.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many at most; 0 for all.", min=0)] = 20,
    json: Json = False,
) -> None:
    """List the newest runs, how they ended and what came of them."""
    chosen = [
        row for row in _rows() if (app_name is None or row["app"] == app_name) and (kind is None or row["kind"] == kind)
    ]
    shown = chosen[:limit] if limit else chosen
    if json:
        print_json({"runs": shown, "total": len(chosen)})
    elif not chosen:
        typer.echo("No runs yet. Run an app's `train` or `score` command to make the first one.")
    else:
        _console().print(_list_table(shown))
        if len(shown) < len(chosen):
            typer.echo(f"{len(shown)} of {len(chosen)} runs; --limit 0 shows all.")


@app.command()
def show(
    run_id: Annotated[str, typer.Argument(metavar="ID", help="Run id of `quatrain runs list`, or its beginning.")],
    *,
    json: Json = False,
) -> None:
    """Show what a run was asked to do, how it ended, and what it made of each file or step."""
    from quatrain.core.jobs.history import job_run
    from quatrain.core.tracking import read_history, read_run

    row = _find(run_id)
    if row["kind"] == "job":
        job = job_run(row["id"])
        if json:
            print_json({"kind": "job"} | job.model_dump(mode="json"))
        else:
            _print_job(job, row)
        return
    run, history = read_run(row["id"]), read_history(row["id"])
    if json:
        print_json({"kind": "training"} | run.model_dump(mode="json") | {"history": history})
    else:
        _print_training(run, history, row)


def _rows() -> list[dict[str, Any]]:
    """Return both kinds of run with the same keys, newest first."""
    from quatrain.core import tracking
    from quatrain.core.jobs import history

    rows = [_job_row(run) for run in history.list_job_runs()]
    rows += [_training_row(run) for run in tracking.list_runs()]
    return sorted(rows, key=lambda row: (row["started"], row["id"]), reverse=True)


def _job_row(run: JobRun) -> dict[str, Any]:
    return {
        "id": run.id,
        "kind": "job",
        "app": run.app,
        "command": run.name,
        "status": run.status,
        "started": run.started.isoformat(),
        "seconds": run.seconds,
        "error": run.error,
        "summary": _count_files(run),
    }


def _training_row(run: RunRecord) -> dict[str, Any]:
    return {
        "id": run.id,
        "kind": "training",
        "app": run.app,
        "command": run.command,
        "status": run.status,
        "started": run.started.isoformat(),
        "seconds": (run.ended - run.started).total_seconds() if run.ended else None,
        "error": run.error,
        "summary": ", ".join(f"{name} {value:.4g}" for name, value in list(_numbers(run.metrics).items())[:3]),
    }


def _count_files(run: JobRun) -> str:
    if not run.units.get("new"):
        return "nothing new"
    files = [f"{run.units[name]} {name}" for name in ("done", "refused", "failed") if run.units.get(name)]
    rows = f"{run.rows:,} rows" + (f", {run.bad_rows:,} bad" if run.bad_rows else "")
    return f"{', '.join(files) or 'none finished'}; {rows}"


def _numbers(values: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers of nested metrics under dotted names."""
    flat: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            flat[prefix + name] = value
    return flat


def _find(run_id: str) -> dict[str, Any]:
    from quatrain.core.errors import did_you_mean

    rows = {row["id"]: row for row in _rows()}
    matches = [known for known in rows if known.startswith(run_id)]
    if run_id in rows:
        return rows[run_id]
    if len(matches) > 1:
        newest = ", ".join(matches[:_N_SUGGESTED]) + (", …" if len(matches) > _N_SUGGESTED else "")
        raise UserError(f"{len(matches)} runs begin with {run_id!r}; give more of the id: {newest}")
    if not matches:
        raise UserError(f"no run is named {run_id!r}{did_you_mean(run_id, rows)}")
    return rows[matches[0]]


def _print_job(run: JobRun, row: dict[str, Any]) -> None:
    facts = _facts(row) | {
        "exit code": "" if run.exit_code is None else str(run.exit_code),
        "out": str(run.out),
        "model": run.model_digest[:12],
        "config": run.config_digest[:12],
        **{key: _text(value) for key, value in run.config.items()},
    }
    _print_facts(facts)
    if not run.files:
        typer.echo("\nNo file was new in this run.")
        return
    table = _table("file", "status", "rows", "bad", "published or reason")
    for unit in run.files:
        made = "\n".join([unit.reason] if unit.reason else [str(path) for path in unit.outputs])
        table.add_row(*_cells(unit.path, unit.status, f"{unit.rows:,}", f"{unit.bad_rows:,}", made))
    _console().print("", table)


def _print_training(run: RunRecord, history: list[dict[str, float]], row: dict[str, Any]) -> None:
    metrics = {name: f"{value:.6g}" for name, value in _numbers(run.metrics).items()}
    _print_facts(_facts(row) | {"bundle": run.bundle or ""} | metrics | {k: _text(v) for k, v in run.config.items()})
    if not history:
        return
    names = list(dict.fromkeys(name for step in history for name in step))
    table = _table(*names)
    # The end of a run is what a person asks for; --json has every step.
    for step in history[-10:]:
        table.add_row(*(f"{step[name]:.6g}" if name in step else "" for name in names))
    _console().print("", table)


def _facts(row: dict[str, Any]) -> dict[str, str]:
    return {
        "run": row["id"],
        "kind": row["kind"],
        "app": row["app"],
        "command": row["command"],
        "status": row["status"],
        "reason": row["error"] or "",
        "started": _local(row["started"]),
        "took": _duration(row["seconds"]),
        "result": row["summary"],
    }


def _print_facts(facts: dict[str, str]) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            table.add_row(*_cells(name, value))
    _console().print(table)


def _list_table(rows: list[dict[str, Any]]) -> Table:
    table = _table("run", "kind", "status", "started", "took", "result")
    for row in rows:
        started, took = _local(row["started"]), _duration(row["seconds"])
        result = row["error"] or row["summary"]
        table.add_row(*_cells(row["id"], row["kind"], row["status"], started, took, result))
    return table


def _table(*headers: str) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for header in headers:
        table.add_column(header, no_wrap=header in {"run", "status"}, overflow="fold")
    return table


def _cells(*values: str) -> list[RenderableType]:
    from rich.text import Text

    # Printable only: a file name must not send control sequences to the terminal.
    shown = ["".join(letter if letter.isprintable() or letter == "\n" else "�" for letter in value) for value in values]
    return [Text(value, style=_STYLES.get(value, "")) for value in shown]


def _console() -> Console:
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=_PIPE_WIDTH)


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)


def _local(started: str) -> str:
    return f"{datetime.fromisoformat(started).astimezone():%Y-%m-%d %H:%M:%S}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds < _MINUTE_S else str(timedelta(seconds=round(seconds)))
