"""Ending a run early when the system asks for it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StoppedError(BaseException):
    """The run was asked to stop; not an Exception, so that no `except Exception` of an app holds it up."""


class StopFlag:
    """Whether SIGTERM or SIGINT came; looked at where stopping is safe."""

    def __init__(self) -> None:
        self.signal: str | None = None

    def check(self) -> None:
        """Raise StoppedError if a signal came."""
        if self.signal is not None:
            raise StoppedError(f"stopped by {self.signal}")


@contextmanager
def stop_on_signals() -> Iterator[StopFlag]:
    """Collect the first SIGTERM or SIGINT in a flag; a second one acts as it would without us.

    Signals reach the main thread only; elsewhere the flag never rises.
    """
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}

    def note(number: int, _frame: FrameType | None) -> None:
        flag.signal = signal.Signals(number).name
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in numbers:
        signal.signal(number, note)
    try:
        yield flag
    finally:
        restore()
