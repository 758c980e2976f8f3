"""Whether the process that began something still lives, told from a later one with the same number."""

from __future__ import annotations

import socket

# A start is reckoned from the boot time, which moves when the clock is set: by how much, in seconds.
_CLOCK_SECONDS = 60.0


def started() -> float:
    """Return when this process started, in seconds since the epoch."""
    import psutil  # readers of what was recorded do not need it

    return float(psutil.Process().create_time())


def lives(*, host: str, pid: int, started: float) -> bool:
    """Return whether the process is there; one on another host is given the benefit of the doubt."""
    import psutil  # only for what claims to be running

    if host != socket.gethostname():
        return True
    try:
        return bool(abs(psutil.Process(pid).create_time() - started) < _CLOCK_SECONDS)
    except psutil.NoSuchProcess:
        return False
