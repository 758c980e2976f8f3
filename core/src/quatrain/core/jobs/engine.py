"""The batch engine: each input file is processed once, and a killed run leaves nothing half done."""

from __future__ import annotations

import logging
import re
import secrets
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from quatrain.core import logs
from quatrain.core.config import settings
from quatrain.core.errors import ExitCode, LockedError, UsageError, UserError
from quatrain.core.jobs.attempt import Process, attempt
from quatrain.core.jobs.config import JobConfig
from quatrain.core.jobs.earlier import Earlier
from quatrain.core.jobs.feed import Feed, Lane, lanes_of
from quatrain.core.jobs.files import sweep_parts
from quatrain.core.jobs.identity import Job, Snapshot, plain, take_snapshot
from quatrain.core.jobs.inputs import Candidate, find_inputs
from quatrain.core.jobs.ledger import Ledger, UnitRecord, open_ledger
from quatrain.core.jobs.lock import job_lock
from quatrain.core.jobs.metrics import check_metrics_path, write_metrics
from quatrain.core.jobs.plan import Decision, decide, rehearse
from quatrain.core.jobs.report import JobReport, Tally
from quatrain.core.jobs.sink import FileSink
from quatrain.core.jobs.stop import StopFlag, StoppedError, stop_on_signals
from quatrain.core.jobs.suspect import Suspect

logger = logging.getLogger(__name__)


def run_job(
    config: JobConfig,
    *,
    name: str,
    model_digest: str,
    config_digest: str,
    process: Process,
    app: str,
    ahead: Sequence[Feed] = (),
    ledger_url: str | None = None,
) -> JobReport:
    """Process every input file that is new, and report; results lie in `config.out`.

    A file is new when no finished unit has its content, this model and this config. The files
    of `ahead` come first, and once each. `ledger_url` None means the ledger of the settings.
    Raises LockedError while another process runs the same job into the same folder, and
    UserError for what ends the whole run; one bad input never does.
    """
    job = Job(name=name, app=app, out=_resolved(config.out), model_digest=model_digest, config_digest=config_digest)
    url = ledger_url or settings().ledger_url
    lanes = lanes_of(config, job, process, ahead)
    if config.dry_run:
        return rehearse(lanes, url)
    if config.prom is not None:
        check_metrics_path(config.prom)
    with job_lock(job):
        return _Run(config, job, lanes).execute(url)


