"""Small files by key under a local folder or any fsspec URL: created once, replaced whole, locked to change."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from quatrain.core.errors import LockedError, MissingExtraError, UsageError, UserError

# Seconds that a writer waits for another one; a writer holds the lock for one upload.
_LOCK_SECONDS = 60.0
_LOCK = ".lock"


class Objects(Protocol):
    """Bytes under keys such as "fintech/fraud/versions/1.json"."""

    def read(self, key: str) -> bytes | None:
        """Return the bytes under `key`, or None."""

    def names(self, folder: str) -> list[str]:
        """Return the last part of every key directly under `folder`, sorted."""

    def create(self, key: str, content: bytes) -> bool:
        """Return whether `key` was free and now holds `content`; two callers never both get True."""

    def replace(self, key: str, content: bytes) -> None:
        """Put `content` under `key`, whole: a reader sees the old bytes or the new ones."""

    def local_path(self, key: str) -> Path:
        """Return where a large file under `key` lies, or is kept, on this machine."""

    def upload(self, key: str) -> None:
        """Make the file at `local_path(key)` what `key` holds."""

    def download(self, key: str, *, fresh: bool = False) -> Path:
        """Return `local_path(key)` with the file in it; `fresh` ignores an earlier copy."""

    def lock(self, folder: str) -> Any:
        """Hold all changes under `folder`, as a context manager; raises LockedError."""


def open_objects(url: str, *, cache: Path) -> Objects:
    """Return the files under `url`: a path, file:// or any URL that fsspec knows."""
    if url.startswith("file://"):
        return _Local(Path(url.removeprefix("file://")))
    if "://" not in url:
        return _Local(Path(url).expanduser())
    return _Remote(url, cache)


def write_whole(file: Path, content: bytes, *, replace: bool, mode: int = 0o666) -> None:
    """Write `content` to `file` whole or not at all; raises FileExistsError if it exists and `replace` is False.

    The umask takes its bits from `mode`, 0o600 for a secret.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}-{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb", opener=partial(os.open, mode=mode)) as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if replace:
            temporary.replace(file)
        else:
            os.link(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


class _Local:
    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, key: str) -> bytes | None:
        with _explained(str(self._root)):
            try:
                return (self._root / key).read_bytes()
            except FileNotFoundError:
                return None

    def names(self, folder: str) -> list[str]:
        with _explained(str(self._root)):
            try:
                found = [entry.name for entry in (self._root / folder).iterdir()]
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted(name for name in found if not name.startswith("."))

    def create(self, key: str, content: bytes) -> bool:
        with _explained(str(self._root)):
            try:
                write_whole(self._root / key, content, replace=False)
            except FileExistsError:
                return False
        return True

    def replace(self, key: str, content: bytes) -> None:
        with _explained(str(self._root)):
            write_whole(self._root / key, content, replace=True)

    def local_path(self, key: str) -> Path:
        return self._root / key

    def upload(self, key: str) -> None:
        """The file lies in the store already."""

    def download(self, key: str, *, fresh: bool = False) -> Path:  # noqa: ARG002 - there is only one copy
        return self._root / key

    @contextmanager
    def lock(self, folder: str) -> Iterator[None]:
        with _explained(str(self._root)), _file_lock(self._root / folder / _LOCK, what=folder):
            yield


class _Remote:
    def __init__(self, url: str, cache: Path) -> None:
        # 50 ms that a local store does not pay.
        import fsspec  # type: ignore[import-untyped]  # it ships no types

        try:
            self._fs, root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise MissingExtraError(f"cannot open the model store {url}: {error}") from error
        except ValueError as error:
            raise UsageError(f"the model store must be a folder or an fsspec URL, got {url!r}: {error}") from error
        self._url = url
        self._root = str(root).rstrip("/")
        # Two stores never share a cache entry.
        self._cache = cache / "store" / hashlib.sha256(url.encode()).hexdigest()[:16]

    def read(self, key: str) -> bytes | None:
        with _explained(self._url):
            try:
                return bytes(self._fs.cat_file(self._path(key)))
            except FileNotFoundError:
                return None

    def names(self, folder: str) -> list[str]:
        with _explained(self._url):
            self._fs.invalidate_cache()
            try:
                paths = self._fs.ls(self._path(folder), detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted({path.rstrip("/").rpartition("/")[2] for path in paths} - {"", folder.rpartition("/")[2]})

    def create(self, key: str, content: bytes) -> bool:
        path = self._path(key)
        with _explained(self._url):
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            try:
                self._fs.pipe_file(path, content, mode="create")
            except FileExistsError:
                return False
        return True

    def replace(self, key: str, content: bytes) -> None:
        path = self._path(key)
        with _explained(self._url):
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._fs.pipe_file(path, content)

    def local_path(self, key: str) -> Path:
        return self._cache / key

    def upload(self, key: str) -> None:
        path = self._path(key)
        with _explained(self._url):
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._fs.put_file(str(self.local_path(key)), path)

    def download(self, key: str, *, fresh: bool = False) -> Path:
        target = self.local_path(key)
        if target.is_file() and not fresh:
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}-{secrets.token_hex(8)}")
        try:
            with _explained(self._url):
                self._fs.get_file(self._path(key), str(temporary))
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return target

    @contextmanager
    def lock(self, folder: str) -> Iterator[None]:
        """Hold changes from this machine; between machines `create` decides and the last alias wins."""
        with _explained(str(self._cache)), _file_lock(self._cache / folder / _LOCK, what=folder):
            yield

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}" if key else self._root


@contextmanager
def _file_lock(file: Path, *, what: str) -> Iterator[None]:
    # 25 ms that readers do not pay.
    from filelock import FileLock, Timeout

    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(file, timeout=_LOCK_SECONDS):
            yield
    except Timeout as error:
        raise LockedError(
            f"another process has been changing {what} for over {_LOCK_SECONDS:.0f} s; wait for it and try again"
        ) from error


@contextmanager
def _explained(where: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot use the model store {where}: {error.strerror or error}; check access to it") from error
