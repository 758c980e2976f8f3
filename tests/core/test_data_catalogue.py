"""Generated sets, the user's own files, and what happens when the cache is not what it was."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from typer.testing import CliRunner

from quatrain.core import logs
from quatrain.core.cli.data import app
from quatrain.core.data import catalogue
from quatrain.core.data.cache import Place
from quatrain.core.data.digest import digest_of
from quatrain.core.errors import BadDataError, UsageError, UserError

HEAD = """
title = "A set"
app = "fintech"
task = "fraud"
licence = "CC0-1.0"
citation = "Nobody, 2026."
file = "set.csv"
"""
GENERATED = HEAD + 'synthetic = true\n[source]\nkind = "generated"\ngenerator = "test-rows"\nseed = 7\n'
USER_PATH = '\n[source]\nkind = "user-path"\ninstructions = "Ask the hospital for the images."\n'
GENERATOR = """
import random

def write_rows(path, *, seed, rows=3):
    generator = random.Random(seed)
    path.write_text("x\\n" + "".join(f"{generator.random()}\\n" for _ in range(rows)))
"""


@pytest.fixture(autouse=True)
def no_log_setup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the commands from changing the logging of the tests that follow."""
    monkeypatch.setattr(logs, "configure", lambda **_: None)


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder that is the catalogue."""
    folder = tmp_path / "sets"
    folder.mkdir()
    monkeypatch.setattr(catalogue, "SETS", folder)
    return folder


@pytest.fixture
def generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install a distribution with the generator `test-rows`; give the folder it lies in."""
    site = tmp_path / "site"
    info = site / "quatrain_testapp-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: quatrain-testapp\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[quatrain.generators]\ntest-rows = quatrain_testapp:write_rows\n")
    (site / "quatrain_testapp.py").write_text(GENERATOR)
    monkeypatch.syspath_prepend(site)
    yield site
    sys.modules.pop("quatrain_testapp", None)


def write_set(sets: Path, text: str, name: str = "a-set") -> None:
    """Add a set to the catalogue."""
    (sets / f"{name}.toml").write_text(text, encoding="utf-8")


def pinned(content: bytes) -> str:
    """Return a user-path descriptor that pins the digest of this content."""
    digest = hashlib.sha256(content).hexdigest()
    return HEAD + f'synthetic = false\nsha256 = "{digest}"\nsize = {len(content)}\n' + USER_PATH


def test_unknown_name_suggests_the_nearest() -> None:
    """A typing error in a set's name is easy to mend."""
    with pytest.raises(UsageError, match=r"no set 'ulb-creditcards'; did you mean 'ulb-creditcard'"):
        catalogue.describe("ulb-creditcards")


@pytest.mark.usefixtures("generator")
def test_generated_set_is_reproducible_for_its_seed(sets: Path, tmp_path: Path) -> None:
    """Two machines generate the same bytes; another seed gives others."""
    write_set(sets, GENERATED)
    first = catalogue.pull("a-set", cache=tmp_path / "one").read_bytes()
    assert catalogue.pull("a-set", cache=tmp_path / "two").read_bytes() == first
    write_set(sets, GENERATED.replace("seed = 7", "seed = 8"))
    assert catalogue.pull("a-set", cache=tmp_path / "three").read_bytes() != first


@pytest.mark.usefixtures("generator")
def test_changed_options_generate_the_set_again(sets: Path) -> None:
    """A cached set is used only while it is what the descriptor would generate."""
    write_set(sets, GENERATED)
    assert len(catalogue.pull("a-set").read_text().splitlines()) == 4
    write_set(sets, GENERATED + "[source.options]\nrows = 5\n")
    assert catalogue.held("a-set") is None
    assert len(catalogue.pull("a-set").read_text().splitlines()) == 6


def test_new_version_of_the_app_generates_the_set_again(sets: Path, generator: Path) -> None:
    """A newer simulator may write other rows, so its version is part of what is cached."""
    write_set(sets, GENERATED)
    catalogue.pull("a-set")
    info = generator / "quatrain_testapp-1.0.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: quatrain-testapp\nVersion: 1.1\n")
    assert catalogue.held("a-set") is None


