"""One unit of work: process a file, make sure it stood still, publish what came of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from quatrain.core.errors import BadDataError, UserError
from quatrain.core.jobs.files import OutputError
from quatrain.core.jobs.identity import Snapshot, take_snapshot
from quatrain.core.jobs.ledger import UnitRecord
from quatrain.core.jobs.sink import FileSink, Published, Sink

logger = logging.getLogger(__name__)

# Reads one input file and hands the results to the sink; raises BadDataError to refuse the file.
Process = Callable[[Path, Sink], None]


def attempt(
    process: Process, *, path: Path, label: str, key: str, snapshot: Snapshot, sink: FileSink
) -> tuple[UnitRecord, tuple[Published, ...]]:
    """Return what became of the file, and what was published.

    Whatever goes wrong with this file ends here and leaves nothing behind. Only what no
    other file would escape passes through: a stop, or an out folder that cannot be written.
    """
    started = time.monotonic()
    published: tuple[Published, ...] = ()
    try:
        status, reason = _process(process, path, snapshot, sink)
        published = sink.commit()
    except OutputError:
        sink.discard()
        raise
    except Exception as error:  # the one place that catches broadly: the other files must go on
        sink.discard()
        status, reason = "failed", _explain(error)
        logger.warning(
            "unit failed", extra={"file": label, "reason": reason}, exc_info=not isinstance(error, UserError)
        )
    except BaseException:
        sink.discard()
        raise
    is_done = status == "done"
    record = UnitRecord(
        path=label,
        status=status,
        key=key,
        input_digest=snapshot.digest,
        reason=reason,
        rows=sink.rows if is_done else 0,
        bad_rows=sink.bad_rows if is_done else 0,
        seconds=time.monotonic() - started,
        outputs=[file.to_json() for file in published],
    )
    return record, published


class _ChangedError(UserError):
    """The file was written, replaced or removed while it was read."""


def _process(process: Process, path: Path, snapshot: Snapshot, sink: FileSink) -> tuple[str, str | None]:
    refusal: str | None = None
    try:
        process(path, sink)
    except BadDataError as error:
        refusal = str(error)
    except OutputError:
        raise
    except Exception:
        # Half a file explains most errors, and better.
        _check_unchanged(path, snapshot)
        raise
    _check_unchanged(path, snapshot)
    if refusal is None:
        return "done", None
    sink.refuse(refusal)
    return "refused", refusal


def _check_unchanged(path: Path, snapshot: Snapshot) -> None:
    try:
        is_same = take_snapshot(path).is_same_as(snapshot)
    except OSError:
        is_same = False
    if not is_same:
        raise _ChangedError(
            "changed while it was being read, so the next run takes it up; "
            "upload under a name that begins with a dot, and rename when complete"
        )


def _explain(error: Exception) -> str:
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
