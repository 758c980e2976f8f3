"""The .qtn zip: read in memory, never unpacked to disk, and refused before it can grow."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from quatrain.core.bundle import source
from quatrain.core.bundle.manifest import BundleError
from quatrain.core.bundle.open import Bundle, open_bundle, pack

Seal = Callable[..., Bundle]


@pytest.fixture
def packed(seal_doubling: Seal, tmp_path: Path) -> Path:
    """Return a valid .qtn file."""
    return pack(seal_doubling(), tmp_path / "doubling.qtn")


def _rewritten(packed: Path, *, method: int = zipfile.ZIP_STORED, **replaced: bytes) -> Path:
    """Write the zip again with another method, and members replaced or added by their stem."""
    with zipfile.ZipFile(packed) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    contents |= {f"{stem}.md": content for stem, content in replaced.items()}
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return packed


def _with_member(packed: Path, member: zipfile.ZipInfo | str, content: bytes = b"") -> Path:
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr(member, content)
    return packed


def test_a_packed_bundle_is_the_same_bundle(seal_doubling: Seal, tmp_path: Path) -> None:
    """Folder and zip have one digest, and packing twice gives the same bytes."""
    bundle = seal_doubling()
    first = pack(bundle, tmp_path / "a.qtn")
    again = open_bundle(first)
    assert (again.digest, again.onnx, again.card) == (bundle.digest, bundle.onnx, bundle.card)
    assert again.weights()["two"].tolist() == [2.0]
    second = pack(again, tmp_path / "b.qtn")
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["a.qtn", "b.qtn"]


def test_a_bundle_that_changed_is_not_packed(seal_doubling: Seal, tmp_path: Path) -> None:
    """What is packed is what was opened."""
    bundle = seal_doubling()
    seal_doubling(card="# New\n", overwrite=True)
    with pytest.raises(BundleError, match="has changed since it was opened"):
        pack(bundle, tmp_path / "a.qtn")
    assert not list(tmp_path.glob("*.qtn"))


def test_a_bundle_too_large_for_a_zip_is_told_so(
    seal_doubling: Seal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packing refuses before it reads gigabytes into memory."""
    monkeypatch.setattr("quatrain.core.bundle.open.ZIP_LIMIT", 1000)
    with pytest.raises(BundleError, match=r"over 1000 bytes, more than a \.qtn holds; keep it as a folder"):
        pack(seal_doubling(), tmp_path / "a.qtn")


