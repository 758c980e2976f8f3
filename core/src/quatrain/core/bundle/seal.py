"""Sealing a trained model: one folder with everything needed to run it again and to check that it did."""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydantic import ValidationError

from quatrain.core.bundle import golden, manifest
from quatrain.core.bundle.manifest import (
    CARD,
    GOLDEN,
    MANIFEST,
    MODEL,
    SIGNATURE,
    WEIGHTS,
    BundleError,
    FileEntry,
    Manifest,
    TensorSpec,
)
from quatrain.core.bundle.open import Bundle, open_bundle
from quatrain.core.bundle.wire import require_self_contained
from quatrain.core.config import settings
from quatrain.core.errors import require
from quatrain.core.files import sync
from quatrain.core.trust import signing

# Packages whose versions decide what a model computes.
_SOFTWARE = ("quatrain-core", "numpy", "onnx", "onnxruntime", "torch", "lightgbm", "scikit-learn")

Arrays = Mapping[str, NDArray[Any]]


def seal(
    path: Path,
    *,
    name: str,
    task: str,
    onnx: bytes,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    golden_inputs: Arrays,
    golden_outputs: Arrays,
    card: str,
    golden_atol: float = 1e-4,
    metrics: Mapping[str, Mapping[str, float]] | None = None,
    intervals: Mapping[str, Mapping[str, tuple[float, float]]] | None = None,
    training: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    decision: Mapping[str, Any] | None = None,
    parent: str | None = None,
    compression: Mapping[str, Any] | None = None,
    weights: Arrays | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Return the signed bundle now at `path`: a folder that appears whole or not at all.

    Raises BundleError for an ONNX file that is not complete in itself or a path that is taken,
    ValueError for specs, golden arrays or metadata that contradict each other or are not finite.
    `overwrite` replaces an older bundle; anything else at `path` is left alone.
    """
    require_self_contained(onnx)
    contents = {MODEL: onnx, GOLDEN: golden.to_bytes(golden_inputs, golden_outputs), CARD: card.encode()}
    if weights is not None:
        contents[WEIGHTS] = require("safetensors.numpy", package="quatrain-core[train]").save(dict(weights))
    fields = {
        "name": name,
        "task": task,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "inputs": tuple(inputs),
        "outputs": tuple(outputs),
        "metrics": metrics or {},
        "intervals": intervals or {},
        "training": training or {},
        "data": data or {},
        "decision": decision or {},
        "parent": parent,
        "compression": compression or {},
        "software": _software(),
        "golden_atol": golden_atol,
        "files": {file: _entry(content) for file, content in contents.items()},
    }
    document = _manifest_bytes(fields)
    sizes: dict[str, int] = {}
    golden.require_matching(inputs, golden_inputs, sizes)
    golden.require_matching(outputs, golden_outputs, sizes)
    signature = signing.sign(document, keys_dir=settings().keys_dir)
    return _write(path, contents | {MANIFEST: document, SIGNATURE: signature}, overwrite=overwrite)


def _manifest_bytes(fields: Mapping[str, Any]) -> bytes:
    try:
        return manifest.to_bytes(Manifest.model_validate(fields))
    except ValidationError as error:
        raise ValueError(f"cannot seal {fields['name']}: {error}") from error


def _entry(content: bytes) -> FileEntry:
    return FileEntry(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def _software() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _SOFTWARE:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _write(path: Path, contents: Mapping[str, bytes], *, overwrite: bool) -> Bundle:
    _require_free(path, overwrite=overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
        temporary.mkdir()
        try:
            _fill(temporary, contents)
            open_bundle(temporary)
            _move(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise BundleError(
            f"cannot write the bundle {path}: {error.strerror}; free space, or choose another path"
        ) from error
    return open_bundle(path)


def _fill(folder: Path, contents: Mapping[str, bytes]) -> None:
    for name, content in contents.items():
        with (folder / name).open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    sync(folder)


def _require_free(path: Path, *, overwrite: bool) -> None:
    if not path.exists() and not path.is_symlink():
        return
    if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
        return
    if not overwrite:
        raise BundleError(f"{path} exists already; choose another path, or pass overwrite=True to replace a bundle")
    if path.is_symlink() or not (path / MANIFEST).is_file():
        raise BundleError(f"{path} is not a bundle folder, so it is not overwritten; choose another path")


def _move(temporary: Path, path: Path) -> None:
    if path.is_dir() and any(path.iterdir()):
        # rename cannot replace a folder that holds files, so the old bundle steps aside first.
        aside = path.with_name(f".{path.name}-old-{secrets.token_hex(8)}")
        path.rename(aside)
        try:
            temporary.rename(path)
        except OSError:
            aside.rename(path)
            raise
        shutil.rmtree(aside)
    else:
        temporary.rename(path)
    sync(path.parent)
