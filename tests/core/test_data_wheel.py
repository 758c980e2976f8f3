"""One member out of a wheel: only that file, never more bytes than promised, nothing installed."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from quatrain.core.data import wheel as room
from quatrain.core.data.descriptor import WheelMember
from quatrain.core.data.download import UnreachableError
from quatrain.core.data.wheel import extract_member, fetch_member
from quatrain.core.errors import BadDataError

CONTENT = b"a,b\n1,2\n"
MEMBER = "quatrain_testset/data/set.csv"


def build_wheel(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Return a valid wheel of the distribution quatrain-testset that holds these files."""
    info = "quatrain_testset-1.0.dist-info"
    metadata = {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: quatrain-testset\nVersion: 1.0\nRequires-Python: <3\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    path = folder / "quatrain_testset-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**files, **metadata}.items():
            archive.writestr(name, content)
    return path


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Return a zip archive of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def member(name: str = MEMBER, *, inner: str | None = None, version: str = "1.0") -> WheelMember:
    """Return the source of one member of the test wheel."""
    return WheelMember(kind="wheel-member", package="quatrain-testset", version=version, member=name, inner=inner)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that is the package client's only registry."""
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_member_is_taken_from_the_registry_without_installing(registry: Path, tmp_path: Path) -> None:
    """The package client downloads the wheel; its code is not imported and nothing else is unpacked."""
    build_wheel(registry, {MEMBER: CONTENT, "quatrain_testset/__init__.py": b"raise SystemExit('imported')"})
    folder = tmp_path / "out"
    folder.mkdir()
    fetch_member(member(), folder / "set.csv", size=len(CONTENT), progress=False)
    assert (folder / "set.csv").read_bytes() == CONTENT
    assert [path.name for path in folder.iterdir()] == ["set.csv"]
    assert "quatrain_testset" not in sys.modules


def test_package_that_the_registry_lacks_is_reported(registry: Path, tmp_path: Path) -> None:
    """The client's own words are in the message."""
    build_wheel(registry, {MEMBER: CONTENT})
    with pytest.raises(UnreachableError, match=r"did not get quatrain-testset==2\.0: ERROR"):
        fetch_member(member(version="2.0"), tmp_path / "set.csv", size=10, progress=False)


def test_source_distribution_is_never_taken(registry: Path, tmp_path: Path) -> None:
    """Unpacking a source distribution would run its build script, so only wheels are accepted."""
    (registry / "quatrain_testset-1.0.tar.gz").write_bytes(b"not even an archive")
    with pytest.raises(UnreachableError, match="No matching distribution"):
        fetch_member(member(), tmp_path / "set.csv", size=10, progress=False)


def test_client_runs_outside_the_current_folder(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pip.py that lies in the current folder is not taken for pip."""
    build_wheel(registry, {MEMBER: CONTENT})
    (tmp_path / "pip.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    fetch_member(member(), tmp_path / "set.csv", size=len(CONTENT), progress=False)
    assert (tmp_path / "set.csv").read_bytes() == CONTENT


def test_uv_stands_in_where_pip_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment made by uv has no pip; uv runs it from outside."""
    monkeypatch.setattr(room, "_has_pip", lambda: False)
    monkeypatch.setattr(room.shutil, "which", lambda _name, **_: "/opt/uv")
    assert room._client() == ["/opt/uv", "tool", "run", "--python", sys.executable, "pip"]


def test_missing_client_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pip and uv the message names the command that brings pip."""
    monkeypatch.setattr(room, "_has_pip", lambda: False)
    monkeypatch.setattr(room.shutil, "which", lambda _name, **_: None)
    with pytest.raises(UnreachableError, match="python -m ensurepip"):
        room._client()


def test_file_inside_an_archive_inside_the_wheel_is_found(tmp_path: Path) -> None:
    """Many packages keep their data zipped: `inner` names the file in that zip."""
    wheel = build_wheel(tmp_path, {"p/set.csv.zip": zipped({"set.csv": CONTENT, "__MACOSX/._set.csv": b"x"})})
    extract_member(wheel, member("p/set.csv.zip", inner="set.csv"), tmp_path / "set.csv", size=len(CONTENT))
    assert (tmp_path / "set.csv").read_bytes() == CONTENT


def test_missing_member_names_the_nearest_one(tmp_path: Path) -> None:
    """A typing error in a descriptor is easy to mend."""
    wheel = build_wheel(tmp_path, {MEMBER: CONTENT})
    with pytest.raises(BadDataError, match=f"did you mean '{MEMBER}'"):
        extract_member(wheel, member("quatrain_testset/data/sets.csv"), tmp_path / "set.csv", size=10)


@pytest.mark.parametrize("inner", [None, "set.csv"])
def test_larger_member_is_stopped_at_the_size_expected(tmp_path: Path, inner: str | None) -> None:
    """A member that unpacks to more than the catalogue says never fills the disk."""
    bomb = b"0" * 5_000_000
    wheel = build_wheel(tmp_path, {"p/set.csv": bomb if inner is None else zipped({"set.csv": bomb})})
    with pytest.raises(BadDataError, match="more than the 1000 bytes"):
        extract_member(wheel, member("p/set.csv", inner=inner), tmp_path / "set.csv", size=1000)
    assert (tmp_path / "set.csv").stat().st_size <= 1000


def test_members_that_climb_out_are_never_written(tmp_path: Path) -> None:
    """Other members of the wheel, wherever they point, do not reach the disk."""
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    wheel = build_wheel(inside, {MEMBER: CONTENT, "../../evil.csv": b"x", "/evil.csv": b"x"})
    extract_member(wheel, member(), inside / "set.csv", size=len(CONTENT))
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"set.csv", wheel.name}


def test_damaged_wheel_is_reported(tmp_path: Path) -> None:
    """A wheel cut short is bad data, not a crash."""
    wheel = build_wheel(tmp_path, {MEMBER: CONTENT})
    wheel.write_bytes(wheel.read_bytes()[:-100])
    with pytest.raises(BadDataError, match="cannot be read"):
        extract_member(wheel, member(), tmp_path / "set.csv", size=10)


def test_flipped_byte_in_the_member_is_reported(tmp_path: Path) -> None:
    """The archive's own checksum is heeded as well."""
    wheel = build_wheel(tmp_path, {MEMBER: bytes(range(256))})
    content = bytearray(wheel.read_bytes())
    content[len(MEMBER) + 60] ^= 0xFF
    wheel.write_bytes(bytes(content))
    with pytest.raises(BadDataError, match="cannot be read"):
        extract_member(wheel, member(), tmp_path / "set.csv", size=256)
