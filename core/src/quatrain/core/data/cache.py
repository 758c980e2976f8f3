"""Where one set lies in the cache, and the only ways a file appears there: checked, whole, in one rename."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from filelock import FileLock
from pydantic import ValidationError

from quatrain.core.config import Config
from quatrain.core.data.descriptor import Descriptor, Generated
from quatrain.core.data.digest import digest_of
from quatrain.core.errors import BadDataError, UserError
from quatrain.core.files import sync

_RECORD = "record.json"


class Record(Config):
    """What was put in the cache, and what made it."""

    sha256: str
    size: int
    # Changes when the set's source, or the version of its generator's package, changes.
    origin: str


@dataclass(frozen=True, kw_only=True)
class Place:
    """One set's corner of the cache: `<root>/<name>/` when complete, `<root>/<name>.staging/` before."""

    descriptor: Descriptor
    root: Path

    @property
    def folder(self) -> Path:
        """The folder that exists only once the set is complete and checked."""
        return self.root / self.descriptor.name

    @property
    def path(self) -> Path:
        """The set's file or folder."""
        return self.folder / self.descriptor.file

    @property
    def staging(self) -> Path:
        """The folder for unfinished work; a cut download is resumed from here."""
        return self.root / f"{self.descriptor.name}.staging"

    def record(self) -> Record | None:
        """Return what the cache says it holds, or None when there is nothing, or an outdated set."""
        try:
            record = Record.model_validate_json((self.folder / _RECORD).read_text(encoding="utf-8"))
        except (OSError, ValidationError):
            return None
        pinned = self.descriptor.sha256
        is_current = record.sha256 == pinned if pinned else record.origin == origin(self.descriptor)
        return record if is_current and self.path.exists() else None

    def verified(self, record: Record) -> Path:
        """Return the set's path if its bytes are still those of the record."""
        sha256, size = digest_of(self.path)
        if sha256 != record.sha256:
            raise BadDataError(
                f"{self.path} was changed after it was pulled: expected sha256 {record.sha256} ({record.size} bytes),"
                f" got {sha256} ({size} bytes); run `quatrain data pull {self.descriptor.name} --force`"
            )
        return self.path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Wait until this process alone may write the set."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.root / f"{self.descriptor.name}.lock")
            lock.acquire()
        except OSError as error:
            raise UserError(
                f"cannot write to the cache {self.root}: {error.strerror};"
                " set QUATRAIN_CORE__CACHE to a folder that you may write to"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def prepare(self) -> Path:
        """Return where the set's file is to be written; refuse when the disk cannot hold it."""
        self.staging.mkdir(parents=True, exist_ok=True)
        # Once while it is downloaded or unpacked, once as what it came in.
        needed = 2 * (self.descriptor.size or 0)
        free = shutil.disk_usage(self.staging).free
        if free < needed:
            raise UserError(
                f"{self.descriptor.name} needs {needed / 1e6:.0f} MB in {self.root}, {free / 1e6:.0f} MB are free;"
                " free some, or set QUATRAIN_CORE__CACHE to a folder on another disk"
            )
        return self.staging / self.descriptor.file

    def publish(self) -> Path:
        """Return the set's path after checking what was staged and moving it into place.

        What fails its digest is deleted: nothing could use it, and a resumed download must not start from it.
        """
        staged = self.staging / self.descriptor.file
        sha256, size = digest_of(staged)
        try:
            check_digest(self.descriptor, sha256=sha256, size=size, what="what came")
        except BadDataError:
            self.discard()
            raise
        record = Record(sha256=sha256, size=size, origin=origin(self.descriptor))
        (self.staging / _RECORD).write_text(record.model_dump_json(), encoding="utf-8")
        _flush(self.staging)
        self._replace()
        return self.path

    def discard(self) -> None:
        """Remove unfinished work."""
        shutil.rmtree(self.staging, ignore_errors=True)

    def _replace(self) -> None:
        # A folder that is not empty cannot be renamed over, so an older set steps aside first.
        old = self.root / f"{self.descriptor.name}.old"
        shutil.rmtree(old, ignore_errors=True)
        if self.folder.exists():
            self.folder.replace(old)
        self.staging.replace(self.folder)
        shutil.rmtree(old, ignore_errors=True)


def check_digest(descriptor: Descriptor, *, sha256: str, size: int, what: str) -> None:
    """Raise BadDataError unless the digest is the catalogue's; a set without a digest passes."""
    if descriptor.sha256 is not None and sha256 != descriptor.sha256:
        raise BadDataError(
            f"{what} is not {descriptor.name}: expected sha256 {descriptor.sha256} ({descriptor.size} bytes),"
            f" got {sha256} ({size} bytes); it was not kept"
        )


def generator(source: Generated) -> EntryPoint | None:
    """Return the entry point that makes the set, or None when its app is not installed."""
    return next(iter(entry_points(group="quatrain.generators", name=source.generator)), None)


def origin(descriptor: Descriptor) -> str:
    """Return a text that changes when the set would come out differently."""
    text = descriptor.source.model_dump_json()
    if isinstance(descriptor.source, Generated):
        point = generator(descriptor.source)
        text += f" {point.dist.name} {point.dist.version}" if point and point.dist else ""
    return text


def _flush(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            sync(path)
