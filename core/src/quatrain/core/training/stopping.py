"""Stopping on request: SIGTERM asks, the loop answers at the end of its step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Whether someone asked this process to stop."""

    def __init__(self) -> None:
        self.is_set = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Note the request; a second SIGTERM ends the process as it would without `fit`."""
        del frame
        self.is_set = True
        signal.signal(signum, signal.SIG_DFL)


@contextmanager
def on_sigterm() -> Iterator[StopRequest]:
    """Turn SIGTERM into a request for the length of the block; outside the main thread, never set."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = signal.signal(signal.SIGTERM, request)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, previous)
