"""Run history: one folder per training run, with its record, its history and its plot."""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import re
import secrets
import socket
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from pydantic import Field, ValidationError
from pydantic_core import to_json

from quatrain.core import processes
from quatrain.core.config import Config, settings
from quatrain.core.errors import LockedError, UserError, did_you_mean

Status = Literal["running", "done", "failed", "stopped"]

_log = logging.getLogger(__name__)
_RECORD = "run.json"
_HISTORY = "history.jsonl"
_PLOT = "history.png"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class RunProcess(Config):
    """The process that writes a run: enough to tell whether it still lives."""

    host: str
    pid: int
    # Seconds since the epoch; a process id is used again, with another start.
    created: float


class RunRecord(Config):
    """What is known of one run, as `run.json` keeps it."""

    id: str
    app: str
    command: str
    status: Status
    started: datetime
    ended: datetime | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    # Digest of the bundle that the run sealed.
    bundle: str | None = None
    error: str | None = None
    process: RunProcess | None = None


class Run:
    """A run being recorded; a context manager that notes how the run ended.

    Under torchrun only the process of rank 0 writes: on the others `is_recording` is false and
    every method does nothing.
    """

    def __init__(self, folder: Path, record: RunRecord, *, is_recording: bool = True) -> None:
        self.folder = folder
        self.is_recording = is_recording
        self._record = record
        self._save()

    @property
    def id(self) -> str:
        """The name of the run, which is also its folder's."""
        return self._record.id

    @property
    def record(self) -> RunRecord:
        """What is known of the run now."""
        return self._record

    def log(self, *, step: int, **values: float) -> None:
        """Append one row to the history; it is on disk's way when this returns."""
        if self.is_recording:
            with (self.folder / _HISTORY).open("ab") as file:
                file.write(_json_line({"step": step, **values}))

    def restore_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Replace the history, as a resume does with the rows up to its checkpoint."""
        if self.is_recording:
            _write_atomically(self.folder / _HISTORY, b"".join(_json_line(row) for row in rows))

    def finish(
        self,
        *,
        metrics: Mapping[str, Any] | None = None,
        bundle: str | None = None,
        status: Status | None = None,
        error: str | None = None,
    ) -> None:
        """Note the end; `status` None means "done", unless the run was already noted as stopped."""
        kept: Status = "stopped" if self._record.status == "stopped" else "done"
        self._update(
            status=status or kept,
            ended=_now(),
            metrics=dict(metrics) if metrics is not None else self._record.metrics,
            bundle=bundle or self._record.bundle,
            error=error,
        )

    def plot(self, *, best_step: int | None = None) -> Path | None:
        """Draw the history beside it and return the picture's path; None without rows."""
        if not self.is_recording or not (rows := _read_rows(self.folder)):
            return None
        title = f"{self._record.app} {self._record.command} · {self.id}"
        return plot_history(rows, self.folder / _PLOT, title=title, best_step=best_step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            if self._record.status == "running":
                self.finish()
        elif isinstance(error, KeyboardInterrupt):
            self.finish(status="stopped", error="interrupted")
        else:
            # What `fit` noted as stopped stays so when the caller then gives up with an error.
            noted: Status = "stopped" if self._record.status == "stopped" else "failed"
            self.finish(status=noted, error=f"{type(error).__name__}: {error}")

    def _update(self, **changes: Any) -> None:
        self._record = self._record.model_copy(update=changes)
        self._save()

    def _save(self) -> None:
        if self.is_recording:
            _write_atomically(self.folder / _RECORD, _json(self._record.model_dump(), indent=2))


def start_run(*, app: str, command: str, config: Mapping[str, Any], root: Path | None = None) -> Run:
    """Return a new run in a folder of its own; `root` None means the user's runs folder."""
    started = _now()
    run_id = f"{started:%Y%m%d-%H%M%S}-{app}-{command}-{secrets.token_hex(3)}"
    # Through JSON and back, so that the record holds what its file will hold.
    plain = json.loads(_json(dict(config)))
    record = RunRecord(
        id=run_id, app=app, command=command, status="running", started=started, config=plain, process=_this_process()
    )
    folder = _root(root) / run_id
    is_recording = os.environ.get("RANK", "0") == "0"
    if is_recording:
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"cannot record a run in {folder.parent}: {error.strerror}; make it writable") from error
    return Run(folder, record, is_recording=is_recording)


def resume_run(run_id: str, root: Path | None = None, *, force: bool = False) -> Run:
    """Return a run that ended early, open again; LockedError while another process writes it.

    Whether a process on another machine lives cannot be seen: `force` says that it does not.
    """
    record = read_run(run_id, root)
    process = record.process
    if record.status == "running" and process is not None and process.pid != os.getpid() and not force:
        owner = f"process {process.pid} on {process.host}"
        raise LockedError(f"run {run_id} is still running as {owner}; stop it, or force the resume if it is gone")
    update = {"status": "running", "ended": None, "error": None, "process": _this_process()}
    is_recording = os.environ.get("RANK", "0") == "0"
    return Run(_root(root) / run_id, record.model_copy(update=update), is_recording=is_recording)


