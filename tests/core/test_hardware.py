"""Core limits, CPU features and GPUs, read from made-up /proc and /sys trees."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from quatrain.core import hardware


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the scheduler offer eight cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def write(root: Path, files: dict[str, str]) -> Path:
    """Write a tree of small files under `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "6400000 100000\n"}, 8),
        (
            {
                "proc/self/cgroup": "0::/pods/one\n",
                "sys/fs/cgroup/pods/cpu.max": "200000 100000\n",
                "sys/fs/cgroup/pods/one/cpu.max": "max 100000\n",
            },
            2,
        ),
        ({"proc/self/cgroup": "0::/host/path/unseen\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/../..\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        (
            {
                "proc/self/cgroup": "4:memory:/a\n3:cpu,cpuacct:/docker/x\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu:/\n0::/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
        ({"proc/self/cgroup": "garbage\n\n::\n", "sys/fs/cgroup/cpu.max": "what is this\n"}, 8),
    ],
    ids=[
        *("no cgroup", "no quota", "v2", "fraction rounds down", "at least one", "quota over affinity"),
        *("parent binds", "host path", "namespaced path", "v1", "v1 without quota", "garbage"),
    ],
)
def test_cpu_limit_is_the_tightest_of_affinity_and_quota(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    """Every layout of cgroup v1 and v2 gives the number of threads that will not be throttled."""
    assert hardware.cpu_limit(write(tmp_path, files)) == expected


def test_cpu_limit_of_this_machine_is_at_least_one() -> None:
    """The real trees are readable and give a usable number."""
    assert 1 <= hardware.cpu_limit() <= hardware.allowed_cpus()


def test_memory_limit_reads_both_cgroup_versions(tmp_path: Path) -> None:
    """A container's own limit counts, not the host's memory."""
    v2 = write(tmp_path / "v2", {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1048576\n"})
    v1 = write(
        tmp_path / "v1",
        {"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "2097152\n"},
    )
    assert hardware.memory_limit(v2) == 2**20
    assert hardware.memory_limit(v1) == 2**21


def test_memory_limit_without_a_cgroup_limit_is_physical_memory(tmp_path: Path) -> None:
    """`max`, and the huge number that v1 writes instead, mean no limit."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/\n0::/\n",
            "sys/fs/cgroup/memory.max": "max\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )
    assert hardware.memory_limit(root) == physical


def test_cpu_features_are_read_in_the_order_of_importance(tmp_path: Path) -> None:
    """Only the instruction sets that decide between kernels are named, for x86 and for Arm."""
    x86 = write(
        tmp_path / "x86", {"proc/cpuinfo": "model name\t: Some CPU 9\nflags\t\t: fpu avx512_vnni avx2 amx_int8\n"}
    )
    arm = write(tmp_path / "arm", {"proc/cpuinfo": "Features\t: fp asimd i8mm\n"})
    assert hardware.cpu_features(x86) == ("avx2", "avx512_vnni", "amx_int8")
    assert hardware.cpu_model(x86) == "Some CPU 9"
    assert hardware.cpu_features(arm) == ("asimd", "i8mm")


def answer(monkeypatch: pytest.MonkeyPatch, result: subprocess.CompletedProcess[str] | Exception) -> None:
    """Let nvidia-smi be installed and answer with `result`."""

    def run(*_: Any, **__: Any) -> subprocess.CompletedProcess[str]:
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr("shutil.which", lambda _: "nvidia-smi")
    monkeypatch.setattr(subprocess, "run", run)


def test_gpus_are_listed_from_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name, memory, driver and capability come from nvidia-smi; "[N/A]" memory is unknown, not zero."""
    text = "NVIDIA H200, 143771, 590.10, 9.0\nNVIDIA GB10, [N/A], 590.10, 12.1\n"
    answer(monkeypatch, subprocess.CompletedProcess([], 0, text, ""))
    first, second = hardware.gpus()
    assert first == hardware.Gpu(
        name="NVIDIA H200", memory_bytes=143771 * 2**20, driver="590.10", compute_capability="9.0"
    )
    assert second.memory_bytes is None


def test_a_machine_without_a_driver_has_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """No nvidia-smi, or one that finds no device, is an ordinary machine."""
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert hardware.gpus() == ()
    answer(monkeypatch, subprocess.CompletedProcess([], 6, "No devices were found\n", ""))
    assert hardware.gpus() == ()


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (subprocess.CompletedProcess([], 9, "", "couldn't communicate with the driver"), "couldn't communicate"),
        (subprocess.CompletedProcess([], 3, "", ""), "exit 3"),
        (subprocess.TimeoutExpired("nvidia-smi", 10), "did not answer within 10 s"),
        (PermissionError(13, "Permission denied"), "cannot be run: Permission denied"),
    ],
    ids=["failure", "silent failure", "hang", "not executable"],
)
def test_a_broken_driver_is_reported(
    monkeypatch: pytest.MonkeyPatch, result: subprocess.CompletedProcess[str] | Exception, message: str
) -> None:
    """A driver that is there and does not work is never shown as "no GPU"."""
    answer(monkeypatch, result)
    with pytest.raises(hardware.GpuQueryError, match=message):
        hardware.gpus()


def test_describe_survives_a_broken_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark still ends with its JSON line."""
    answer(monkeypatch, subprocess.CompletedProcess([], 9, "", "driver mismatch"))
    machine = hardware.describe()
    assert machine["gpus"] == []
    assert machine["cpu_limit"] >= 1
