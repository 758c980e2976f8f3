"""The store: names that are no paths, versions that never collide, aliases that change whole or not at all."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from quatrain.core import objects
from quatrain.core.bundle.manifest import BundleError
from quatrain.core.bundle.open import Bundle, open_bundle
from quatrain.core.config import settings
from quatrain.core.errors import LockedError, UsageError, UserError
from quatrain.core.store import Reference, Store, StoreError

Seal = Callable[..., Bundle]
MakeBundle = Callable[[str], Bundle]

_NAME = "fintech/fraud"


@pytest.fixture(params=["path", "file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the address of an empty store, of each kind."""
    yield {"path": str(tmp_path / "store"), "file": f"file://{tmp_path}/store", "memory": "memory://store"}[
        request.param
    ]
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture
def bundle(seal_doubling: Seal, tmp_path: Path) -> MakeBundle:
    """Return a function that seals a bundle told from others by its card."""

    def make(card: str) -> Bundle:
        return seal_doubling(tmp_path / f"bundle-{card}", card=card)

    return make


def _names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _run(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_versions_count_up_and_references_find_them(url: str, bundle: MakeBundle) -> None:
    """The newest, a number and an alias each mean what they say."""
    store = Store(url)
    assert store.names() == []
    first, second = bundle("one"), bundle("two")
    assert store.publish(first, alias="prod").reference == f"{_NAME}:1"
    assert store.publish(second).reference == f"{_NAME}:2"
    again = Store(url)
    assert again.names() == [_NAME]
    assert [version.number for version in again.versions(_NAME)] == [1, 2]
    assert again.aliases(_NAME) == {"prod": 1}
    assert again.open(_NAME).card == "two"
    assert again.open(f"{_NAME}:1").digest == first.digest
    assert again.open(f"{_NAME}@prod").card == "one"
    assert open_bundle(again.resolve(f"{_NAME}:2")).digest == second.digest


def test_publishing_twice_gives_one_version(url: str, bundle: MakeBundle) -> None:
    """A publisher that runs again after a crash changes nothing."""
    store = Store(url)
    sealed = bundle("one")
    first = store.publish(sealed)
    assert store.publish(sealed, alias="prod") == first
    assert len(store.versions(_NAME)) == 1
    assert store.aliases(_NAME) == {"prod": 1}


def test_promotion_and_rollback_keep_their_history(url: str, bundle: MakeBundle) -> None:
    """Rolling back twice goes two promotions back, and every step is recorded."""
    store = Store(url)
    for card in ("one", "two", "three"):
        store.publish(bundle(card))
    for number in (1, 3, 3, 2):
        store.promote(_NAME, number)
    assert store.rollback(_NAME).number == 3
    assert store.rollback(_NAME).number == 1
    with pytest.raises(StoreError, match=r"fraud@prod has had no version before 1"):
        store.rollback(_NAME)
    store.promote(_NAME, 2)
    assert store.rollback(_NAME).number == 1
    events = [(event.action, event.version) for event in store.history(_NAME)]
    assert events == [
        ("promote", 1),
        ("promote", 3),
        ("promote", 2),
        ("rollback", 3),
        ("rollback", 1),
        ("promote", 2),
        ("rollback", 1),
    ]
    assert all(event.by and event.at.endswith("+00:00") for event in store.history(_NAME))


def test_aliases_are_independent(url: str, bundle: MakeBundle) -> None:
    """Promoting a challenger leaves prod alone."""
    store = Store(url)
    store.publish(bundle("one"), alias="prod")
    store.publish(bundle("two"), alias="challenger")
    assert store.aliases(_NAME) == {"challenger": 2, "prod": 1}
    assert [event.version for event in store.history(_NAME, "challenger")] == [2]


def test_what_is_not_there_is_explained(url: str, bundle: MakeBundle) -> None:
    """Each message names the nearest thing that is there."""
    store = Store(url)
    with pytest.raises(StoreError, match=r"no model fintech/fraud in .*; run the app's `train` command"):
        store.open(_NAME)
    store.publish(bundle("one"))
    store.publish(bundle("two"), alias="prod")
    with pytest.raises(StoreError, match=r"no model fintech/fruad in .*; did you mean 'fintech/fraud'"):
        store.open("fintech/fruad")
    with pytest.raises(StoreError, match=r"has no version 3 in .*; it has 1 to 2"):
        store.open(f"{_NAME}:3")
    with pytest.raises(StoreError, match=r"has no version 3 in .*; it has 1 to 2"):
        store.promote(_NAME, 3)
    with pytest.raises(StoreError, match=r"no alias 'prd' in .*; did you mean 'prod'.*quatrain models promote"):
        store.open(f"{_NAME}@prd")
    with pytest.raises(StoreError, match="no model fintech/other"):
        store.rollback("fintech/other")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "fraud",
        "/fintech/fraud",
        "../fraud",
        "fintech/..",
        "fintech/../../etc",
        "fintech//fraud",
        "fintech/fraud/",
        "./fraud",
        "fintech/fraud\n",
        "Fintech/Fraud",
        "fintech/fr aud",
        "fintech\\fraud",
        "fintech/frаud",  # noqa: RUF001 - the Cyrillic letter is the point
        "fintech/.fraud",
        "fintech/" + "x" * 65,
        "C:/fraud",
        "\0/fraud",
        "~/fraud",
        "file:///etc/fraud",
    ],
)
def test_a_name_that_could_be_a_path_is_refused(tmp_path: Path, name: str) -> None:
    """No name reaches the file system unless it is app/model in plain letters."""
    store = Store(str(tmp_path / "store"))
    for call in (store.versions, store.aliases, store.history, store.open, store.resolve, store.verify, store.rollback):
        with pytest.raises(UsageError, match="expected a model"):
            call(name)
    with pytest.raises(UsageError, match="expected a model"):
        store.promote(name, 1)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("alias", ["", "1", "../prod", "Prod", "prod/x", ".prod", "x" * 33, "prod\n"])
