"""The metrics file that node-exporter reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quatrain.core.jobs.identity import Job
from quatrain.core.jobs.metrics import write_metrics
from quatrain.core.jobs.report import JobReport

JOB = Job(name="toy/copy", app="toy", out=Path("/out"), model_digest="m", config_digest="c")
# Prometheus text exposition format 0.0.4: a sample, or one of the two comments.
SAMPLE = re.compile(r'[a-z_]+\{[a-z]+="(?:[^"\\]|\\.)*"(?:,[a-z]+="(?:[^"\\]|\\.)*")*\} [0-9.e+]+')
COMMENT = re.compile(r"# HELP [a-z_]+ .+|# TYPE [a-z_]+ gauge")


def make_report(*, exit_code: int) -> JobReport:
    """Return the report of a run."""
    units = {"new": 3, "done": 2, "refused": 1, "failed": 0, "skipped": 4}
    return JobReport(run_id="r", status="done", exit_code=exit_code, units=units, rows=100, bad_rows=7, seconds=1.5)


def samples(path: Path) -> dict[str, float]:
    """Return name{labels} -> value, after checking every line against the format."""
    lines = path.read_text().splitlines()
    assert all(SAMPLE.fullmatch(line) or COMMENT.fullmatch(line) for line in lines)
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_every_number_of_the_report_is_there(tmp_path: Path) -> None:
    """Time of the last success, duration, rows, bad rows, units by outcome, exit code."""
    path = tmp_path / "job.prom"
    write_metrics(path, JOB, make_report(exit_code=0), ended=1234.5)
    labels = 'app="toy",job="toy/copy"'
    assert samples(path) == {
        f"quatrain_job_last_success_timestamp_seconds{{{labels}}}": 1234.5,
        f"quatrain_job_last_run_timestamp_seconds{{{labels}}}": 1234.5,
        f"quatrain_job_duration_seconds{{{labels}}}": 1.5,
        f"quatrain_job_exit_code{{{labels}}}": 0,
        f"quatrain_job_rows{{{labels}}}": 100,
        f"quatrain_job_bad_rows{{{labels}}}": 7,
        f'quatrain_job_units{{{labels},outcome="done"}}': 2,
        f'quatrain_job_units{{{labels},outcome="refused"}}': 1,
        f'quatrain_job_units{{{labels},outcome="failed"}}': 0,
        f'quatrain_job_units{{{labels},outcome="skipped"}}': 4,
    }
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("exit_code", [1, 65])
def test_a_failing_run_keeps_the_time_of_the_last_success(tmp_path: Path, exit_code: int) -> None:
    """Its age is what to alert on."""
    path = tmp_path / "job.prom"
    write_metrics(path, JOB, make_report(exit_code=0), ended=1795254743.8336813)
    for ended in (1795254800.0, 1795254900.0):
        write_metrics(path, JOB, make_report(exit_code=exit_code), ended=ended)
    values = samples(path)
    assert values['quatrain_job_last_success_timestamp_seconds{app="toy",job="toy/copy"}'] == 1795254743.8336813
    assert values['quatrain_job_last_run_timestamp_seconds{app="toy",job="toy/copy"}'] == 1795254900.0


@pytest.mark.parametrize("before", [None, b"", b"\xff", b"quatrain_job_last_success_timestamp_seconds{} x\n"])
def test_without_a_success_its_time_is_0(tmp_path: Path, before: bytes | None) -> None:
    """An alert on the age fires for a job that never succeeded."""
    path = tmp_path / "job.prom"
    if before is not None:
        path.write_bytes(before)
    write_metrics(path, JOB, make_report(exit_code=1), ended=5.0)
    assert samples(path)['quatrain_job_last_success_timestamp_seconds{app="toy",job="toy/copy"}'] == 0


def test_labels_are_escaped(tmp_path: Path) -> None:
    """Quote, backslash and line break are the three that the format asks for."""
    job = Job(name='a"b\\c\nd', app="toy", out=Path("/out"), model_digest="m", config_digest="c")
    write_metrics(tmp_path / "job.prom", job, make_report(exit_code=0), ended=5.0)
    assert 'quatrain_job_rows{app="toy",job="a\\"b\\\\c\\nd"}' in samples(tmp_path / "job.prom")
