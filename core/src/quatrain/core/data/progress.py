"""Progress on stderr, and silence where stderr is not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def is_shown(*, wanted: bool) -> bool:
    """Tell whether a person is there to see progress."""
    return wanted and sys.stderr.isatty()


@contextmanager
def bytes_bar(title: str, *, total: int, wanted: bool) -> Iterator[Callable[[int], None]]:
    """Give a function that takes the number of bytes there are so far."""
    if not is_shown(wanted=wanted):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)


@contextmanager
def spinner(title: str, *, wanted: bool) -> Iterator[None]:
    """Show that work of unknown length goes on."""
    if not is_shown(wanted=wanted):
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(title):
        yield