def test_an_alias_that_could_be_a_path_is_refused(tmp_path: Path, bundle: MakeBundle, alias: str) -> None:
    """An alias is a file name in the store, so it is checked like one, before anything is written."""
    store = Store(str(tmp_path / "store"))
    sealed = bundle("one")
    for call in (
        lambda: store.publish(sealed, alias=alias),
        lambda: store.promote(_NAME, 1, alias=alias),
        lambda: store.rollback(_NAME, alias=alias),
        lambda: store.history(_NAME, alias),
    ):
        with pytest.raises(UsageError, match="an alias starts with a letter"):
            call()
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    "text", ["fintech/fraud:", "fintech/fraud:0", "fintech/fraud:x", "a/b:1@prod", "a/b@", ":1", "@x"]
)
def test_a_broken_reference_is_explained(text: str) -> None:
    """The message shows the three forms, or what an alias is."""
    with pytest.raises(UsageError, match=r"expected a model|an alias starts"):
        Reference.parse(text)


@given(text=st.text(max_size=40))
def test_no_text_parses_into_a_path(text: str) -> None:
    """What parses has a name of two plain parts and nothing that climbs."""
    try:
        reference = Reference.parse(text)
    except UsageError:
        return
    app, model = reference.name.split("/")
    assert app.isascii()
    assert model.isascii()
    assert ".." not in text


