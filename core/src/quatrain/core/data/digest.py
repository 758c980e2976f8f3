"""The sha256 and size of a file, or of a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

from quatrain.core.errors import BadDataError


def digest_of(path: Path) -> tuple[str, int]:
    """Return (sha256, bytes) of a file; of a folder, the sha256 of its sorted `sha256sum` listing.

    Raises BadDataError when there is nothing, and for a folder that holds a link: what it points
    to may change unseen.
    """
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size
    if not path.is_dir():
        raise BadDataError(f"{path} was expected to be a file or a folder, there is nothing")
    listing = hashlib.sha256()
    total = 0
    for entry in sorted(path.rglob("*"), key=lambda entry: entry.relative_to(path).as_posix()):
        if entry.is_symlink():
            raise BadDataError(f"{entry} is a link; a data set must hold the files themselves")
        if entry.is_file():
            sha256, size = digest_of(entry)
            listing.update(f"{sha256}  {entry.relative_to(path).as_posix()}\n".encode())
            total += size
    return listing.hexdigest(), total
