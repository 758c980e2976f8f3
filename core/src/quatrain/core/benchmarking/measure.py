"""One model on one backend and one batch size: how long calls take, and what they cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quatrain.core.benchmarking.probes import Peaks
from quatrain.core.config import Config

# A p99 needs a hundred calls; fewer where one call takes long, but never less than this.
_MOST_CALLS, _LEAST_CALLS = 2000, 5
_WARM_UP_CALLS = 3


class Case(Config):
    """What was measured of one backend with one batch size."""

    backend: str
    batch: int
    calls: int
    # Milliseconds per call on the clock on the wall.
    p50_ms: float
    p95_ms: float
    p99_ms: float
    rows_per_second: float
    # Processor seconds of all threads.
    cpu_seconds_per_1000_rows: float
    # Largest resident memory of the process while it was measured.
    peak_memory_bytes: int
    # Operations per second, and its share of the machine's; None for a model without products, such as trees.
    flops: float | None
    share_of_peak: float | None
    # Share of what the roofline allows at this intensity.
    share_of_roof: float | None
    # Operations per byte that must be moved: weights, inputs and outputs once.
    intensity: float | None


@dataclass(frozen=True)
class Work:
    """What one call must do at least."""

    operations: float
    n_bytes: float

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.operations / self.n_bytes


def timed(call: Callable[[], object], *, seconds: float) -> tuple[NDArray[np.float64], float]:
    """Return the seconds of each call, for about so many seconds in all, and the CPU seconds per call."""
    for _ in range(_WARM_UP_CALLS):
        call()
    taken: list[float] = []
    cpu_start, start = time.process_time(), time.perf_counter()
    before = start
    while len(taken) < _LEAST_CALLS or (before - start < seconds and len(taken) < _MOST_CALLS):
        call()
        now = time.perf_counter()
        taken.append(now - before)
        before = now
    return np.array(taken), (time.process_time() - cpu_start) / len(taken)


def case_of(
    backend: str,
    batch: int,
    taken: NDArray[np.float64],
    cpu_seconds: float,
    *,
    peak_bytes: int,
    work: Work,
    peaks: Peaks,
) -> Case:
    """Return the figures of one backend and batch size from the seconds of its calls."""
    p50, p95, p99 = (float(np.quantile(taken, q)) for q in (0.5, 0.95, 0.99))
    has_products = work.operations > 0
    flops = work.operations / p50
    return Case(
        backend=backend,
        batch=batch,
        calls=len(taken),
        p50_ms=p50 * 1e3,
        p95_ms=p95 * 1e3,
        p99_ms=p99 * 1e3,
        rows_per_second=batch * len(taken) / float(taken.sum()),
        cpu_seconds_per_1000_rows=cpu_seconds / batch * 1000,
        peak_memory_bytes=peak_bytes,
        flops=flops if has_products else None,
        share_of_peak=flops / peaks.flops if has_products else None,
        share_of_roof=flops / roof(work.intensity, peaks) if has_products else None,
        intensity=work.intensity if has_products else None,
    )


def roof(intensity: float, peaks: Peaks) -> float:
    """Return the operations per second that the machine allows (Williams, Waterman and Patterson, "Roofline", 2009)."""
    return min(peaks.flops, intensity * peaks.bandwidth)
