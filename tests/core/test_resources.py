"""What a run used: seen from outside, added up, and written into its history."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from quatrain.core import resources
from quatrain.core.resources import ResourceMonitor, Usage
from quatrain.core.tracking import read_history, start_run

BURN = "import time\nx = bytearray(64 << 20)\nwhile time.process_time() < 0.3: pass\nprint('done', flush=True)\ninput()"


def test_work_and_memory_of_the_process_are_seen() -> None:
    """A hundred MiB held, and CPU time burnt, in the context and not before it."""
    with ResourceMonitor(interval_seconds=0.01) as monitor:
        held = np.ones(100 << 17)
        for _ in range(30):
            held.sum()
        monitor._note()
    usage = monitor.usage
    assert usage.peak_bytes >= held.nbytes
    assert usage.cpu_seconds > 0
    assert usage.seconds > 0


def test_children_count() -> None:
    """What worker processes burn and hold is the run's, too."""
    with ResourceMonitor(interval_seconds=60) as monitor:
        alone = monitor._look()
        child = subprocess.Popen([sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"done\n"
        together = monitor._look()
        child.communicate(b"\n")
    assert together.cpu - alone.cpu >= 0.25
    assert together.memory - alone.memory >= 64 << 20


def test_a_child_that_ends_between_two_looks_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its figures are left out."""

    class Gone:
        def __getattr__(self, name: str) -> Any:
            raise psutil.NoSuchProcess(1)

    monkeypatch.setattr(resources, "_family", lambda process: [process, Gone()])
    with ResourceMonitor() as monitor:
        pass
    assert monitor.usage.peak_bytes > 0


def test_each_look_is_a_row_of_the_history(tmp_path: Path) -> None:
    """And the sums are the run's measures."""
    with start_run(app="fintech", command="train", config={}, root=tmp_path) as run:
        with ResourceMonitor(run, interval_seconds=60) as monitor:
            monitor._note()
        run.finish(metrics=monitor.usage.metrics())
    rows = read_history(run.id, tmp_path)
    assert [row["step"] for row in rows] == [0, 1]
    assert {"cpu_cores", "memory_mib", "read_mib", "written_mib"} <= set(rows[0])
    assert run.record.metrics["resources_memory_mib"] > 1


def test_measures_follow_from_the_usage() -> None:
    """MiB and cores; a GPU's memory only where there is one."""
    usage = Usage(seconds=4, cpu_seconds=6, peak_bytes=3 << 20, read_bytes=1 << 20, written_bytes=0)
    assert usage.metrics() == {
        "resources_seconds": 4,
        "resources_cpu_seconds": 6,
        "resources_cores": 1.5,
        "resources_memory_mib": 3,
        "resources_read_mib": 1,
        "resources_written_mib": 0,
    }
    with_gpu = Usage(seconds=0, cpu_seconds=0, peak_bytes=0, read_bytes=0, written_bytes=0, gpu_peak_bytes=5 << 20)
    assert with_gpu.metrics()["resources_gpu_memory_mib"] == 5
    assert with_gpu.cores == 0


def test_an_interval_of_nothing_is_refused() -> None:
    """It would keep a core busy with looking."""
    with pytest.raises(ValueError, match="interval_seconds must be above 0, got 0"):
        ResourceMonitor(interval_seconds=0)
