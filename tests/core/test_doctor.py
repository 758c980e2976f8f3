"""`quatrain doctor`: what is broken is found, named with its fix, and fails the command; nothing is changed."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import EntryPoint, PathDistribution
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest
import typer
from typer.testing import CliRunner

from quatrain.core import doctor, hardware, packages
from quatrain.core.cli.doctor import doctor as command
from quatrain.core.doctor import Check
from quatrain.core.jobs.ledger import open_ledger

SOUND = Check(group="Packages", name="Python", status="ok", detail="3.12.1")
OPTIONAL = Check(
    group="Packages", name="quatrain-core[train]", status="missing", detail="torch is missing", fix="pip x"
)
BROKEN = Check(group="Apps", name="fintech", status="broken", detail="cannot be [imported]", fix="pip install y")


def found(checks: Iterator[Check], name: str) -> Check:
    """Return the check of that name."""
    return next(check for check in checks if check.name == name)


@pytest.fixture
def cli() -> Callable[..., Any]:
    """Return a function that runs the command with flags."""
    app = typer.Typer()
    app.command()(command)
    return lambda *flags: CliRunner().invoke(app, list(flags))


def test_a_sound_machine_has_nothing_broken_and_stays_as_it_was(quatrain_home: Path) -> None:
    """Packages, inference and storage of the machine that runs these tests work, and no folder is made."""
    checks = doctor.examine()
    broken = [check for check in checks if check.status == "broken" and check.group != "Apps"]
    assert broken == []
    assert found(iter(checks), "ONNX Runtime").detail.endswith("CPU")
    assert {"Packages", "Machine", "Inference", "Apps", "Tests", "Storage"} == {check.group for check in checks}
    assert not quatrain_home.exists()


def test_everything_not_ok_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finding without a fix would leave the reader alone."""
    monkeypatch.setenv("QUATRAIN_CORE__STORE", "no-such-protocol://bucket")
    monkeypatch.setenv("QUATRAIN_CORE__LEDGER", "mysql://host/db")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    checks = doctor.examine()
    assert {check.name for check in checks if check.status in {"broken", "missing"}} >= {"Model store", "Job ledger"}
    assert all(check.fix for check in checks if check.status != "ok")


def test_the_command_exits_0_unless_something_needed_is_broken(
    monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any]
) -> None:
    """A missing extra is not an illness; a broken app is."""
    monkeypatch.setattr(doctor, "examine", lambda: [SOUND, OPTIONAL])
    assert cli().exit_code == 0
    monkeypatch.setattr(doctor, "examine", lambda: [SOUND, OPTIONAL, BROKEN])
    result = cli()
    assert result.exit_code == 1
    assert "cannot be [imported]" in result.output
    assert "-> pip install y" in result.output
    assert "Broken: 1." in result.output


