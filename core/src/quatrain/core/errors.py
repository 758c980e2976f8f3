"""What a person can fix, said in words, and the exit codes that cron reads."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Iterable
from enum import IntEnum
from types import ModuleType


class ExitCode(IntEnum):
    """Process exit codes of every Quatrain command (sysexits.h where one fits)."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    BAD_DATA = 65
    LOCKED = 75


class UserError(Exception):
    """Something a person can fix; the text says what was expected, what came, and the fix."""

    exit_code = ExitCode.FAILED


class UsageError(UserError):
    """A wrong flag, key or config value."""

    exit_code = ExitCode.USAGE


class BadDataError(UserError):
    """Input data that cannot be used at all."""

    exit_code = ExitCode.BAD_DATA


class LockedError(UserError):
    """Another process holds what this one needs; trying later may work."""

    exit_code = ExitCode.LOCKED


class MissingExtraError(UserError):
    """A package that the command needs is not installed."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that `name` most likely meant, or None."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?", or the list of what is known when nothing is near."""
    names = sorted(known)
    match = nearest(name, names)
    if match is not None:
        return f"; did you mean {match!r}?"
    return f"; known: {', '.join(names) or 'none'}"


def require(module: str, *, package: str) -> ModuleType:
    """Return the imported module, or raise MissingExtraError with the command that installs it.

    `package` is the distribution with its extra, such as "quatrain-core[train]".
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise _missing(error.name, package) from error


def require_installed(module: str, *, package: str) -> None:
    """Raise MissingExtraError unless the top-level `module` can be found; it is not imported."""
    if importlib.util.find_spec(module) is None:
        raise _missing(module, package)


def _missing(module: str, package: str) -> MissingExtraError:
    return MissingExtraError(f"this command needs {module}, which is not installed; run `pip install '{package}'`")
