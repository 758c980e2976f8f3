"""What this process may use of the machine: cores, memory, CPU features and GPUs, without torch."""

from __future__ import annotations

import math
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# The instruction sets that decide which kernels run, as /proc/cpuinfo spells them (x86, then Arm).
_FEATURES = (
    *("avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)
# cgroup v1 writes a limit near 2^63 where there is none.
_NO_MEMORY_LIMIT = 2**60
_ROOT = Path("/")


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One NVIDIA GPU as its driver reports it; None where the driver says nothing."""

    name: str
    memory_bytes: int | None
    driver: str
    compute_capability: str


class GpuQueryError(Exception):
    """The NVIDIA driver's tool is installed but does not answer."""


def cpu_limit(root: Path = _ROOT) -> int:
    """Return how many threads this process can keep busy: affinity cut by the cgroup's quota, at least 1.

    A quota of 1.5 cores gives 1: a second thread would be throttled for half of every period.
    """
    quota = cgroup_cpus(root)
    return allowed_cpus() if quota is None else max(1, min(allowed_cpus(), math.floor(quota)))


def allowed_cpus() -> int:
    """Return the number of cores that the scheduler may place this process on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cgroup_cpus(root: Path = _ROOT) -> float | None:
    """Return the CPU quota in cores, the tightest of all enclosing cgroups, or None without one."""
    quotas = [_quota_v2(folder) for folder in _folders(root, "")] + [
        _quota_v1(folder) for folder in _folders(root, "cpu")
    ]
    return min((quota for quota in quotas if quota is not None), default=None)


def memory_limit(root: Path = _ROOT) -> int:
    """Return the bytes this process may use: physical memory cut by the cgroup's limit."""
    limits = [_number(folder / "memory.max") for folder in _folders(root, "")]
    limits += [_number(folder / "memory.limit_in_bytes") for folder in _folders(root, "memory")]
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([int(limit) for limit in limits if limit is not None and limit < _NO_MEMORY_LIMIT] + [physical])


def cpu_model(root: Path = _ROOT) -> str:
    """Return the CPU's name, such as "AMD EPYC 9354"."""
    names = _cpuinfo(root, "model name")
    return names or platform.processor() or platform.machine()


def cpu_features(root: Path = _ROOT) -> tuple[str, ...]:
    """Return the instruction sets that matter for inference, such as avx512_vnni and amx_int8."""
    flags = set(_cpuinfo(root, "flags").split()) | set(_cpuinfo(root, "Features").split())
    return tuple(feature for feature in _FEATURES if feature in flags)


def gpus(*, timeout_seconds: float = 10.0) -> tuple[Gpu, ...]:
    """Return the NVIDIA GPUs, none where there is no driver; raises GpuQueryError when the driver is broken."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    command = [tool, "--query-gpu=name,memory.total,driver_version,compute_cap", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_seconds, check=False)  # noqa: S603 - a fixed argument list
    except subprocess.TimeoutExpired as error:
        raise GpuQueryError(f"nvidia-smi did not answer within {timeout_seconds:g} s") from error
    except OSError as error:
        raise GpuQueryError(f"nvidia-smi cannot be run: {error.strerror}") from error
    if "No devices were found" in done.stdout + done.stderr:
        return ()
    if done.returncode != 0:
        raise GpuQueryError(f"nvidia-smi failed: {(done.stderr or done.stdout).strip() or f'exit {done.returncode}'}")
    return tuple(_gpu(line) for line in done.stdout.splitlines() if line.strip())


def describe() -> dict[str, Any]:
    """Return the machine as a JSON object, to be printed beside a measurement."""
    try:
        found = [asdict(gpu) for gpu in gpus()]
    except GpuQueryError:
        found = []
    return {
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cpu_features": list(cpu_features()),
        "cores": os.cpu_count() or 1,
        "cpu_limit": cpu_limit(),
        "memory_bytes": memory_limit(),
        "gpus": found,
    }


def _gpu(line: str) -> Gpu:
    name, memory, driver, capability = ([field.strip() for field in line.split(",")] + [""] * 3)[:4]
    mebibytes = int(memory) if memory.isdigit() else None
    return Gpu(
        name=name,
        memory_bytes=None if mebibytes is None else mebibytes * 2**20,
        driver=driver,
        compute_capability=capability,
    )


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the cgroup folders that bind this process, innermost first.

    `controller` is "" for cgroup v2. A container may see the host's path in /proc/self/cgroup
    without having that folder; then only the mount's own root, which is the container's, is there.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controller not in controllers.split(","):
            continue
        for mount in _mounts(root, controllers):
            inner = [part for part in path.split("/") if part and part != ".."]
            for depth in range(len(inner), -1, -1):
                folder = mount.joinpath(*inner[:depth])
                if folder.is_dir():
                    yield folder


def _mounts(root: Path, controllers: str) -> list[Path]:
    base = root / "sys/fs/cgroup"
    return [base / controllers] if controllers else [base, base / "unified"]


def _quota_v2(folder: Path) -> float | None:
    fields = _text(folder / "cpu.max").split()
    if len(fields) != 2 or not all(field.isdigit() for field in fields):  # noqa: PLR2004 - "<quota> <period>", or "max <period>"
        return None
    return _cores(int(fields[0]), int(fields[1]))


def _quota_v1(folder: Path) -> float | None:
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return None if quota is None or period is None else _cores(quota, period)


def _cores(quota_us: float, period_us: float) -> float | None:
    return quota_us / period_us if quota_us > 0 and period_us > 0 else None


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _cpuinfo(root: Path, key: str) -> str:
    for line in _text(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