def test_a_full_disk_leaves_the_old_zip(seal_doubling: Seal, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packing over a zip replaces it whole or not at all."""
    before = packed.read_bytes()
    bundle = seal_doubling(card="# New\n", overwrite=True)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BundleError, match=r"cannot write .*doubling\.qtn: No space left on device"):
        pack(bundle, packed)
    assert packed.read_bytes() == before


def test_a_deflated_zip_made_by_hand_opens(packed: Path) -> None:
    """Any zip tool may pack a bundle's files."""
    assert open_bundle(_rewritten(packed, method=zipfile.ZIP_DEFLATED)).manifest.name == "fintech/fraud"


def test_nothing_is_unpacked(packed: Path, tmp_path: Path) -> None:
    """Opening a zip writes no file anywhere under the home, the cache or beside it."""
    before = sorted(tmp_path.rglob("*"))
    open_bundle(packed).weights()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../evil", "C:\\evil", "sub/model.onnx", ".hidden"])
def test_a_path_in_the_zip_is_refused(packed: Path, name: str) -> None:
    """Only the names of a bundle's files are read."""
    with pytest.raises(BundleError, match=r"holds '.*', which is not part of a bundle"):
        open_bundle(_with_member(packed, name))


def test_a_link_in_the_zip_is_refused(packed: Path) -> None:
    """A zip can hold a symbolic link under any name."""
    member = zipfile.ZipInfo("CARD.md")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.warns(UserWarning, match="Duplicate name"):
        _with_member(packed, member, b"/etc/passwd")
    with pytest.raises(BundleError, match=r"'CARD\.md' in .* is a link; expected a plain file"):
        open_bundle(packed)


def test_a_folder_in_the_zip_is_refused(packed: Path) -> None:
    """A zip of the folder instead of its files is told apart."""
    with pytest.raises(BundleError, match=r"'doubling/' in .* is a folder"):
        open_bundle(_with_member(packed, "doubling/"))


def test_a_file_twice_in_the_zip_is_refused(packed: Path) -> None:
    """Two readers could pick different ones."""
    with pytest.warns(UserWarning, match="Duplicate name"):
        _with_member(packed, "CARD.md", b"# Another\n")
    with pytest.raises(BundleError, match=r"holds CARD\.md twice"):
        open_bundle(packed)


def test_a_bomb_is_refused_by_its_ratio(packed: Path) -> None:
    """Four megabytes of zeros from four kilobytes are not a card."""
    _rewritten(packed, method=zipfile.ZIP_DEFLATED, CARD=bytes(4 << 20))
    with pytest.raises(BundleError, match=r"'CARD\.md' in .* unpacks from \d+ to 4194304 bytes, over 100 times"):
        open_bundle(packed)


def test_a_bomb_is_refused_by_its_size(packed: Path) -> None:
    """Each file has its own limit, whatever it says in the manifest."""
    _rewritten(packed, CARD=bytes((4 << 20) + 1))
    with pytest.raises(BundleError, match=r"CARD\.md in .* has 4194305 bytes, more than the 4194304 allowed"):
        open_bundle(packed)


def test_a_bomb_is_refused_by_its_total(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All files together have a limit too."""
    monkeypatch.setattr(source, "ZIP_LIMIT", 1000)
    with pytest.raises(BundleError, match="unpacks to more than 1000 bytes; keep a bundle this large as a folder"):
        open_bundle(packed)


def test_a_bomb_is_refused_by_its_count(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of names are refused before zipfile makes an object of each."""
    with zipfile.ZipFile(packed, "a") as archive:
        for index in range(2000):
            archive.writestr(f"{index}", b"")

    def unreachable(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(zipfile, "ZipFile", unreachable)
    with pytest.raises(BundleError, match="lists more files than a bundle holds"):
        open_bundle(packed)


def test_a_zip_that_understates_a_size_is_refused(packed: Path) -> None:
    """A member that unpacks to more than it says is cut off and then fails its checksum."""
    with zipfile.ZipFile(
        _rewritten(packed, method=zipfile.ZIP_DEFLATED, CARD=b"# Doubles its input, twice\n" * 9)
    ) as z:
        size = z.getinfo("CARD.md").file_size
    content = packed.read_bytes()
    start = content.rindex(b"PK\x01\x02", 0, content.rindex(b"CARD.md"))
    assert content[start + 24 : start + 28] == size.to_bytes(4, "little")
    packed.write_bytes(content[: start + 24] + (20).to_bytes(4, "little") + content[start + 28 :])
    with pytest.raises(BundleError, match=r"CARD\.md in .*(is damaged|is not the file that was sealed)"):
        open_bundle(packed)


def test_a_large_zip_format_is_refused(packed: Path) -> None:
    """A 64-bit directory could hide a count that the 32-bit one does not show."""
    content = packed.read_bytes()
    packed.write_bytes(content[:-22] + b"PK\x06\x07" + bytes(16) + content[-22:])
    with pytest.raises(BundleError, match="lists more files than a bundle holds"):
        open_bundle(packed)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_rare_compression_is_refused(packed: Path, method: int) -> None:
    """Only what every zip tool writes is read."""
    with pytest.raises(BundleError, match="must be stored or deflated, without a password"):
        open_bundle(_rewritten(packed, method=method))


def test_a_comment_is_refused(packed: Path) -> None:
    """The end of the file is where a second directory would hide."""
    with zipfile.ZipFile(packed, "a") as archive:
        archive.comment = b"hello"
    with pytest.raises(BundleError, match=r"expected a \.qtn zip, whole and without comment"):
        open_bundle(packed)


def test_a_truncated_zip_is_refused_at_every_length(packed: Path) -> None:
    """A download that stopped anywhere is told to be repeated."""
    content = packed.read_bytes()
    for length in range(0, len(content), 61):
        packed.write_bytes(content[:length])
        with pytest.raises(BundleError, match="copy the bundle again"):
            open_bundle(packed)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=3))
def test_a_damaged_zip_is_refused_or_unharmed(packed: Path, edits: list[tuple[float, int]]) -> None:
    """Changed bytes are either noticed or in a place that changes nothing."""
    whole = packed.read_bytes()
    bundle = open_bundle(packed)
    content = bytearray(whole)
    for where, value in edits:
        content[int(where * len(content))] = value
    try:
        packed.write_bytes(content)
        assert open_bundle(packed) == bundle
    except BundleError:
        pass
    finally:
        packed.write_bytes(whole)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_random_bytes_are_no_bundle(tmp_path: Path, content: bytes) -> None:
    """Neither alone nor before the end record of a zip."""
    file = tmp_path / "random.qtn"
    stream = io.BytesIO()
    zipfile.ZipFile(stream, "w").close()
    for body in (content, content + stream.getvalue()):
        file.write_bytes(body)
        with pytest.raises(BundleError, match="bundle"):
            open_bundle(file)
