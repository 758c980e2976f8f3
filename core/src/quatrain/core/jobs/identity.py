"""What makes a job, a file's content and a unit of work the same one as last night."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

# A change within the clock tick of an earlier one leaves the same times; ext4 ticks every 10 ms, FAT every 2 s.
_RACY_NS = 2_000_000_000


@dataclass(frozen=True, kw_only=True)
class Job:
    """A named job writing into one folder with one model and one config."""

    name: str
    app: str
    out: Path
    model_digest: str
    config_digest: str

    @property
    def scope(self) -> str:
        """The identity under which runs and units are kept: name and out folder."""
        return hashlib.sha256(f"{self.name}\0{self.out}".encode()).hexdigest()

    @property
    def tag(self) -> str:
        """A short mark in this job's unfinished files, so that jobs may share an out folder."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:8]

    def unit_key(self, *, input_digest: str, suffix: str) -> str:
        """Return the key of a file with this content under this job's model and config."""
        return unit_key(
            model_digest=self.model_digest, config_digest=self.config_digest, input_digest=input_digest, suffix=suffix
        )


def unit_key(*, model_digest: str, config_digest: str, input_digest: str, suffix: str) -> str:
    """Return the sha256 that names one unit of work, whatever the file is called and wherever it lies.

    The suffix takes part because it decides how the bytes are read: a CSV file that came
    as x.parquet is refused, and must be taken up again once it is renamed.
    """
    parts = (model_digest, config_digest, input_digest, suffix.lower())
    # Lengths go first: without them ("ab", "c") and ("a", "bc") would share a key.
    return hashlib.sha256("".join(f"{len(part)}:{part}," for part in parts).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """What the file system says of a file; any write, rename or replacement changes it."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A file's content by digest, and its stamp from before the content was read."""

    digest: str
    stamp: Stamp
    taken_ns: int

    @property
    def is_lasting(self) -> bool:
        """Whether an equal stamp later proves equal content."""
        return is_lasting(ctime_ns=self.stamp.ctime_ns, taken_ns=self.taken_ns)

    def is_same_as(self, other: Snapshot) -> bool:
        """Whether the file was left alone between the two."""
        return self.digest == other.digest and self.stamp == other.stamp


def is_lasting(*, ctime_ns: int, taken_ns: int) -> bool:
    """Return whether the last change was long enough before the reading to be told from a later one."""
    return ctime_ns + _RACY_NS < taken_ns


def stamp_of(path: Path) -> Stamp:
    """Return the stamp of a regular file; raises OSError for anything else."""
    return _stamp(path, path.stat())


def take_snapshot(path: Path) -> Snapshot:
    """Return the digest and stamp of a regular file; raises OSError for anything else."""
    # Checked before opening: opening a named pipe waits for a writer that never comes.
    stamp_of(path)
    taken_ns = time.time_ns()
    with path.open("rb") as file:
        stamp = _stamp(path, os.fstat(file.fileno()))
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Snapshot(digest=digest, stamp=stamp, taken_ns=taken_ns)


def _stamp(path: Path, status: os.stat_result) -> Stamp:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(f"{path} is a folder, expected a file; give a folder of files as an input itself")
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path} is a pipe, socket or device, expected a regular file")
    return Stamp(
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        inode=status.st_ino,
        device=status.st_dev,
    )


def plain(text: str | Path) -> str:
    """Return text that every database and log takes: no NUL, and undecodable file name bytes escaped."""
    raw = os.fsencode(text) if isinstance(text, Path) else text.encode("utf-8", "backslashreplace")
    return raw.decode("utf-8", "backslashreplace").replace("\0", "\\x00")
