"""Files that a job takes up ahead of its inputs, because what it makes of the inputs builds on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from quatrain.core.jobs.attempt import Process
from quatrain.core.jobs.config import JobConfig
from quatrain.core.jobs.identity import Job


@dataclass(frozen=True, kw_only=True)
class Feed:
    """Files of one kind and what is done with each, such as past transactions or labels that came since."""

    # Files, or folders whose files match the job's patterns; `since` does not hold them back.
    inputs: tuple[Path, ...]
    process: Process
    # Of whatever decides what comes of a file; it stands in the key for model and config, so both may change.
    digest: str
    # Whether a file that cannot be used ends the run before anything is built without it.
    is_required: bool = False


@dataclass(frozen=True, kw_only=True)
class Lane:
    """Where files of one kind are looked for, under which identity they are kept, and what is done with them."""

    config: JobConfig
    job: Job
    process: Process
    is_required: bool = False


def lanes_of(config: JobConfig, job: Job, process: Process, ahead: Sequence[Feed]) -> tuple[Lane, ...]:
    """Return what a run works through, in order: the feeds, then the inputs."""
    feeds = (
        Lane(
            config=config.model_copy(update={"inputs": feed.inputs, "since": None}),
            job=replace(job, model_digest="", config_digest=feed.digest),
            process=feed.process,
            is_required=feed.is_required,
        )
        for feed in ahead
    )
    return (*feeds, Lane(config=config, job=job, process=process))
