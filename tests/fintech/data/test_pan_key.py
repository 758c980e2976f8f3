"""The key is found where it should be, kept from others, and never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from quatrain.core.errors import UsageError
from quatrain.fintech.data.pan_key import FILE_VARIABLE, KEY_VARIABLE, find_key, key_file, make_key, need_key

SECRET = "0123456789abcdef" * 4


def test_the_environment_wins_over_the_named_file_and_that_over_the_machines(
    quatrain_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three places, in that order."""
    assert find_key() is None
    machine = make_key(key_file())
    assert key_file() == quatrain_home / "keys" / "pan.key"
    assert find_key() == machine
    named = make_key(tmp_path / "other" / "pan.key")
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "other" / "pan.key"))
    assert find_key() == named
    monkeypatch.setenv(KEY_VARIABLE, f" {SECRET}\n")
    found = find_key()
    assert found is not None
    assert found.secret.hex() == SECRET


def test_a_new_key_is_its_owners_only_and_never_replaced(tmp_path: Path) -> None:
    """Mode 600 in a folder of mode 700; a second one would give every card another token."""
    file = tmp_path / "keys" / "pan.key"
    key = make_key(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    with pytest.raises(UsageError, match=r"is there already.*another token"):
        make_key(file)
    assert file.read_text().strip() == key.secret.hex()
    assert make_key(tmp_path / "second.key").id != key.id


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_key_that_others_can_read_is_refused(mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that the group reads is none."""
    file = tmp_path / "pan.key"
    make_key(file)
    file.chmod(mode)
    monkeypatch.setenv(FILE_VARIABLE, str(file))
    with pytest.raises(UsageError, match=f"can be read by other users .mode {mode:o}.; run `chmod 600"):
        find_key()


@pytest.mark.parametrize("text", ["short", SECRET[:-1], SECRET + "0", SECRET[:-1] + "x", "\x00" * 64])
def test_what_is_no_key_is_refused_and_not_shown(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key with a slip in it is nearly the key."""
    file = tmp_path / "pan.key"
    file.write_text(text)
    file.chmod(0o600)
    monkeypatch.setenv(FILE_VARIABLE, str(file))
    with pytest.raises(UsageError, match="must hold 64 hex digits, got") as caught:
        find_key()
    assert text not in str(caught.value)


def test_a_missing_key_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A named file that is not there is a mistake, not the absence of a key."""
    with pytest.raises(UsageError, match=f"column card needs the key.*{KEY_VARIABLE}.*{FILE_VARIABLE}.*keygen"):
        need_key("column card")
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=r"cannot read the key .*nowhere: No such file"):
        find_key()
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path))
    with pytest.raises(UsageError, match="cannot read the key"):
        find_key()


def test_no_text_of_a_key_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its repr nor its id."""
    monkeypatch.setenv(KEY_VARIABLE, SECRET)
    key = need_key("this")
    assert SECRET not in f"{key!r} {key} {key.id}"
    assert repr(key.secret) not in repr(key)
    assert len(key.id) == 6