def test_two_publishers_never_share_a_number(tmp_path: Path, bundle: MakeBundle) -> None:
    """Real processes that publish at once get all numbers, each one once, and no bundle is lost."""
    code = (
        "import sys; from quatrain.core.store import Store; from quatrain.core.bundle.open import open_bundle\n"
        "from pathlib import Path; bundles = [open_bundle(Path(p)) for p in sys.argv[2:]]; store = Store(sys.argv[1])\n"
        "sys.stdout.write('r'); sys.stdout.flush(); sys.stdin.read(1)\n"
        "for b in bundles: sys.stdout.write(f' {store.publish(b, alias=\"prod\").number}')"
    )
    url = str(tmp_path / "store")
    paths = [str(bundle(f"card{index}").path) for index in range(8)]
    workers = [_run(code, url, *paths[:4]), _run(code, url, *paths[4:])]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.read(1) == b"r"
    outputs = [worker.communicate(b"g")[0] for worker in workers]
    numbers = [int(number) for output in outputs for number in output.split()]
    assert sorted(numbers) == list(range(1, 9))
    store = Store(url)
    assert len({version.digest for version in store.versions(_NAME)}) == 8
    assert len(store.history(_NAME)) == 8


def test_numbers_are_unique_even_without_the_lock(
    url: str, bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between machines the lock does not reach, so a number that was just taken is tried once more."""
    store = Store(url)
    first, second = bundle("one"), bundle("two")
    create = store._objects.create
    is_first = [True]

    def overtaken(key: str, content: bytes) -> bool:
        if is_first:
            is_first.clear()
            assert Store(url).publish(second).number == 1
        return create(key, content)

    monkeypatch.setattr(store._objects, "lock", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(store._objects, "create", overtaken)
    assert store.publish(first).number == 2
    assert [version.digest for version in Store(url).versions(_NAME)] == [second.digest, first.digest]


def test_a_lock_that_is_never_released_is_explained(
    tmp_path: Path, bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that waits too long exits with the code for "try later"."""
    monkeypatch.setattr(objects, "_LOCK_SECONDS", 0.05)
    store = Store(str(tmp_path / "store"))
    sealed = bundle("one")
    problems: list[UserError] = []

    def publish() -> None:
        try:
            store.publish(sealed)
        except UserError as error:
            problems.append(error)

    with store._objects.lock(_NAME):
        thread = threading.Thread(target=publish)
        thread.start()
        thread.join()
    assert isinstance(problems[0], LockedError)
    assert "another process has been changing fintech/fraud" in str(problems[0])


@pytest.mark.parametrize("moment", ["os.fsync", "pathlib.Path.replace"])
def test_a_promotion_killed_midway_leaves_the_old_alias(tmp_path: Path, bundle: MakeBundle, moment: str) -> None:
    """SIGKILL between writing and replacing changes nothing, and the next promotion works."""
    code = (
        "import os, pathlib, sys; from quatrain.core.store import Store\n"
        "def die(*_): os.kill(os.getpid(), 9)\n"
        f"{moment} = die\n"
        "Store(sys.argv[1]).promote('fintech/fraud', 2)"
    )
    store = Store(str(tmp_path / "store"))
    store.publish(bundle("one"), alias="prod")
    store.publish(bundle("two"))
    worker = _run(code, store.url)
    worker.communicate()
    assert worker.returncode == -signal.SIGKILL
    assert store.aliases(_NAME) == {"prod": 1}
    assert store.open(f"{_NAME}@prod").card == "one"
    assert store.promote(_NAME, 2).number == 2
    assert store.aliases(_NAME) == {"prod": 2}


@pytest.mark.parametrize("moment", ["os.link", "pathlib.Path.replace"])
def test_a_publication_killed_midway_leaves_no_version(tmp_path: Path, bundle: MakeBundle, moment: str) -> None:
    """A version exists only once its bundle does; publishing again completes it."""
    code = (
        "import os, pathlib, sys; from quatrain.core.store import Store\n"
        "from quatrain.core.bundle.open import open_bundle; sealed = open_bundle(pathlib.Path(sys.argv[2]))\n"
        "def die(*_): os.kill(os.getpid(), 9)\n"
        f"{moment} = die\n"
        "Store(sys.argv[1]).publish(sealed)"
    )
    store = Store(str(tmp_path / "store"))
    store.publish(bundle("one"))
    second = bundle("two")
    worker = _run(code, store.url, str(second.path))
    worker.communicate()
    assert worker.returncode == -signal.SIGKILL
    assert [version.number for version in store.versions(_NAME)] == [1]
    assert store.publish(second).number == 2
    assert store.open(_NAME).card == "two"


def test_a_damaged_bundle_is_refused_and_publishing_repairs_it(tmp_path: Path, bundle: MakeBundle) -> None:
    """Verify names the file; publishing the same bundle again puts it right under the same number."""
    store = Store(str(tmp_path / "store"))
    sealed = bundle("one")
    store.publish(sealed)
    file = store.resolve(_NAME)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    for call in (store.open, store.verify, store.resolve):
        with pytest.raises(BundleError, match=r"\.qtn"):
            call(_NAME)
    with pytest.raises(BundleError, match=r"\.qtn"):
        store.promote(_NAME, 1)
    assert store.aliases(_NAME) == {}
    assert store.publish(sealed).number == 1
    assert store.verify(_NAME).number == 1


def test_a_swapped_bundle_is_refused(tmp_path: Path, bundle: MakeBundle) -> None:
    """A valid bundle in the place of another valid one is told by its digest."""
    store = Store(str(tmp_path / "store"))
    store.publish(bundle("one"))
    store.publish(bundle("two"))
    shutil.copy(store.resolve(f"{_NAME}:1"), store.resolve(f"{_NAME}:2"))
    with pytest.raises(BundleError, match=r"is not fintech/fraud:2: expected .* publish the right bundle again"):
        store.open(f"{_NAME}:2")


def test_a_bundle_of_another_model_is_refused(tmp_path: Path, seal_doubling: Seal, bundle: MakeBundle) -> None:
    """A record cannot pass off one model as another."""
    store = Store(str(tmp_path / "store"))
    store.publish(bundle("one"))
    other = store.publish(seal_doubling(tmp_path / "other", name="industrial/surface"))
    root = tmp_path / "store"
    shutil.copytree(root / "industrial/surface/bundles", root / "fintech/fraud/bundles", dirs_exist_ok=True)
    record = root / "fintech/fraud/versions/1.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"digest": other.digest}))
    with pytest.raises(BundleError, match=r"is not fintech/fraud:1: .* got industrial/surface"):
        store.open(_NAME)


def test_a_version_rewritten_under_an_alias_is_refused(tmp_path: Path, bundle: MakeBundle) -> None:
    """An alias remembers the digest that was promoted."""
    store = Store(str(tmp_path / "store"))
    store.publish(bundle("one"), alias="prod")
    second = store.publish(bundle("two"))
    record = tmp_path / "store/fintech/fraud/versions/1.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"digest": second.digest}))
    with pytest.raises(StoreError, match=r"fraud@prod was promoted with digest .* check who writes to"):
        store.open(f"{_NAME}@prod")


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"schema_version": 2}'])
@pytest.mark.parametrize("record", ["versions/1.json", "aliases/prod.json"])
def test_a_damaged_record_is_explained(tmp_path: Path, bundle: MakeBundle, content: bytes, record: str) -> None:
    """The message names the file to restore."""
    store = Store(str(tmp_path / "store"))
    store.publish(bundle("one"), alias="prod")
    (tmp_path / "store/fintech/fraud" / record).write_bytes(content)
    with pytest.raises(StoreError, match=rf"fintech/fraud/{record} in .* cannot be read: .*; restore it"):
        store.open(f"{_NAME}@prod")


