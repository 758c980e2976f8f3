"""What a run takes of the machine while it runs: CPU, memory, disk and GPU."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import psutil

# Seconds between two looks: a percent of a core even where a look costs ten milliseconds.
INTERVAL_SECONDS = 1.0
_MEBIBYTE = 2**20


class HistoryLog(Protocol):
    """What rows are written to; `tracking.Run` is one."""

    def log(self, *, step: int, **values: float) -> None:
        """Append one row."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What was used between two moments; bytes, seconds, and cores kept busy on average."""

    seconds: float
    cpu_seconds: float
    # Largest resident memory of the process and its children that was seen.
    peak_bytes: int
    read_bytes: int
    written_bytes: int
    gpu_peak_bytes: int | None = None

    @property
    def cores(self) -> float:
        """Cores kept busy on average."""
        return self.cpu_seconds / self.seconds if self.seconds > 0 else 0.0

    def metrics(self) -> dict[str, float]:
        """Return the usage as a run's measures, sizes in MiB."""
        found = {
            "resources_seconds": self.seconds,
            "resources_cpu_seconds": self.cpu_seconds,
            "resources_cores": self.cores,
            "resources_memory_mib": self.peak_bytes / _MEBIBYTE,
            "resources_read_mib": self.read_bytes / _MEBIBYTE,
            "resources_written_mib": self.written_bytes / _MEBIBYTE,
        }
        if self.gpu_peak_bytes is not None:
            found["resources_gpu_memory_mib"] = self.gpu_peak_bytes / _MEBIBYTE
        return found


class ResourceMonitor:
    """Looks at this process and its children from a thread of its own, for as long as the context is open.

    With `history` each look is a row there, named cpu_cores, memory_mib, read_mib, written_mib and,
    with an NVIDIA GPU, gpu_memory_mib; its step is the number of the look. What children use counts
    as long as they live.
    """

    def __init__(self, history: HistoryLog | None = None, *, interval_seconds: float = INTERVAL_SECONDS) -> None:
        if interval_seconds <= 0:
            raise ValueError(f"interval_seconds must be above 0, got {interval_seconds}")
        self._history = history
        self._interval_seconds = interval_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="quatrain-resources", daemon=True)
        self._process = psutil.Process()
        self._start = self._last = self._look()
        self._peak_bytes = self._start.memory
        self._gpu_peak_bytes = self._start.gpu
        self._step = 0

    def __enter__(self) -> Self:
        self._start = self._last = self._look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._note()

    @property
    def usage(self) -> Usage:
        """What was used from the start to the last look."""
        return Usage(
            seconds=self._last.at - self._start.at,
            cpu_seconds=max(0.0, self._last.cpu - self._start.cpu),
            peak_bytes=self._peak_bytes,
            read_bytes=max(0, self._last.read - self._start.read),
            written_bytes=max(0, self._last.written - self._start.written),
            gpu_peak_bytes=self._gpu_peak_bytes,
        )

    def _watch(self) -> None:
        while not self._stop.wait(self._interval_seconds):
            self._note()

    def _note(self) -> None:
        before, now = self._last, self._look()
        self._last = now
        self._peak_bytes = max(self._peak_bytes, now.memory)
        if now.gpu is not None:
            self._gpu_peak_bytes = max(self._gpu_peak_bytes or 0, now.gpu)
        if self._history is None:
            return
        gpu = {} if now.gpu is None else {"gpu_memory_mib": now.gpu / _MEBIBYTE}
        self._history.log(
            step=self._step,
            cpu_cores=max(0.0, now.cpu - before.cpu) / max(now.at - before.at, 1e-9),
            memory_mib=now.memory / _MEBIBYTE,
            read_mib=(now.read - self._start.read) / _MEBIBYTE,
            written_mib=(now.written - self._start.written) / _MEBIBYTE,
            **gpu,
        )
        self._step += 1

    def _look(self) -> _Look:
        cpu, memory, read, written = 0.0, 0, 0, 0
        for process in _family(self._process):
            # A child may end between the list and the look.
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                cpu += times.user + times.system
                memory += process.memory_info().rss
                # Not every system counts a process's bytes.
                if hasattr(process, "io_counters"):
                    counters = process.io_counters()
                    read += counters.read_bytes
                    written += counters.write_bytes
        return _Look(at=time.monotonic(), cpu=cpu, memory=memory, read=read, written=written, gpu=_gpu_bytes())


@dataclass(frozen=True, kw_only=True)
class _Look:
    at: float
    cpu: float
    memory: int
    read: int
    written: int
    gpu: int | None


def _family(process: psutil.Process) -> Iterator[psutil.Process]:
    yield process
    with contextlib.suppress(psutil.Error):
        yield from process.children(recursive=True)


def _gpu_bytes() -> int | None:
    """Return the bytes that torch holds on the GPUs; None where torch is not loaded or sees none."""
    import sys

    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "cuda") or not torch.cuda.is_available():
        return None
    return sum(int(torch.cuda.memory_reserved(place)) for place in range(torch.cuda.device_count()))
