"""Logging set-up for commands: text for a person, one JSON object per line for a machine."""

from __future__ import annotations

import logging
import sys
from contextlib import AbstractContextManager

import structlog


def configure(*, verbosity: int = 0, json: bool | None = None) -> None:
    """Send every `logging` record to stderr, with the values bound by `bind`.

    `verbosity` -1 shows warnings only, 0 info, 1 debug. `json` None means JSON lines unless
    stderr is a terminal, so that a log under cron can be parsed.
    """
    as_json = not sys.stderr.isatty() if json is None else json
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    )
    final: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if as_json:
        final.append(structlog.processors.format_exc_info)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[*final, renderer]))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    levels = {-1: logging.WARNING, 0: logging.INFO}
    logging.getLogger("quatrain").setLevel(levels.get(max(verbosity, -1), logging.DEBUG))


def bound(**values: str) -> AbstractContextManager[None]:
    """Return a context in which every log line carries values such as run_id."""
    return structlog.contextvars.bound_contextvars(**values)
