"""What works on this machine, what does not, and the command that mends it."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from quatrain.core import hardware, packages
from quatrain.core.config import Settings, settings
from quatrain.core.errors import MissingExtraError, UserError

# "missing" is optional and "warning" still works; only "broken" fails the examination.
Status = Literal["ok", "warning", "missing", "broken"]

_GIB = 2**30
# Below this a pulled data set or a training run may not fit.
_LOW_DISK_BYTES = 2 * _GIB
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# How long to wait for a ledger that a job is writing, in seconds.
_PATIENCE_S = 2.0
# The ONNX graph y = x over one float32, opset 18.
_IDENTITY = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a"
    "0a08080112040a020801620f0a0179120a0a08080112040a02080142040a001012"
)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One finding; `fix` is the command or change that helps, None where nothing needs help."""

    group: str
    name: str
    status: Status
    detail: str
    fix: str | None = None


def examine() -> list[Check]:
    """Return every finding about packages, machine, apps and storage; nothing of the user's is changed."""
    return [*_packages(), *_machine(), *_inference(), *_apps(), _browser(), *_storage()]


def _packages() -> Iterator[Check]:
    group = "Packages"
    yield Check(group=group, name="Python", status="ok", detail=platform.python_version())
    for dist in packages.quatrain_distributions():
        for needs in packages.needs_of(dist):
            present = ", ".join(f"{name} {version}" for name, version in needs.versions.items())
            if not needs.problems:
                detail = f"{dist.version}: {present}" if not needs.extra else present
                yield Check(group=group, name=needs.target, status="ok", detail=detail)
            else:
                yield Check(
                    group=group,
                    name=needs.target,
                    status="missing" if needs.extra else "broken",
                    detail=", ".join(needs.problems),
                    fix=needs.install_command,
                )


def _machine() -> Iterator[Check]:
    group = "Machine"
    yield Check(group=group, name="System", status="ok", detail=platform.platform())
    features = hardware.cpu_features()
    yield Check(
        group=group,
        name="CPU",
        status="ok",
        detail=f"{hardware.cpu_model()}: {', '.join(features) or 'no known instruction sets'}",
    )
    yield Check(group=group, name="Threads", status="ok", detail=_threads())
    yield Check(group=group, name="Memory", status="ok", detail=f"{hardware.memory_limit() / _GIB:.1f} GiB")
    yield _gpu(group)


def _threads() -> str:
    quota = hardware.cgroup_cpus()
    limits = [
        f"{os.cpu_count()} cores",
        f"affinity {hardware.allowed_cpus()}",
        "no cgroup quota" if quota is None else f"cgroup quota {quota:g}",
    ]
    return f"{hardware.cpu_limit()} are used ({', '.join(limits)})"


def _gpu(group: str) -> Check:
    try:
        found = hardware.gpus()
    except hardware.GpuQueryError as error:
        fix = "reinstall the NVIDIA driver, or leave it: everything runs on the CPU"
        return Check(group=group, name="GPU", status="warning", detail=str(error), fix=fix)
    names = [
        f"{gpu.name}{f' with {gpu.memory_bytes / _GIB:.0f} GiB' if gpu.memory_bytes else ''} (driver {gpu.driver})"
        for gpu in found
    ]
    return Check(group=group, name="GPU", status="ok", detail="; ".join(names) or "none; everything runs on the CPU")


def _inference() -> Iterator[Check]:
    """Run a graph: an installed ONNX Runtime may still lack a system library."""
    group, name = "Inference", "ONNX Runtime"
    try:
        import numpy as np
        import onnxruntime  # type: ignore[import-untyped]  # ships no types

        from quatrain.core.inference import open_session

        (answer,) = open_session(_IDENTITY).run(None, {"x": np.array([2.0], dtype=np.float32)})
    except (ImportError, OSError) as error:
        fix = "pip install --force-reinstall onnxruntime"
        yield Check(group=group, name=name, status="broken", detail=f"cannot be imported: {error}", fix=fix)
        return
    providers = ", ".join(
        provider.removesuffix("ExecutionProvider") for provider in onnxruntime.get_available_providers()
    )
    status: Status = "ok" if answer.tolist() == [2.0] else "broken"
    yield Check(group=group, name=name, status=status, detail=f"{onnxruntime.__version__} answers; has {providers}")


def _apps() -> Iterator[Check]:
    group = "Apps"
    points = sorted(entry_points(group="quatrain.apps"), key=lambda point: point.name)
    if not points:
        fix = "pip install an app, such as quatrain-fintech"
        yield Check(group=group, name="apps", status="warning", detail="none is installed", fix=fix)
    for point in points:
        package = point.dist.name if point.dist else point.module
        try:
            point.load()
        except Exception as error:
            # An app's import may raise anything, and this is the place that says what.
            detail = f"cannot be imported: {type(error).__name__}: {error}"
            fix = f"pip install --force-reinstall {package}"
            yield Check(group=group, name=point.name, status="broken", detail=detail, fix=fix)
        else:
            version = f" {point.dist.version}" if point.dist else ""
            yield Check(group=group, name=point.name, status="ok", detail=f"{package}{version}")


def _browser() -> Check:
    found = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if found:
        return Check(group="Tests", name="Chromium", status="ok", detail=found)
    fix = "apt-get install -y --no-install-recommends chromium"
    detail = "not found; only the browser tests need it"
    return Check(group="Tests", name="Chromium", status="missing", detail=detail, fix=fix)