class _Run:
    """One run of a job, under its lock."""

    def __init__(self, config: JobConfig, job: Job, lanes: Sequence[Lane]) -> None:
        self._config = config
        self._job = job
        self._lanes = lanes
        self._tally = Tally()
        self._suspect = Suspect(job)
        self._snapshots: dict[str, Snapshot] = {}
        self._began = time.monotonic()
        slug = re.sub(r"[^A-Za-z0-9]+", "-", job.name).strip("-") or "job"
        self._id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{slug}-{secrets.token_hex(3)}"

    def execute(self, ledger_url: str) -> JobReport:
        """Run to the end, record and export how it ended."""
        with logs.bound(run_id=self._id, job=self._job.name, app=self._job.app):
            try:
                with stop_on_signals() as stop, open_ledger(ledger_url) as ledger:
                    ledger.lock(self._job)
                    report = self._recorded(ledger, stop)
            except LockedError:
                raise  # the metrics are those of the run that holds the lock
            except BaseException as error:
                self._export(self._broken(error))
                raise
            self._export(report)
        return report

    def _recorded(self, ledger: Ledger, stop: StopFlag) -> JobReport:
        n_dead = ledger.begin_run(self._job, run_id=self._id, config=_as_json(self._config))
        try:
            n_parts = sweep_parts(self._job.out, self._job.tag)
            logger.info("run started", extra={"out": plain(self._job.out), "n_dead_runs": n_dead, "n_parts": n_parts})
            report = self._work(ledger, stop)
            ledger.remember(self._job, self._snapshots)
        except BaseException as error:
            report = self._broken(error)
            # The ledger may be what broke.
            with suppress(Exception):
                self._end(ledger, report)
            raise
        self._end(ledger, report)
        return report

    def _work(self, ledger: Ledger, stop: StopFlag) -> JobReport:
        earlier = Earlier(ledger, self._job)
        try:
            for lane in self._lanes:
                for candidate in _with_progress(self._suspect.put_last(find_inputs(lane.config))):
                    stop.check()
                    self._take_up(candidate, lane, ledger, earlier, stop)
        except StoppedError as error:
            reason = f"{error}; the file under way was abandoned, and the next run goes on from there"
            return self._report("stopped", ExitCode.FAILED, reason)
        return self._report(*self._tally.verdict(max_bad_ratio=self._config.max_bad_ratio))

    def _take_up(self, candidate: Candidate, lane: Lane, ledger: Ledger, earlier: Earlier, stop: StopFlag) -> None:
        decision = decide(candidate, lane.job, ledger)
        if decision.snapshot is not None:
            self._snapshots[decision.label] = decision.snapshot
        status, reason = decision.settled, decision.reason
        if decision.action == "process":
            self._tally.new += 1
            with self._suspect.watch(decision.label):
                unit = self._attempt(decision, lane, earlier, stop)
            earlier.add(unit, id=self._record(unit, ledger))
            status, reason = unit.status, unit.reason
        elif decision.action == "fail":
            self._tally.new += 1
            self._record(UnitRecord(path=decision.label, status="failed", reason=decision.reason), ledger)
        else:
            self._tally.skipped += 1
            self._note_duplicate(decision, ledger)
        if lane.is_required and status != "done":
            raise UserError(f"{decision.label} is needed before anything else, but it is not done: {reason}")

    def _attempt(self, decision: Decision, lane: Lane, earlier: Earlier, stop: StopFlag) -> UnitRecord:
        if decision.reason is not None:
            logger.warning("unit is done again", extra={"file": decision.label, "reason": decision.reason})
        try:
            snapshot = decision.snapshot or take_snapshot(decision.path)
        except OSError as error:
            reason = f"cannot be read: {error.strerror or error}"
            return UnitRecord(path=decision.label, status="failed", reason=reason)
        key = lane.job.unit_key(input_digest=snapshot.digest, suffix=decision.path.suffix)
        sink = FileSink(
            out=self._job.out,
            source=decision.path,
            key=key,
            tag=self._job.tag,
            checkpoint=stop.check,
            earlier=lambda output, since: earlier.outputs(output, key=key, since=since),
        )
        record, published = attempt(
            lane.process, path=decision.path, label=decision.label, key=key, snapshot=snapshot, sink=sink
        )
        self._tally.outputs += [file.path for file in published]
        return record

    def _record(self, unit: UnitRecord, ledger: Ledger) -> int:
        self._tally.add(unit.status, rows=unit.rows, bad_rows=unit.bad_rows)
        # Last of all: until this is committed the unit counts as never done.
        id_ = ledger.record(self._job, unit, run_id=self._id, totals=self._totals())
        counts = {"n_rows": unit.rows, "n_bad_rows": unit.bad_rows, "seconds": round(unit.seconds, 3)}
        level = logging.INFO if unit.status == "done" else logging.WARNING
        logger.log(level, "unit %s", unit.status, extra={"file": unit.path, "reason": unit.reason, **counts})
        return id_

    def _note_duplicate(self, decision: Decision, ledger: Ledger) -> None:
        if decision.duplicate_of is None or decision.key is None:
            return
        if ledger.has_duplicate(self._job, key=decision.key, path=decision.label, of=decision.duplicate_of):
            return
        unit = UnitRecord(
            path=decision.label,
            status="duplicate",
            key=decision.key,
            reason=decision.reason,
            duplicate_of=decision.duplicate_of,
        )
        ledger.record(self._job, unit, run_id=self._id, totals=self._totals())
        logger.info("unit is a duplicate", extra={"file": decision.label, "reason": decision.reason})

    def _end(self, ledger: Ledger, report: JobReport) -> None:
        ledger.end_run(
            self._id, status=report.status, exit_code=report.exit_code, error=report.error, totals=self._totals()
        )
        level = logging.INFO if report.exit_code == ExitCode.DONE else logging.ERROR
        counts = {"units": report.units, "n_rows": report.rows, "n_bad_rows": report.bad_rows}
        logger.log(level, "run ended: %s", report.status, extra={**counts, "reason": report.error})

    def _broken(self, error: BaseException) -> JobReport:
        status = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        return self._report(status, getattr(error, "exit_code", ExitCode.FAILED), reason)

    def _report(self, status: str, exit_code: ExitCode, error: str | None) -> JobReport:
        return JobReport(
            run_id=self._id,
            status=status,
            exit_code=int(exit_code),
            units=self._tally.units,
            rows=self._tally.rows,
            bad_rows=self._tally.bad_rows,
            outputs=tuple(self._tally.outputs),
            seconds=self._seconds(),
            error=error,
        )

    def _totals(self) -> dict[str, Any]:
        tally = self._tally
        return {"units": tally.units, "rows": tally.rows, "bad_rows": tally.bad_rows, "seconds": self._seconds()}

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _export(self, report: JobReport) -> None:
        if self._config.prom is None:
            return
        try:
            write_metrics(self._config.prom, self._job, report, ended=time.time())
        except OSError as error:
            # The run itself is recorded; the age of the last success in the old file raises the alarm.
            logger.error("cannot write metrics to %s: %s", self._config.prom, error.strerror)  # noqa: TRY400 no trace


def _resolved(out: Path) -> Path:
    resolved = out.resolve()
    try:
        str(resolved).encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"the out folder must have a UTF-8 name, got {plain(resolved)}") from error
    return resolved


def _as_json(config: JobConfig) -> dict[str, Any]:
    return {
        "inputs": [plain(path) for path in config.inputs],
        "patterns": list(config.patterns),
        "since": config.since.isoformat() if config.since else None,
        "max_bad_ratio": config.max_bad_ratio,
    }


def _with_progress(candidates: Sequence[Candidate]) -> Iterable[Candidate]:
    if not sys.stderr.isatty():
        return candidates
    from rich.console import Console  # only a terminal pays for the bar
    from rich.progress import track

    return track(candidates, "Files", console=Console(stderr=True), transient=True)