def test_a_renamed_record_is_refused(tmp_path: Path, bundle: MakeBundle) -> None:
    """A version's number is inside its record too."""
    store = Store(str(tmp_path / "store"))
    store.publish(bundle("one"))
    folder = tmp_path / "store/fintech/fraud/versions"
    (folder / "1.json").rename(folder / "2.json")
    with pytest.raises(StoreError, match=r"2\.json in .* is not the record of fintech/fraud:2"):
        store.versions(_NAME)


def test_stray_files_are_not_models(tmp_path: Path, bundle: MakeBundle) -> None:
    """Notes, temporary files and foreign folders in the store are passed over."""
    store = Store(str(tmp_path / "store"))
    store.publish(bundle("one"), alias="prod")
    root = tmp_path / "store"
    (root / "README").write_text("notes")
    (root / "Old Models" / "x" / "versions").mkdir(parents=True)
    (root / "fintech" / "empty").mkdir()
    for stray in ("versions/.2.json-abc", "versions/two.json", "versions/2.json.bak", "aliases/Prod.json", "aliases/x"):
        (root / _NAME / stray).write_text("{}")
    assert store.names() == [_NAME]
    assert [version.number for version in store.versions(_NAME)] == [1]
    assert store.aliases(_NAME) == {"prod": 1}


