"""Many simulations over several processes: each process holds one at a time."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from rich.console import Console
from rich.progress import Progress

from quatrain.core.errors import UserError
from quatrain.smart_city.controllers.registry import ROLLING
from quatrain.smart_city.models.queues import warm_up
from quatrain.smart_city.simulation.result import Job, Result
from quatrain.smart_city.simulation.run import simulate


def default_workers() -> int:
    """Return the number of cores that this process may use."""
    return max(1, len(os.sched_getaffinity(0)))


class Pool:
    """Worker processes that stay alive between batches, started anew from a clean interpreter."""

    def __init__(self, workers: int | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        n_workers = workers or default_workers()
        self._executor = ProcessPoolExecutor(n_workers, mp_context=context, initializer=_end_with_parent)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(cancel_futures=True)

    def results(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Result]]:
        """Yield each job's place and result, as they come."""
        if any(job.controller in ROLLING for job in jobs):
            # Compiled once here, so that the workers find it made.
            warm_up()
        futures: dict[Future[Result], int] = {self._executor.submit(simulate, job): i for i, job in enumerate(jobs)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise UserError("a simulation process broke down; run it again with --binding traci to see why") from error

    def run(self, jobs: Sequence[Job], *, title: str = "simulations") -> list[Result]:
        """Return the results in the order of the jobs; progress goes to standard error where a person watches."""
        found: dict[int, Result] = {}
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task(title, total=len(jobs))
            for index, result in self.results(jobs):
                found[index] = result
                progress.advance(task)
        return [found[index] for index in range(len(jobs))]


def _end_with_parent() -> None:
    """End this worker when the process that started it is gone: killed, it could not say so."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
