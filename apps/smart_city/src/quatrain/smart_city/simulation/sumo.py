"""The one door to SUMO: its programs, its files for projections, and a simulation in this process."""

from __future__ import annotations

import importlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quatrain.core.errors import UserError

_LONGEST_BUILD_S = 300


def sumo_home() -> Path:
    """Return the folder of the installed eclipse-sumo package."""
    spec = importlib.util.find_spec("sumo")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("SUMO is not installed; run `pip install quatrain-smart-city`")
    return Path(next(iter(spec.submodule_search_locations)))


def set_environment() -> None:
    """Name SUMO's own files in the environment, so that another installation's are not read."""
    home = sumo_home()
    os.environ["SUMO_HOME"] = str(home)
    for name in ("PROJ_DATA", "PROJ_LIB"):
        os.environ[name] = str(home / "data" / "proj")


def run_program(name: str, arguments: Sequence[str]) -> None:
    """Run netgenerate, netconvert or another of SUMO's programs; raise UserError with its own words if it fails."""
    set_environment()
    program = sumo_home() / "bin" / name
    result = subprocess.run(  # noqa: S603 - SUMO's own program, no shell
        [str(program), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=_LONGEST_BUILD_S,
    )
    if result.returncode:
        raise UserError(f"{name} failed: {_errors(result.stderr)}")


def binding(kind: str) -> Any:
    """Return the module that runs a simulation: "libsumo" in this process, or "traci" beside it.

    Importing libsumo may print to standard output: call it under `silenced`.
    """
    set_environment()
    return importlib.import_module(kind)


def start(sumo: Any, kind: str, flags: Sequence[str]) -> None:
    """Start a simulation; traci starts SUMO as its own process."""
    if kind == "libsumo":
        sumo.start(["sumo", *flags])
        return
    sumo.start([str(sumo_home() / "bin" / "sumo"), *flags], stdout=subprocess.DEVNULL)


@contextmanager
def silenced(log: Path) -> Iterator[None]:
    """Send all that this process and its libraries print to `log`: SUMO writes past Python's own streams."""
    kept = [os.dup(1), os.dup(2)]
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.dup2(target, 1)
        os.dup2(target, 2)
        yield
    finally:
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        os.close(target)


def complaint(log: Path) -> str:
    """Return what SUMO said went wrong, from its log."""
    return _errors(log.read_text(encoding="utf-8", errors="replace")) if log.is_file() else "no reason given"


def _errors(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return " ".join(errors or lines[-3:]) or "no reason given"
