"""Which files a job should look at."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from quatrain.core.errors import UsageError
from quatrain.core.jobs.config import JobConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A file to look at, or the reason why it cannot be used."""

    path: Path
    problem: str | None = None


def find_inputs(config: JobConfig) -> list[Candidate]:
    """Return the files named, and those of the folders that match a pattern, in order of their paths.

    Hidden files are left alone, because uploaders write there first; folders are not
    entered. Raises UsageError when an input is not there or cannot be listed.
    """
    found: dict[Path, Candidate] = {}
    for given in config.inputs:
        path = Path(os.path.abspath(given))  # noqa: PTH100 a named symbolic link keeps its own name
        candidates = _in_folder(path, config.patterns) if _is_folder(path) else [Candidate(path=path)]
        for candidate in candidates:
            if _is_recent(candidate.path, config):
                found.setdefault(candidate.path, candidate)
    return [found[path] for path in sorted(found)]


def _is_folder(path: Path) -> bool:
    try:
        path.lstat()
        return path.is_dir()
    except FileNotFoundError as error:
        raise UsageError(f"there is no input {path}; check the path, and that its file system is mounted") from error
    except OSError as error:
        raise UsageError(f"cannot look at input {path}: {error.strerror}") from error


def _in_folder(folder: Path, patterns: tuple[str, ...]) -> Iterator[Candidate]:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise UsageError(
            f"cannot list input folder {folder}: {error.strerror}; the job's user must be able to read it"
        ) from error
    visible = [name for name in names if not name.startswith(".")]
    matching = [name for name in visible if _matches(name, patterns)]
    if len(matching) < len(visible):
        extra = {"folder": str(folder), "n_ignored": len(visible) - len(matching), "patterns": list(patterns)}
        logger.info("files that match no pattern are ignored", extra=extra)
    for name in matching:
        yield _candidate(folder, folder / name)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)


def _candidate(folder: Path, path: Path) -> Candidate:
    # Who may drop files here must not make the job read, and quote in its quarantine, files of other places.
    if path.is_symlink() and not _real(path).is_relative_to(_real(folder)):
        problem = f"is a symbolic link out of {folder}; copy the file, or name it directly as an input"
        return Candidate(path=path, problem=problem)
    return Candidate(path=path)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # unlike Path.resolve it bears a loop of links


def _is_recent(path: Path, config: JobConfig) -> bool:
    if config.since is None:
        return True
    try:
        return path.stat().st_mtime >= config.since.timestamp()
    except OSError:
        return True  # kept, so that the reason is told where it is read