def _storage() -> Iterator[Check]:
    group = "Storage"
    try:
        current = settings()
    except UserError as error:
        fix = "correct the config file that QUATRAIN_CONFIG names, or the QUATRAIN_CORE__ variables"
        yield Check(group=group, name="Settings", status="broken", detail=str(error), fix=fix)
        return
    yield _folder("Home", current.home, "QUATRAIN_CORE__HOME")
    yield _folder("Cache", current.cache, "QUATRAIN_CORE__CACHE")
    yield _store(current)
    yield _ledger(current)


def _folder(name: str, folder: Path, variable: str) -> Check:
    problem = _write_problem(folder)
    if problem:
        fix = f"make it writable, or set {variable} to a folder that is"
        return Check(group="Storage", name=name, status="broken", detail=problem, fix=fix)
    free = shutil.disk_usage(_nearest(folder)).free
    detail = f"{folder}: writable, {free / _GIB:.1f} GiB free"
    if free < _LOW_DISK_BYTES:
        fix = f"free some space, or set {variable} to a larger disk"
        return Check(group="Storage", name=name, status="warning", detail=detail, fix=fix)
    return Check(group="Storage", name=name, status="ok", detail=detail)


def _store(current: Settings) -> Check:
    from quatrain.core.store import Store

    group, name, url = "Storage", "Model store", current.store_url
    fix = "check the folder or URL in QUATRAIN_CORE__STORE, and its credentials"
    try:
        n_models = len(Store(url).names())
    except MissingExtraError as error:
        return Check(group=group, name=name, status="broken", detail=str(error), fix="install the package it names")
    except UserError as error:
        return Check(group=group, name=name, status="broken", detail=str(error), fix=fix)
    path = url.removeprefix("file://")
    problem = _remote_write_problem(url) if "://" in path else _write_problem(Path(path).expanduser())
    if problem:
        return Check(group=group, name=name, status="broken", detail=problem, fix=fix)
    models = f"{n_models} model{'' if n_models == 1 else 's'}"
    return Check(group=group, name=name, status="ok", detail=f"{url}: writable, {models}")


def _ledger(current: Settings) -> Check:
    """Reach the ledger without creating it, as the first job will."""
    group, name, url = "Storage", "Job ledger", current.ledger_url
    fix = "check QUATRAIN_CORE__LEDGER, and that this user may write there"
    try:
        problem, detail = _ledger_state(url)
    except MissingExtraError as error:
        return Check(
            group=group, name=name, status="broken", detail=str(error), fix="pip install 'quatrain-core[postgres]'"
        )
    except UserError as error:
        return Check(group=group, name=name, status="broken", detail=str(error), fix=fix)
    if problem:
        return Check(group=group, name=name, status="broken", detail=problem, fix=fix)
    return Check(group=group, name=name, status="ok", detail=detail)


def _ledger_state(url: str) -> tuple[str | None, str]:
    """Return (problem, detail); raises UserError for a ledger that cannot be reached."""
    import sqlalchemy as sa

    from quatrain.core.jobs.ledger import read_ledger
    from quatrain.core.jobs.tables import UNITS

    with read_ledger(url) as ledger:
        location = sa.make_url(url)
        where = location.render_as_string(hide_password=True)
        if location.get_backend_name() == "sqlite":
            return _sqlite_problem(Path(location.database or "")), f"{where}: writable"
        if ledger is None:
            return None, f"{where}: reachable, the first job makes its tables"
        may_write = sa.select(sa.func.has_table_privilege(UNITS.name, "INSERT"), sa.func.pg_is_in_recovery())
        (row,) = ledger.select(may_write)
        may_insert, is_replica = row.values()
    problem = f"{where} is a read-only replica" if is_replica else f"{where} may not be written by this user"
    return (None if may_insert and not is_replica else problem), f"{where}: writable"


def _sqlite_problem(file: Path) -> str | None:
    if not file.exists():
        return _write_problem(file.parent)
    try:
        with closing(
            sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=rw", uri=True, timeout=_PATIENCE_S)
        ) as link:
            link.execute("BEGIN IMMEDIATE")
            link.rollback()
    except sqlite3.Error as error:
        # A job that is writing proves more than this check could.
        return None if "locked" in str(error) else f"{file} cannot be written: {error}"
    return None


def _write_problem(folder: Path) -> str | None:
    """Return why nothing can be written in a folder that is there, or can be made."""
    nearest = _nearest(folder)
    if not nearest.is_dir():
        return f"{nearest} is not a folder"
    try:
        with tempfile.TemporaryFile(dir=nearest):
            return None
    except OSError as error:
        return f"{nearest} is not writable: {error.strerror}"


def _remote_write_problem(url: str) -> str | None:
    import secrets

    import fsspec  # type: ignore[import-untyped]  # it ships no types

    filesystem, root = fsspec.core.url_to_fs(url)
    probe = f"{str(root).rstrip('/')}/.doctor-{secrets.token_hex(8)}"
    try:
        if not filesystem.exists(root):
            return None  # the first publish makes it; making a bucket is not for an examination
        filesystem.pipe_file(probe, b"")
        filesystem.rm_file(probe)
    except OSError as error:
        return f"{url} is not writable: {error}"
    return None


def _nearest(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())