def list_runs(root: Path | None = None) -> list[RunRecord]:
    """Return every readable run, newest first; a damaged record is skipped with a warning."""
    records = []
    for file in _root(root).glob(f"*/{_RECORD}"):
        try:
            records.append(_read_record(file))
        except UserError as error:
            _log.warning("skipped a run: %s", error)
    return sorted(records, key=lambda record: (record.started, record.id), reverse=True)


def read_run(run_id: str, root: Path | None = None) -> RunRecord:
    """Return one run; UserError that names the nearest run when there is none of that name."""
    return _read_record(_folder(run_id, root) / _RECORD)


def read_history(run_id: str, root: Path | None = None) -> list[dict[str, float]]:
    """Return the rows of one run in the order they were logged; what was not finite is NaN."""
    return _read_rows(_folder(run_id, root))


def plot_history(
    rows: Sequence[Mapping[str, float]], path: Path, *, title: str = "", best_step: int | None = None
) -> Path:
    """Draw losses, each other measure and the learning rate over the steps into a PNG; return `path`."""
    from matplotlib.figure import Figure  # half a second that only a plot should pay

    panels = panels_of(rows)
    if not panels:
        raise ValueError("the history holds no values to draw")
    n_columns = min(3, len(panels))
    n_rows = math.ceil(len(panels) / n_columns)
    figure = Figure(figsize=(4.6 * n_columns, 3.2 * n_rows + 0.5), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False).flatten()
    for axis, (name, series) in zip(axes, panels.items(), strict=False):
        _draw(axis, rows, name=name, series=series, best_step=best_step)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, color="#444444")
    figure.savefig(path, dpi=120)
    return path


# Okabe and Ito's palette: told apart by colour-blind readers.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
# Keys of a row that say where it stands, not how well it does.
_POSITION = frozenset({"step", "epoch", "seconds"})


def panels_of(rows: Sequence[Mapping[str, float]]) -> dict[str, list[str]]:
    """Return what to draw together: losses first, then each measure; `valid_ap/forest` is a line of `valid_ap`."""
    names = list(dict.fromkeys(name for row in rows for name in row if name not in _POSITION))
    panels: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: (not name.endswith("loss"), name == "learning_rate")):
        panels.setdefault("loss" if name.endswith("loss") else name.partition("/")[0], []).append(name)
    return panels


def _draw(
    axis: Any, rows: Sequence[Mapping[str, float]], *, name: str, series: Sequence[str], best_step: int | None
) -> None:
    for colour, key in zip(itertools.cycle(_COLOURS), series, strict=False):
        points = [(row["step"], row[key]) for row in rows if key in row]
        steps, values = zip(*points, strict=True)
        axis.plot(steps, values, color=colour, linewidth=1.6, label=key.rpartition("/")[2].replace("_", " "))
        axis.plot(steps[-1], values[-1], marker="o", markersize=3.5, color=colour)
    if best_step is not None and name != "learning_rate":
        axis.axvline(best_step, color="#999999", linewidth=0.9, linestyle=(0, (4, 3)), zorder=0, label="best")
    axis.set_title(name.replace("_", " "), loc="left", fontsize=10)
    axis.set_xlabel("step", fontsize=8)
    axis.tick_params(labelsize=8, length=0)
    axis.grid(color="#E6E6E6", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    if len(series) > 1:
        axis.legend(frameon=False, fontsize=8)


def _root(root: Path | None) -> Path:
    return settings().runs_dir if root is None else root


def _folder(run_id: str, root: Path | None) -> Path:
    folder = _root(root) / run_id
    # The pattern keeps a name such as "../keys" from leaving the runs folder.
    if not _ID.fullmatch(run_id) or not (folder / _RECORD).is_file():
        known = [file.parent.name for file in _root(root).glob(f"*/{_RECORD}")]
        raise UserError(f"no run is named {run_id!r}{did_you_mean(run_id, known)}")
    return folder


def _read_record(file: Path) -> RunRecord:
    try:
        record = RunRecord.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise UserError(f"{file} is not a readable run record: {error}") from error
    if record.status == "running" and record.process is not None and not _lives(record.process):
        update = {"status": "failed", "error": "its process ended without finishing the run"}
        return record.model_copy(update=update)
    return record


def _read_rows(folder: Path) -> list[dict[str, float]]:
    file = folder / _HISTORY
    rows = []
    for line in file.read_bytes().splitlines() if file.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:
            # A kill in the middle of a write leaves at most one torn line.
            continue
        rows.append({key: math.nan if value is None else value for key, value in row.items()})
    return rows


def _this_process() -> RunProcess:
    return RunProcess(host=socket.gethostname(), pid=os.getpid(), created=processes.started())


def _lives(process: RunProcess) -> bool:
    return processes.lives(host=process.host, pid=process.pid, started=process.created)


def _now() -> datetime:
    return datetime.now(UTC)


def _json(value: Any, *, indent: int | None = None) -> bytes:
    """Return JSON in which what is not finite is null, and NumPy and torch scalars are numbers."""
    return to_json(value, indent=indent, inf_nan_mode="null", fallback=_plain)


def _json_line(row: Mapping[str, float]) -> bytes:
    return _json(dict(row)) + b"\n"


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def _write_atomically(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)