@pytest.mark.usefixtures("generator")
def test_generator_that_fails_leaves_nothing_that_looks_complete(sets: Path) -> None:
    """A set exists in the cache only once it is whole."""
    write_set(sets, GENERATED + '[source.options]\nrows = "many"\n')
    with pytest.raises(TypeError, match="str"):
        catalogue.pull("a-set")
    assert catalogue.held("a-set") is None


@pytest.mark.usefixtures("generator")
def test_work_left_by_a_killed_pull_is_cleared(sets: Path, tmp_path: Path) -> None:
    """What a kill left behind does not get into the set."""
    write_set(sets, GENERATED)
    staging = tmp_path / "quatrain-cache" / "data" / "a-set.staging"
    staging.mkdir(parents=True)
    (staging / "set.csv").write_text("half a")
    path = catalogue.pull("a-set")
    assert {entry.name for entry in path.parent.iterdir()} == {"set.csv", "record.json"}
    assert len(path.read_text().splitlines()) == 4
    assert not staging.exists()


def test_generator_that_writes_nothing_is_reported(sets: Path, generator: Path) -> None:
    """An app whose generator forgets its file is told so."""
    (generator / "quatrain_testapp.py").write_text("def write_rows(path, *, seed): pass\n")
    write_set(sets, GENERATED)
    with pytest.raises(BadDataError, match=r"set\.csv was expected to be a file or a folder"):
        catalogue.pull("a-set")


def test_generator_of_an_app_that_is_not_installed_names_the_package(sets: Path) -> None:
    """The message holds the command that brings the generator."""
    write_set(sets, GENERATED.replace("test-rows", "no-such-generator"))
    with pytest.raises(UserError, match="pip install quatrain-fintech"):
        catalogue.pull("a-set")


@pytest.mark.usefixtures("generator")
def test_generated_set_cannot_be_supplied_by_hand(sets: Path, tmp_path: Path) -> None:
    """No digest could prove that the file is the set."""
    write_set(sets, GENERATED)
    (tmp_path / "mine.csv").write_text("x\n")
    with pytest.raises(UsageError, match="run without --from"):
        catalogue.pull("a-set", supplied=tmp_path / "mine.csv")


def test_shipped_generated_set_is_reproducible(tmp_path: Path) -> None:
    """The generator of handbook-like writes the same bytes for a seed."""
    from quatrain.core.data.cache import generator
    from quatrain.core.data.descriptor import Generated

    source = catalogue.describe("handbook-like").source
    assert isinstance(source, Generated)
    point = generator(source)
    assert point is not None
    for name in ("one", "two"):
        point.load()(tmp_path / name, seed=source.seed, customers=20, terminals=40, days=5)
    assert digest_of(tmp_path / "one") == digest_of(tmp_path / "two")


def test_changed_file_in_the_cache_is_refused(sets: Path, tmp_path: Path) -> None:
    """A file that was edited after it was pulled is not the set any more."""
    write_set(sets, pinned(b"x\n1\n"))
    (tmp_path / "mine.csv").write_bytes(b"x\n1\n")
    path = catalogue.pull("a-set", supplied=tmp_path / "mine.csv")
    path.write_bytes(b"x\n2\n")
    for check in (catalogue.pull, catalogue.verify):
        with pytest.raises(BadDataError, match=r"was changed after it was pulled.*--force"):
            check("a-set")


def test_forced_pull_replaces_a_changed_file(sets: Path, generator: Path) -> None:
    """--force mends a cache that is not what it was."""
    assert generator.is_dir()
    write_set(sets, GENERATED)
    path = catalogue.pull("a-set")
    good = path.read_bytes()
    path.write_bytes(b"x\n")
    assert catalogue.pull("a-set", force=True).read_bytes() == good
    assert {entry.name for entry in path.parent.parent.iterdir()} == {"a-set", "a-set.lock"}


