"""The job's metrics in node-exporter's textfile format (Prometheus text exposition format 0.0.4)."""

from __future__ import annotations

import re
from pathlib import Path

from quatrain.core.errors import ExitCode, UsageError
from quatrain.core.jobs.files import write_atomically
from quatrain.core.jobs.identity import Job
from quatrain.core.jobs.report import JobReport

_LAST_SUCCESS = "quatrain_job_last_success_timestamp_seconds"


def check_metrics_path(path: Path) -> None:
    """Raise UsageError for a metrics file that could not be written, or that nobody would read."""
    if path.suffix != ".prom":
        raise UsageError(f"the metrics file must end in .prom, or node-exporter does not read it; got {path}")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent} for the metrics file; create it, or leave out --prom")


def write_metrics(path: Path, job: Job, report: JobReport, *, ended: float) -> None:
    """Replace the metrics file; `ended` is Unix time.

    The time of the last success outlives failing runs, because its age is what to alert
    on; 0 means that there was none yet.
    """
    success = ended if report.exit_code == ExitCode.DONE else _earlier_success(path)
    labels = f'app="{_escape(job.app)}",job="{_escape(job.name)}"'
    lines = [
        *_gauge(_LAST_SUCCESS, "When the job last ended with exit code 0, Unix time.", {labels: success}),
        *_gauge("quatrain_job_last_run_timestamp_seconds", "When the job last ended, Unix time.", {labels: ended}),
        *_gauge("quatrain_job_duration_seconds", "How long the last run took.", {labels: report.seconds}),
        *_gauge("quatrain_job_exit_code", "Exit code of the last run.", {labels: report.exit_code}),
        *_gauge("quatrain_job_rows", "Rows read by the last run, bad ones included.", {labels: report.rows}),
        *_gauge("quatrain_job_bad_rows", "Rows put into quarantine by the last run.", {labels: report.bad_rows}),
        *_gauge(
            "quatrain_job_units",
            "Input files of the last run by outcome.",
            {f'{labels},outcome="{outcome}"': count for outcome, count in report.units.items() if outcome != "new"},
        ),
    ]
    # node-exporter runs as a user of its own.
    write_atomically(path, "\n".join(lines) + "\n", mode=0o644)


def _gauge(name: str, text: str, samples: dict[str, float]) -> list[str]:
    return [
        f"# HELP {name} {text}",
        f"# TYPE {name} gauge",
        *(f"{name}{{{labels}}} {value!r}" for labels, value in samples.items()),
    ]


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _earlier_success(path: Path) -> float:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return 0.0
    match = re.search(rf"^{_LAST_SUCCESS}\{{.*\}} ([0-9.e+]+)$", text, flags=re.MULTILINE)
    return float(match[1]) if match else 0.0