def test_nothing_but_records_and_bundles_is_left(tmp_path: Path, bundle: MakeBundle) -> None:
    """No temporary file outlives a publication or a promotion."""
    store = Store(str(tmp_path / "store"))
    digest = store.publish(bundle("one"), alias="prod").digest
    assert _names_in(tmp_path / "store" / _NAME) == [
        ".lock",
        "aliases/prod.json",
        f"bundles/{digest}.qtn",
        "versions/1.json",
    ]


def test_a_remote_bundle_is_fetched_once_and_a_damaged_copy_again(
    bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache saves the download, is verified like anything else, and heals itself."""
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    store = Store("memory://models")
    store.publish(bundle("one"))
    cached = store.resolve(_NAME)
    assert cached.is_relative_to(settings().cache)

    def unreachable(*_: Any, **__: Any) -> None:
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "get_file", unreachable)
        assert store.open(_NAME).card == "one"
    cached.write_bytes(b"damaged")
    assert store.open(_NAME).card == "one"
    cached.unlink()
    assert store.open(_NAME).card == "one"


def test_verify_reads_the_remote_bytes_not_the_copy(bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A good copy in the cache does not hide a damaged object."""
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    store = Store("memory://models")
    store.publish(bundle("one"))
    key = next(key for key in MemoryFileSystem.store if key.endswith(".qtn"))
    store._objects._fs.pipe_file(key, b"damaged")  # type: ignore[attr-defined]  # the remote kind has it
    assert store.open(_NAME).card == "one"
    with pytest.raises(BundleError, match=r"expected a \.qtn zip"):
        store.verify(_NAME)


def test_a_missing_remote_bundle_is_explained(bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record without its object says which store to look at."""
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    store = Store("memory://models")
    store.publish(bundle("one"))
    store.resolve(_NAME).unlink()
    del MemoryFileSystem.store[next(key for key in MemoryFileSystem.store if key.endswith(".qtn"))]
    with pytest.raises(UserError, match="cannot use the model store memory://models"):
        store.open(_NAME)


@pytest.mark.parametrize("url", ["nosuch://bucket/models", "s3x://bucket"])
def test_an_unknown_kind_of_store_is_explained(url: str) -> None:
    """A typing error in the URL is the user's to fix."""
    with pytest.raises(UsageError, match="must be a folder or an fsspec URL, got"):
        Store(url)


def test_a_store_that_cannot_be_written_is_explained(tmp_path: Path, bundle: MakeBundle) -> None:
    """A file where the folder should be gives a message, not a traceback."""
    (tmp_path / "store").write_bytes(b"")
    store = Store(str(tmp_path / "store"))
    with pytest.raises(UserError, match=r"cannot use the model store .*store"):
        store.publish(bundle("one"))
    assert store.names() == []


def test_the_default_store_is_in_the_home() -> None:
    """Without a URL the settings decide."""
    assert Store().url == str(settings().home / "models")
