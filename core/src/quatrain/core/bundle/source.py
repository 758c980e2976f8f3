"""The files of a bundle folder or .qtn zip, read once, without following links or trusting sizes."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from quatrain.core.bundle.manifest import ALLOWED_FILES, FILE_LIMITS, MANIFEST, RESTORE, SIGNATURE, BundleError

# Bytes hashed at a time.
_CHUNK = 1 << 20
# Bytes that all files of a zip may have together; larger bundles stay folders.
ZIP_LIMIT = (2 << 30) - 1
# Unpacked over packed bytes; weights and trees stay under 20, a bomb is near 1000.
_ZIP_RATIO = 100
# Bytes of a zip's directory of files: seven names need under 1 KiB.
_ZIP_DIRECTORY = 64 << 10
# The record that ends a zip, without a comment: APPNOTE.TXT section 4.3.16.
_ZIP_END = 22
# What zipfile raises for bytes that are not a zip.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, RuntimeError)
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Source(ABC):
    """The files of one bundle, by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sizes: dict[str, int] = {}

    @abstractmethod
    def _open(self, name: str) -> BinaryIO: ...

    def read(self, name: str) -> bytes:
        """Return the bytes of the file, of which there must be as many as were announced."""
        with self._stream(name) as stream:
            content = stream.read(self.sizes[name] + 1)
        if len(content) != self.sizes[name]:
            raise BundleError(f"{name} in {self.path} changed while it was read; open the bundle again")
        return content

    def sha256(self, name: str) -> str:
        """Return the digest of a file that is too large to keep."""
        digest = hashlib.sha256()
        with self._stream(name) as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    @contextmanager
    def _stream(self, name: str) -> Iterator[BinaryIO]:
        try:
            with self._open(name) as stream:
                yield stream
        except OSError as error:
            raise BundleError(f"cannot read {name} in {self.path}: {error.strerror or error}") from error
        except _ZIP_ERRORS as error:
            raise BundleError(f"{name} in {self.path} is damaged: {error}; {RESTORE}") from error

    def _admit(self, name: str, size: int) -> None:
        if name not in FILE_LIMITS:
            known = ", ".join((MANIFEST, SIGNATURE, *ALLOWED_FILES))
            raise BundleError(f"{self.path} holds {name!r}, which is not part of a bundle ({known}); remove it")
        if name in self.sizes:
            raise BundleError(f"{self.path} holds {name} twice; {RESTORE}")
        if size > FILE_LIMITS[name]:
            raise BundleError(f"{name} in {self.path} has {size} bytes, more than the {FILE_LIMITS[name]} allowed")
        self.sizes[name] = size


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Give the files of the folder or zip at `path`."""
    if path.is_dir():
        if not os.path.lexists(path / MANIFEST):
            raise BundleError(
                f"{path} is not a bundle: {MANIFEST} is missing; run the app's `train` command to make one"
            )
        yield _Folder(path)
    elif path.is_file():
        with ExitStack() as stack:
            yield _Zip(path, stack)
    else:
        raise BundleError(f"{path} is not a bundle: there is no such folder or .qtn file; check the path")


class _Folder(Source):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    if not stat.S_ISREG(status.st_mode):
                        raise BundleError(
                            f"{entry.name} in {path} is a {_kind(status.st_mode)}; expected a plain file; {RESTORE}"
                        )
                    self._admit(entry.name, status.st_size)
        except OSError as error:
            raise BundleError(f"cannot read the bundle {path}: {error.strerror}") from error

    def _open(self, name: str) -> BinaryIO:
        # Without O_NONBLOCK a pipe that took the file's place would hang the reader.
        descriptor = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        return os.fdopen(descriptor, "rb")


class _Zip(Source):
    def __init__(self, path: Path, stack: ExitStack) -> None:
        super().__init__(path)
        try:
            file = stack.enter_context(path.open("rb"))
            self._require_small_directory(file)
            self._archive = stack.enter_context(zipfile.ZipFile(file))
        except OSError as error:
            raise BundleError(f"cannot read the bundle {path}: {error.strerror or error}") from error
        except _ZIP_ERRORS as error:
            raise BundleError(f"{path} is not a whole zip file: {error}; {RESTORE}") from error
        for member in self._archive.infolist():
            self._require_plain(member)
            self._admit(member.filename, member.file_size)
        if sum(self.sizes.values()) > ZIP_LIMIT:
            raise BundleError(f"{path} unpacks to more than {ZIP_LIMIT} bytes; keep a bundle this large as a folder")

    def _open(self, name: str) -> BinaryIO:
        return self._archive.open(name)  # type: ignore[return-value]  # an IO[bytes] is all that is used

    def _require_small_directory(self, file: BinaryIO) -> None:
        """Refuse a directory of millions of files before zipfile reads it into memory."""
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 2 * _ZIP_END))
        tail = file.read()
        end, before = tail[-_ZIP_END:], tail[:-_ZIP_END]
        if len(end) < _ZIP_END or not end.startswith(b"PK\x05\x06"):
            raise BundleError(f"{self.path} is not a bundle: expected a .qtn zip, whole and without comment; {RESTORE}")
        # A 64-bit zip has a locator of 20 bytes before the end record.
        if before[-20:].startswith(b"PK\x06\x07") or int.from_bytes(end[12:16], "little") > _ZIP_DIRECTORY:
            raise BundleError(f"{self.path} lists more files than a bundle holds; {RESTORE}")

    def _require_plain(self, member: zipfile.ZipInfo) -> None:
        mode = member.external_attr >> 16
        is_folder = member.filename.endswith("/")
        if is_folder or (stat.S_IFMT(mode) and not stat.S_ISREG(mode)):
            kind = "folder" if is_folder else _kind(mode)
            raise BundleError(f"{member.filename!r} in {self.path} is a {kind}; expected a plain file; {RESTORE}")
        if member.flag_bits & 1 or member.compress_type not in _ZIP_METHODS:
            raise BundleError(f"{member.filename!r} in {self.path} must be stored or deflated, without a password")
        if member.file_size > _ZIP_RATIO * max(member.compress_size, 1):
            raise BundleError(
                f"{member.filename!r} in {self.path} unpacks from {member.compress_size} to {member.file_size} bytes, "
                f"over {_ZIP_RATIO} times as many; a bundle is not that compressible; {RESTORE}"
            )


def _kind(mode: int) -> str:
    names = {stat.S_IFLNK: "link", stat.S_IFDIR: "folder"}
    return names.get(stat.S_IFMT(mode), "special file")
