"""One run of a job at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from quatrain.core.errors import LockedError, UserError
from quatrain.core.jobs.files import prepare_folder
from quatrain.core.jobs.identity import Job


@contextmanager
def job_lock(job: Job) -> Iterator[None]:
    """Hold the job's lock file in its out folder; the kernel lets go when the process dies.

    Raises LockedError when another process holds it, UserError when the folder cannot be
    written.
    """
    path = job.out / f".quatrain-{job.tag}.lock"
    lock = FileLock(path)
    try:
        prepare_folder(job.out)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise locked(job) from error
    except OSError as error:
        message = f"cannot write to the out folder {job.out}: {error.strerror}; create it, or give another with --out"
        raise UserError(message) from error
    try:
        yield
    finally:
        lock.release()


def locked(job: Job) -> LockedError:
    """Return the error of a job that runs already."""
    return LockedError(
        f"the job {job.name} is running already into {job.out}; see `quatrain runs list`, or try again later"
    )
