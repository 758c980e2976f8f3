"""A progress bar on a terminal's stderr for fits of more than two seconds."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

# STYLE rule 27: nothing is drawn for what is over sooner.
_QUIET_SECONDS = 2.0


class StepBar:
    """Steps done of all steps; silent where stderr is no terminal."""

    def __init__(self, *, total: int, done: int, is_shown: bool) -> None:
        self._total = total
        self._done = done
        self._note = ""
        self._starts = time.monotonic() + _QUIET_SECONDS if is_shown and sys.stderr.isatty() else float("inf")
        self._bar: Progress | None = None

    def advance(self) -> None:
        """Count one step."""
        self._done += 1
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done)
        elif time.monotonic() > self._starts:
            self._show()

    def note(self, text: str) -> None:
        """Show `text` beside the bar, such as the last epoch's losses."""
        self._note = text
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], note=text)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _show(self) -> None:
        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._bar.add_task("steps", total=self._total, completed=self._done, note=self._note)
        self._bar.start()
