"""What was measured on this machine, kept: which backend is fastest for a model's batches, and which were refused."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from quatrain.core import hardware
from quatrain.core.config import Config, settings
from quatrain.core.errors import UserError

# Packages whose versions decide what is fast.
_PACKAGES = ("quatrain-core", "numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "torch")


class Choices(Config):
    """One tuning: the backend of each bucket, the seconds behind it, and the reason against each that was refused."""

    # All that the choice depends on; a kept choice with another key is stale.
    key: dict[str, Any]
    backends: dict[int, str]
    # Seconds per call by backend and bucket.
    seconds: dict[str, dict[int, float]]
    refused: dict[str, str]

    def text(self) -> str:
        """Return the choice on one line, such as "1 onnxruntime, 8 openvino"."""
        return ", ".join(f"{bucket} {name}" for bucket, name in sorted(self.backends.items()))


def key_of(digest: str, *, threads: int) -> dict[str, Any]:
    """Return what a choice for this bundle depends on: the machine, what it may use of it, and the versions."""
    return {"bundle": digest, "machine": fingerprint(), "threads": threads, "versions": _versions()}


def fingerprint() -> dict[str, Any]:
    """Return what of this machine decides which backend is fast."""
    try:
        gpus = [f"{gpu.name}, driver {gpu.driver}" for gpu in hardware.gpus()]
    except hardware.GpuQueryError:
        gpus = []
    return {"cpu": hardware.cpu_model(), "features": list(hardware.cpu_features()), "gpus": gpus}


def has_any(digest: str) -> bool:
    """Return whether anything was ever measured for this bundle here; costs one look into a folder."""
    return next(_folder().glob(f"{digest[:16]}-*.json"), None) is not None


def read(key: dict[str, Any]) -> Choices | None:
    """Return the kept choice of this key; None without one, or for one of another machine or version."""
    try:
        found = Choices.model_validate_json(_path(key).read_bytes())
    except (OSError, ValidationError):
        return None
    return found if found.key == key else None


def write(choices: Choices) -> Path:
    """Return the file that now keeps the choice, whole or not at all."""
    path = _path(choices.key)
    part = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        with part.open("xb") as stream:
            stream.write(choices.model_dump_json(indent=2).encode())
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise _cannot_write(error) from error
    return path


@contextmanager
def locked(key: dict[str, Any]) -> Iterator[None]:
    """Wait until this process alone may measure for this key: two at once would time each other."""
    from filelock import FileLock  # what only asks for a choice should not pay for it

    try:
        _folder().mkdir(parents=True, exist_ok=True)
        lock = FileLock(_path(key).with_suffix(".lock"))
        lock.acquire()
    except OSError as error:
        raise _cannot_write(error) from error
    try:
        yield
    finally:
        lock.release()


def _folder() -> Path:
    return settings().cache / "backends"


def _path(key: dict[str, Any]) -> Path:
    # Versions are not in the name, so that a new version's choice takes the place of the old one's.
    machine = hashlib.sha256(repr([key["machine"], key["threads"]]).encode()).hexdigest()
    return _folder() / f"{key['bundle'][:16]}-{machine[:16]}.json"


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cannot_write(error: OSError) -> UserError:
    return UserError(
        f"cannot keep what was measured in {_folder()}: {error.strerror}; "
        "set QUATRAIN_CORE__CACHE to a folder that you may write to"
    )
