"""A model's benchmark: every backend that gives its golden outputs, at every batch size, beside the machine's peak."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quatrain.core import hardware
from quatrain.core.backends import autotune
from quatrain.core.backends.buckets import BUCKETS, sized
from quatrain.core.backends.golden import first_line, verified_session
from quatrain.core.backends.protocol import Arrays, BackendError, Session
from quatrain.core.backends.registry import opener_of
from quatrain.core.benchmarking.measure import Case, Work, case_of, timed
from quatrain.core.benchmarking.probes import Peaks, peaks
from quatrain.core.bundle.manifest import BundleError
from quatrain.core.bundle.open import Bundle
from quatrain.core.config import Config
from quatrain.core.resources import ResourceMonitor

# Seconds between two looks at the memory while a case is measured.
_LOOK_SECONDS = 0.2


class Benchmark(Config):
    """What `quatrain benchmark` found."""

    model: str
    digest: str
    threads: int
    machine: dict[str, Any]
    peak_flops: float
    peak_bandwidth: float
    macs_per_row: int
    cases: tuple[Case, ...]
    # Backends that do not serve here, with the reason.
    refused: dict[str, str]
    # The fastest backend by batch size, which backend="auto" takes from now on.
    auto: dict[int, str]

    def rows(self) -> list[tuple[str, ...]]:
        """Return a table: its header, then one line for each case."""
        header = ("backend", "batch", "p50 ms", "p95 ms", "p99 ms", "rows/s", "CPU s/1000", "peak MiB", "peak", "roof")
        return [header, *(_row(case) for case in self.cases)]


def benchmark(
    bundle: Bundle,
    *,
    reference: str,
    backends: Sequence[str] | None = None,
    batches: Sequence[int] = BUCKETS,
    threads: int | None = None,
    seconds: float = 1.0,
) -> Benchmark:
    """Return latency, throughput, cost and shares of the peak, and keep the fastest for backend="auto".

    Rows are the golden ones again and again. `seconds` is what one case takes; `backends` None
    means those that are worth it here (see `autotune.candidates`).
    """
    threads = threads or hardware.cpu_limit()
    names = tuple(autotune.candidates() if backends is None else backends)
    limits = peaks(threads=threads)
    golden, _ = bundle.golden()
    macs = _macs(bundle, golden)
    cases: list[Case] = []
    refused: dict[str, str] = {}
    for name in names:
        try:
            session = verified_session(bundle, opener_of(name), backend=name, reference=reference, threads=threads)
            cases += [
                _case(bundle, session, name, sized(golden, batch), macs=macs, limits=limits, seconds=seconds)
                for batch in batches
            ]
        except (BackendError, BundleError) as error:
            refused[name] = first_line(error)
    tuned = autotune.tuned(bundle, reference=reference, threads=threads, names=names, is_fresh=True)
    return Benchmark(
        model=reference,
        digest=bundle.digest,
        threads=threads,
        machine=hardware.describe(),
        peak_flops=limits.flops,
        peak_bandwidth=limits.bandwidth,
        macs_per_row=macs,
        cases=tuple(cases),
        refused=refused | tuned.refused,
        auto=tuned.backends,
    )


def save(found: Benchmark, folder: Path) -> tuple[Path, Path]:
    """Write benchmark.json and roofline.png into the folder and return both paths."""
    from quatrain.core.benchmarking.roofline import plot

    folder.mkdir(parents=True, exist_ok=True)
    document, picture = folder / "benchmark.json", folder / "roofline.png"
    document.write_text(found.model_dump_json(indent=2) + "\n", encoding="utf-8")
    plot(found, picture)
    return document, picture


def _case(
    bundle: Bundle, session: Session, name: str, rows: Arrays, *, macs: int, limits: Peaks, seconds: float
) -> Case:
    outputs = [spec.name for spec in bundle.manifest.outputs]
    batch = len(next(iter(rows.values())))
    moved = len(bundle.onnx) + sum(array.nbytes for array in (*rows.values(), *session.run(outputs, rows)))
    with ResourceMonitor(interval_seconds=_LOOK_SECONDS) as monitor:
        taken, cpu_seconds = timed(lambda: session.run(outputs, rows), seconds=seconds)
    work = Work(operations=2 * macs * batch, n_bytes=moved)
    return case_of(name, batch, taken, cpu_seconds, peak_bytes=monitor.usage.peak_bytes, work=work, peaks=limits)


def _macs(bundle: Bundle, golden: Arrays) -> int:
    from quatrain.core.compression.kernels import cost_of

    return cost_of(bundle.onnx, dict(golden)).macs


def _row(case: Case) -> tuple[str, ...]:
    shares = ("" if share is None else f"{share:.0%}" for share in (case.share_of_peak, case.share_of_roof))
    times = (f"{value:.3g}" for value in (case.p50_ms, case.p95_ms, case.p99_ms))
    cost = f"{case.cpu_seconds_per_1000_rows:.3g}"
    memory = f"{case.peak_memory_bytes / 2**20:.0f}"
    return (case.backend, str(case.batch), *times, f"{case.rows_per_second:.4g}", cost, memory, *shares)
