"""Files that appear whole or not at all, also after a power cut."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from quatrain.core.errors import UserError
from quatrain.core.files import sync

# Errors of the target file system that no other file of the run would escape.
_NO_WAY_TO_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


class OutputError(UserError):
    """The out folder cannot be written, so the whole run ends."""


def part_path(target: Path, tag: str) -> Path:
    """Return where the unfinished `target` of the job with this tag is written."""
    return target.with_name(f"{target.name}.{tag}.part")


def sweep_parts(out: Path, tag: str) -> int:
    """Remove what a killed run of the job left unfinished; return how many files."""
    stale = list(out.glob(f"*/*.{tag}.part"))
    with explain_write_errors(out):
        for path in stale:
            path.unlink(missing_ok=True)
    return len(stale)


def prepare_folder(folder: Path) -> None:
    """Create the folder and its parents so that they survive a power cut."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for created in missing:
        sync(created.parent)


def publish(pairs: list[tuple[Path, Path]]) -> None:
    """Rename each (part, target); the parts must be synced already."""
    for part, target in pairs:
        part.replace(target)
    for folder in {target.parent for _, target in pairs}:
        sync(folder)


def write_atomically(target: Path, text: str, *, mode: int) -> None:
    """Replace `target` by `text`; a reader sees the old or the new whole."""
    part = target.with_name(f"{target.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.chmod(mode)
        sync(part)
        publish([(part, target)])
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


@contextmanager
def explain_write_errors(folder: Path) -> Iterator[None]:
    """Turn a full, read-only or over-quota file system into an OutputError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_WAY_TO_WRITE:
            raise
        message = (
            f"cannot write to {folder}: {os.strerror(error.errno)}; make room or make it writable, and run again: "
            "finished files are not done twice"
        )
        raise OutputError(message) from error