def test_json_is_one_object_with_the_machine(monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any]) -> None:
    """A script reads health, findings and machine from stdout."""
    monkeypatch.setattr(doctor, "examine", lambda: [SOUND, BROKEN])
    result = cli("--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert document["healthy"] is False
    assert document["checks"][1] == {
        "group": "Apps",
        "name": "fintech",
        "status": "broken",
        "detail": "cannot be [imported]",
        "fix": "pip install y",
    }
    assert document["machine"]["cpu_limit"] >= 1


def distribution(folder: Path, *requirements: str) -> PathDistribution:
    """Return an installed distribution quatrain-core that asks for `requirements`."""
    info = folder / "quatrain_core-9.0.dist-info"
    info.mkdir(parents=True)
    extras = ["train", "all"]
    lines = ["Metadata-Version: 2.4", "Name: quatrain-core", "Version: 9.0"]
    lines += [f"Provides-Extra: {extra}" for extra in extras] + [f"Requires-Dist: {text}" for text in requirements]
    (info / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return PathDistribution(info)


def test_missing_and_old_packages_are_named_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Needed packages break, extras are only missing; markers for other systems and joined extras do not count."""
    dist = distribution(
        tmp_path,
        "numpy>=1",
        "pydantic>=99",
        "no-such-package",
        "not-for-us; sys_platform == 'never'",
        "no-such-trainer>=2; extra == 'train'",
        "quatrain-core[train]; extra == 'all'",
    )
    monkeypatch.setattr(packages, "quatrain_distributions", lambda: [dist])
    checks = {check.name: check for check in doctor._packages()}
    assert set(checks) == {"Python", "quatrain-core", "quatrain-core[train]"}
    core, train = checks["quatrain-core"], checks["quatrain-core[train]"]
    assert core.status == "broken"
    assert core.detail.startswith("pydantic is ")
    assert core.detail.endswith(", needs >=99, no-such-package is missing")
    assert core.fix == "pip install --upgrade quatrain-core"
    assert (train.status, train.detail) == ("missing", "no-such-trainer is missing")
    assert train.fix == "pip install --upgrade 'quatrain-core[train]'"


def test_the_installed_distributions_start_with_core() -> None:
    """The workspace itself is found, by its real metadata."""
    names = [dist.name for dist in packages.quatrain_distributions()]
    assert names[0] == "quatrain-core"
    core = packages.needs_of(packages.quatrain_distributions()[0])
    extras = {"train", "compress", "dashboard", "explain", "openvino", "postgres", "search", "torchao", "vision"}
    assert {"", *extras} == {needs.extra for needs in core}
    assert "numpy" in core[0].versions


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("quatrain.core.no_such_module:app", "ModuleNotFoundError: No module named 'quatrain.core.no_such_module'"),
        ("quatrain.core.doctor:no_such_app", "AttributeError"),
    ],
)
def test_an_app_that_cannot_be_imported_is_broken(monkeypatch: pytest.MonkeyPatch, target: str, reason: str) -> None:
    """The front door only warns about such an app; the reason is here."""
    point = EntryPoint("fraud", target, "quatrain.apps")
    monkeypatch.setattr(doctor, "entry_points", lambda **_: [point])
    (check,) = doctor._apps()
    assert check.status == "broken"
    assert reason in check.detail
    assert check.fix is not None
    assert check.fix.startswith("pip install --force-reinstall quatrain")


def test_core_without_apps_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Core alone is a library; that is legal."""
    monkeypatch.setattr(doctor, "entry_points", lambda **_: [])
    (check,) = doctor._apps()
    assert check.status == "warning"


def test_an_onnx_runtime_that_cannot_be_imported_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package may still lack a system library."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (check,) = doctor._inference()
    assert check.status == "broken"
    assert check.fix == "pip install --force-reinstall onnxruntime"


def test_a_broken_driver_is_only_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything runs on the CPU."""

    def fail() -> tuple[hardware.Gpu, ...]:
        raise hardware.GpuQueryError("nvidia-smi failed: driver mismatch")

    monkeypatch.setattr(hardware, "gpus", fail)
    check = doctor._gpu("Machine")
    assert (check.status, check.detail) == ("warning", "nvidia-smi failed: driver mismatch")


def test_gpus_and_quota_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a person asks first when a job is slow."""
    gpu = hardware.Gpu(name="NVIDIA H200", memory_bytes=140 * 2**30, driver="590.10", compute_capability="9.0")
    monkeypatch.setattr(hardware, "gpus", lambda: (gpu, gpu))
    monkeypatch.setattr(hardware, "cgroup_cpus", lambda: 1.5)
    monkeypatch.setattr(hardware, "cpu_limit", lambda: 1)
    assert doctor._gpu("Machine").detail == "; ".join(["NVIDIA H200 with 140 GiB (driver 590.10)"] * 2)
    threads = found(doctor._machine(), "Threads").detail
    assert threads.startswith("1 are used")
    assert threads.endswith("cgroup quota 1.5)")


def test_wrong_settings_are_a_finding_and_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool that explains a broken set-up must survive it."""
    monkeypatch.setenv("QUATRAIN_CORE__HOEM", "somewhere")
    (check,) = doctor._storage()
    assert check.status == "broken"
    assert "did you mean 'home'" in check.detail


def test_a_home_that_is_a_file_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Home, store and ledger all live there."""
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    monkeypatch.setenv("QUATRAIN_CORE__HOME", str(file / "home"))
    checks = {check.name: check for check in doctor._storage()}
    assert [checks[name].status for name in ("Home", "Cache", "Model store", "Job ledger")] == [
        *("broken", "ok", "broken", "broken")
    ]
    assert checks["Home"].detail == f"{file} is not a folder"
    assert "QUATRAIN_CORE__HOME" in str(checks["Home"].fix)


def test_a_read_only_disk_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Permission bits do not show a read-only mount, so writing is tried."""

    def refuse(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    checks = list(doctor._storage())
    assert {check.status for check in checks} == {"broken"}
    assert all("not writable: Read-only file system" in check.detail for check in checks)


def test_a_disk_that_is_nearly_full_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing fails yet, and soon will."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**29))
    check = found(doctor._storage(), "Home")
    assert check.status == "warning"
    assert check.detail.endswith("0.5 GiB free")


def ledger_check(monkeypatch: pytest.MonkeyPatch, url: str) -> Check:
    """Return the finding about the ledger at `url`."""
    monkeypatch.setenv("QUATRAIN_CORE__LEDGER", url)
    return found(doctor._storage(), "Job ledger")


def test_a_ledger_in_use_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An existing ledger is opened for writing; one that a job is writing just now counts as writable."""
    monkeypatch.setattr(doctor, "_PATIENCE_S", 0.01)
    file = tmp_path / "ledger.db"
    with open_ledger(f"sqlite:///{file}"):
        pass
    before = file.read_bytes()
    assert ledger_check(monkeypatch, f"sqlite:///{file}").status == "ok"
    with closing(sqlite3.connect(file)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert ledger_check(monkeypatch, f"sqlite:///{file}").status == "ok"
        writer.rollback()
    assert file.read_bytes() == before


def test_a_file_that_is_no_ledger_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is the database's own."""
    file = tmp_path / "ledger.db"
    file.write_bytes(b"not a database, certainly" * 100)
    check = ledger_check(monkeypatch, f"sqlite:///{file}")
    assert check.status == "broken"
    assert "file is not a database" in check.detail


def test_a_server_that_does_not_answer_is_broken_and_its_password_stays_hidden(
    monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    """Reports are pasted into tickets."""
    pytest.importorskip("psycopg")
    check = ledger_check(monkeypatch, f"postgresql://someone:secret@127.0.0.1:{closed_port}/quatrain")
    assert check.status == "broken"
    assert "127.0.0.1" in check.detail
    assert "secret" not in check.detail


def test_a_remote_store_is_probed_and_left_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing is tried with an object of its own that is removed again; a store that is not there is not made."""
    filesystem = fsspec.filesystem("memory")
    filesystem.makedirs("/doctor-store", exist_ok=True)
    monkeypatch.setenv("QUATRAIN_CORE__STORE", "memory://doctor-store")
    assert found(doctor._storage(), "Model store").detail == "memory://doctor-store: writable, 0 models"
    assert filesystem.ls("/doctor-store") == []
    monkeypatch.setenv("QUATRAIN_CORE__STORE", "memory://doctor-none")
    assert found(doctor._storage(), "Model store").status == "ok"
    assert not filesystem.exists("/doctor-none")


def test_a_remote_store_without_write_access_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishing would fail after hours of training."""
    filesystem = fsspec.filesystem("memory")
    filesystem.makedirs("/doctor-read-only", exist_ok=True)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("access denied")

    monkeypatch.setattr(type(filesystem), "pipe_file", refuse)
    monkeypatch.setenv("QUATRAIN_CORE__STORE", "memory://doctor-read-only")
    check = found(doctor._storage(), "Model store")
    assert (check.status, check.detail) == ("broken", "memory://doctor-read-only is not writable: access denied")
