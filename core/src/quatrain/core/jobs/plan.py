"""What to do with each file, decided the same way by a run and by a rehearsal of one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from quatrain.core.errors import ExitCode
from quatrain.core.jobs.feed import Lane
from quatrain.core.jobs.identity import Job, Snapshot, plain, stamp_of, take_snapshot
from quatrain.core.jobs.inputs import Candidate, find_inputs
from quatrain.core.jobs.ledger import Ledger, read_ledger
from quatrain.core.jobs.report import JobReport, Tally
from quatrain.core.jobs.sink import Published

logger = logging.getLogger(__name__)

Action = Literal["process", "skip", "duplicate", "fail"]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to do with one file, and why."""

    path: Path
    # The path as text that the ledger and the logs take.
    label: str
    action: Action
    reason: str | None = None
    # What became of this content the last time, where nothing is to be done.
    settled: str | None = None
    key: str | None = None
    # Present when the file was read just now.
    snapshot: Snapshot | None = None
    duplicate_of: str | None = None


def decide(candidate: Candidate, job: Job, ledger: Ledger | None) -> Decision:
    """Return what to do with a file, reading it only if its stamp is new."""
    label = plain(candidate.path)
    if candidate.problem is not None:
        return Decision(path=candidate.path, label=label, action="fail", reason=candidate.problem)
    try:
        return _decide(candidate.path, label, job, ledger)
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
        return Decision(path=candidate.path, label=label, action="fail", reason=reason)


def rehearse(lanes: Sequence[Lane], ledger_url: str) -> JobReport:
    """Return a report whose plan says what a run would do; nothing is written."""
    tally, plan, keys = Tally(), [], dict[str, str]()
    with read_ledger(ledger_url) as ledger:
        found = [(lane.job, candidate) for lane in lanes for candidate in find_inputs(lane.config)]
        for job, candidate in found:
            decision = _without_repeats(decide(candidate, job, ledger), keys)
            tally.skipped += decision.action in {"skip", "duplicate"}
            tally.new += decision.action in {"process", "fail"}
            line = {"file": decision.label, "action": decision.action, "reason": decision.reason or ""}
            logger.info("would %s", decision.action, extra=line)
            plan.append(line)
    return JobReport(
        run_id="",
        status="planned",
        exit_code=int(ExitCode.DONE),
        units=tally.units,
        rows=0,
        bad_rows=0,
        plan=tuple(plan),
    )


def _decide(path: Path, label: str, job: Job, ledger: Ledger | None) -> Decision:
    known = ledger.known_digest(job, label, stamp_of(path)) if ledger else None
    snapshot = None if known else take_snapshot(path)
    digest = snapshot.digest if snapshot else str(known)
    key = job.unit_key(input_digest=digest, suffix=path.suffix)
    earlier = ledger.settled(job, key) if ledger else None
    if earlier is None:
        return Decision(path=path, label=label, action="process", key=key, snapshot=snapshot)
    if not all(Published.from_json(output).is_intact for output in earlier["outputs"]):
        reason = f"what run {earlier['run_id']} published is gone or was changed"
        return Decision(path=path, label=label, action="process", reason=reason, key=key, snapshot=snapshot)
    status = f"{earlier['status']} in run {earlier['run_id']}"
    is_same = earlier["path"] == label
    return Decision(
        path=path,
        label=label,
        action="skip" if is_same else "duplicate",
        reason=status if is_same else f"same content as {earlier['path']}, {status}",
        settled=earlier["status"],
        key=key,
        snapshot=snapshot,
        duplicate_of=None if is_same else earlier["path"],
    )


def _without_repeats(decision: Decision, keys: dict[str, str]) -> Decision:
    """Return "duplicate" for content that an earlier file of the same rehearsal holds."""
    if decision.action != "process" or decision.key is None:
        return decision
    first = keys.setdefault(decision.key, decision.label)
    if first == decision.label:
        return decision
    reason = f"same content as {first}"
    return Decision(path=decision.path, label=decision.label, action="duplicate", reason=reason, duplicate_of=first)