def test_supplied_file_with_a_wrong_digest_is_refused(sets: Path, tmp_path: Path) -> None:
    """A copy got by hand is held to the same digest, and is left alone."""
    write_set(sets, pinned(b"x\n1\n"))
    mine = tmp_path / "mine.csv"
    mine.write_bytes(b"x\n2\n")
    with pytest.raises(BadDataError, match=r"mine\.csv is not a-set: expected sha256"):
        catalogue.pull("a-set", supplied=mine)
    assert mine.exists()
    assert catalogue.held("a-set") is None


def test_supplied_path_must_exist(sets: Path, tmp_path: Path) -> None:
    """A typing error after --from is a usage error."""
    write_set(sets, pinned(b"x"))
    with pytest.raises(UsageError, match="does not exist"):
        catalogue.pull("a-set", supplied=tmp_path / "nowhere.csv")


def test_user_path_set_tells_how_to_get_it(sets: Path) -> None:
    """What Quatrain may not fetch, it explains: who has it, the flag and the variable."""
    write_set(sets, pinned(b"x"))
    with pytest.raises(UserError, match=r"(?s)Ask the hospital.*--from PATH.*QUATRAIN_DATA__A_SET=PATH"):
        catalogue.pull("a-set")


def test_users_folder_is_used_in_place(sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large folder is not copied: the variable points to it."""
    write_set(sets, HEAD + "synthetic = false\n" + USER_PATH)
    folder = tmp_path / "images"
    folder.mkdir()
    monkeypatch.setenv("QUATRAIN_DATA__A_SET", str(folder))
    assert catalogue.pull("a-set") == catalogue.verify("a-set") == catalogue.held("a-set") == folder


def test_users_file_is_checked_where_the_digest_is_known(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pointing to the wrong file is noticed."""
    write_set(sets, pinned(b"right"))
    (tmp_path / "mine.csv").write_bytes(b"wrong")
    monkeypatch.setenv("QUATRAIN_DATA__A_SET", str(tmp_path / "mine.csv"))
    with pytest.raises(BadDataError, match="is not a-set"):
        catalogue.pull("a-set")


def test_users_variable_must_point_somewhere(sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stale variable is named in the message."""
    write_set(sets, pinned(b"x"))
    monkeypatch.setenv("QUATRAIN_DATA__A_SET", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"QUATRAIN_DATA__A_SET points to .*nowhere"):
        catalogue.pull("a-set")


def test_supplied_folder_is_copied_and_checked(sets: Path, tmp_path: Path) -> None:
    """A set may be a folder; its digest is that of its listing."""
    folder = tmp_path / "images"
    (folder / "good").mkdir(parents=True)
    (folder / "good" / "1.png").write_bytes(b"one")
    sha256, size = digest_of(folder)
    text = HEAD.replace("set.csv", "images") + f'synthetic = false\nsha256 = "{sha256}"\nsize = {size}\n' + USER_PATH
    write_set(sets, text)
    assert (catalogue.pull("a-set", supplied=folder) / "good" / "1.png").read_bytes() == b"one"


def test_folder_digest_is_that_of_its_sha256sum_listing(tmp_path: Path) -> None:
    """The digest can be checked with the system's own tools."""
    (tmp_path / "b").mkdir()
    for name, content in {"a.txt": b"1", "b/c.txt": b"22"}.items():
        (tmp_path / name).write_bytes(content)
    lines = [f"{hashlib.sha256(c).hexdigest()}  {n}\n" for n, c in {"a.txt": b"1", "b/c.txt": b"22"}.items()]
    assert digest_of(tmp_path) == (hashlib.sha256("".join(lines).encode()).hexdigest(), 3)


def test_folder_with_a_link_has_no_digest(tmp_path: Path) -> None:
    """What a link points to may change without the set changing."""
    (tmp_path / "link").symlink_to("/etc/hostname")
    with pytest.raises(BadDataError, match="is a link"):
        digest_of(tmp_path)


@pytest.mark.usefixtures("generator")
def test_cached_set_needs_no_lock(sets: Path, tmp_path: Path) -> None:
    """A cache filled by someone else may be read-only, or being written to by another process."""
    write_set(sets, GENERATED)
    path = catalogue.pull("a-set")
    with FileLock(tmp_path / "quatrain-cache" / "data" / "a-set.lock"):
        assert catalogue.pull("a-set") == path


@pytest.mark.usefixtures("generator")
def test_cache_that_cannot_be_written_names_the_setting(sets: Path, tmp_path: Path) -> None:
    """The message says which variable moves the cache."""
    write_set(sets, GENERATED)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="QUATRAIN_CORE__CACHE"):
        catalogue.pull("a-set", cache=tmp_path / "file")


def test_disk_without_room_is_noticed_before_the_download(sets: Path, tmp_path: Path) -> None:
    """A set larger than the free space is refused with both numbers."""
    write_set(sets, pinned(b"x").replace("size = 1\n", f"size = {10**18}\n"))
    place = Place(descriptor=catalogue.describe("a-set"), root=tmp_path / "data")
    with pytest.raises(UserError, match=r"needs \d+ MB in .*, \d+ MB are free"):
        place.prepare()


def test_find_takes_a_path_or_a_name(sets: Path, generator: Path, tmp_path: Path) -> None:
    """`--data` is a set of the catalogue, a file or a folder."""
    assert generator.is_dir()
    write_set(sets, GENERATED)
    (tmp_path / "mine.csv").write_text("x\n")
    assert catalogue.find(str(tmp_path / "mine.csv")) == tmp_path / "mine.csv"
    assert catalogue.find(str(tmp_path)) == tmp_path
    assert catalogue.find("a-set") == catalogue.verify("a-set")
    with pytest.raises(UsageError, match=r"'a-sett' is neither .*did you mean 'a-set'"):
        catalogue.find("a-sett")


def run(*arguments: str, exit_code: int = 0) -> str:
    """Return what `quatrain data` printed on stdout."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == exit_code, result.output
    return result.stdout


@pytest.mark.usefixtures("generator")
def test_commands_print_one_json_object(sets: Path, tmp_path: Path) -> None:
    """list, show, pull and verify can be read by a machine."""
    write_set(sets, GENERATED)
    listed = json.loads(run("list", "--json"))["sets"]
    assert [(row["name"], row["path"]) for row in listed] == [("a-set", None)]
    pulled = json.loads(run("pull", "a-set", "--json"))
    assert Path(pulled["path"]).is_relative_to(tmp_path / "quatrain-cache")
    assert json.loads(run("show", "a-set", "--json"))["path"] == pulled["path"]
    assert json.loads(run("verify", "--json"))["sets"] == [
        {"name": "a-set", "ok": True, "path": pulled["path"], "problem": None}
    ]


def test_commands_print_text_for_a_person() -> None:
    """The shipped catalogue lists and shows every set with its licence."""
    listed = run("list")
    for name in catalogue.names():
        assert name in listed
        shown = run("show", name)
        assert f"licence: {catalogue.describe(name).licence}" in shown


def test_verify_exits_65_when_a_set_was_changed(sets: Path, tmp_path: Path) -> None:
    """A cron job can tell a damaged set from a missing one."""
    write_set(sets, pinned(b"x"))
    assert "run `quatrain data pull a-set`" in run("verify", "a-set", exit_code=1)
    (tmp_path / "mine.csv").write_bytes(b"x")
    run("pull", "a-set", "--from", str(tmp_path / "mine.csv"))
    catalogue.verify("a-set").write_bytes(b"y")
    assert "was changed" in run("verify", exit_code=65)


def test_verify_of_an_empty_cache_says_so(sets: Path) -> None:
    """Nothing to verify is no failure."""
    assert list(sets.iterdir()) == []
    assert run("verify") == ""
