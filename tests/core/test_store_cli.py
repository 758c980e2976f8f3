"""`quatrain models`: every command for a person and for a machine, with an empty store and a full one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from quatrain.core import logs
from quatrain.core.bundle.manifest import BundleError
from quatrain.core.bundle.open import Bundle, pack
from quatrain.core.cli.models import app
from quatrain.core.config import settings
from quatrain.core.errors import UserError
from quatrain.core.store import Store, StoreError
from quatrain.core.trust import signing

_NAME = "fintech/fraud"


@pytest.fixture(autouse=True)
def _quiet_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "configure", lambda: None)


@pytest.fixture
def store(seal_doubling: Callable[..., Bundle], tmp_path: Path) -> Store:
    """Return the default store with two versions, the first one promoted."""
    filled = Store()
    first = seal_doubling(
        tmp_path / "one",
        card="one",
        metrics={"test": {"ap": 0.8}},
        intervals={"test": {"ap": (0.75, 0.85)}},
    )
    filled.publish(first, alias="prod")
    filled.publish(seal_doubling(tmp_path / "two", card="two"))
    return filled


def _text(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False, env={"COLUMNS": "160"})
    assert result.exit_code == code, result.output
    return result.output


def _json(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_an_empty_store_says_how_to_fill_it() -> None:
    """Every listing has an empty state, and its JSON is an empty list."""
    assert "Run an app's `train` command to make the first one" in _text("list")
    assert _json("list") == {"store": str(settings().home / "models"), "models": []}
    assert "nothing to verify" in _text("verify")
    assert _json("verify") == {"models": []}
    assert "The first sealed model makes this machine's key" in _text("trust")
    assert _json("trust") == {"signers": "any", "keys": []}


def test_list_shows_versions_and_aliases(store: Store) -> None:
    """The newest version comes first, with its alias beside it."""
    lines = [line.split() for line in _text("list").splitlines()]
    assert [line[:2] for line in lines] == [["model", "version"], [_NAME, "2"], [_NAME, "1"]]
    assert lines[2][2] == "prod"
    document = _json("list", _NAME)
    assert document["models"][0]["aliases"] == {"prod": 1}
    assert [version["digest"] for version in document["models"][0]["versions"]] == [
        version.digest for version in store.versions(_NAME)
    ]


def test_show_tells_what_a_model_takes_and_how_well_it_does(store: Store) -> None:
    """Inputs, outputs, metrics with their interval, and the signer."""
    text = _text("show", f"{_NAME}@prod")
    assert f"{_NAME}:1" in text
    assert "(batch, 2)" in text
    assert "0.7500 … 0.8500" in text
    document = _json("show", f"{_NAME}@prod")
    assert document["reference"] == f"{_NAME}:1"
    assert document["manifest"]["metrics"] == {"test": {"ap": 0.8}}
    assert document["digest"] == store.find(f"{_NAME}:1").digest
    assert document["signer"] == getattr(signing.own_key(settings().keys_dir), "fingerprint", "")


def test_show_takes_a_path(store: Store, tmp_path: Path) -> None:
    """A folder or a .qtn that is in no store can be looked at."""
    target = pack(store.open(_NAME), tmp_path / "given.qtn")
    for path in (str(target), str(tmp_path / "two")):
        assert _json("show", path)["card"] == "two"


def test_promote_rollback_and_history(store: Store) -> None:
    """The alias moves there and back, and its history can be read."""
    assert f"{_NAME}@prod is now version 2" in _text("promote", _NAME, "2")
    assert store.aliases(_NAME) == {"prod": 2}
    assert _json("rollback", _NAME)["version"] == 1
    assert store.aliases(_NAME) == {"prod": 1}
    assert _json("promote", _NAME, "2", "--alias", "challenger")["alias"] == "challenger"
    assert store.aliases(_NAME) == {"challenger": 2, "prod": 1}
    assert [event["action"] for event in _json("history", _NAME)["events"]] == ["promote", "promote", "rollback"]
    assert "rollback" in _text("history", _NAME)
    with pytest.raises(StoreError, match="has had no version before 2"):
        _text("rollback", _NAME, "--alias", "challenger")


def test_verify_names_the_damaged_version_and_exits_1(store: Store, tmp_path: Path) -> None:
    """One bad version does not hide that the others are whole."""
    assert _text("verify").split() == ["ok", f"{_NAME}:1", "ok", f"{_NAME}:2"]
    store.resolve(f"{_NAME}:1").write_bytes(b"damaged")
    text = _text("verify", code=1)
    assert f"FAILED {_NAME}:1" in text
    assert f"ok     {_NAME}:2" in text
    rows = _json("verify", code=1)["models"]
    assert "expected a .qtn zip" in rows[0]["error"]
    assert rows[1]["error"] is None
    assert _json("verify", str(tmp_path / "two"))["models"][0]["digest"] == store.find(f"{_NAME}:2").digest
    assert "there is no such folder" in _json("verify", str(tmp_path / "three"), code=1)["models"][0]["error"]


@pytest.mark.parametrize(
    ("file", "row"),
    [("versions/1.json", _NAME), ("aliases/prod.json", f"{_NAME} aliases")],
)
def test_verify_tells_records_that_cannot_be_read(
    store: Store, seal_doubling: Callable[..., Bundle], file: str, row: str
) -> None:
    """A damaged record is a row like any other, and the models after it are still checked."""
    store.publish(seal_doubling(name="fintech/other"))
    (Path(store.url) / _NAME / file).write_text("{")
    rows = {each["model"]: each["error"] for each in _json("verify", code=1)["models"]}
    assert "cannot be read" in rows[row]
    assert rows["fintech/other:1"] is None


def test_verify_tells_an_alias_of_another_bundle(store: Store) -> None:
    """What prod means must be what was promoted, by digest."""
    alias = Path(store.url) / _NAME / "aliases" / "prod.json"
    alias.write_text(alias.read_text().replace(store.find(f"{_NAME}:1").digest, "0" * 64))
    rows = {each["model"]: each["error"] for each in _json("verify", code=1)["models"]}
    assert "was promoted with digest 000000000000" in rows[f"{_NAME}@prod"]


def test_trust_lets_a_foreign_bundle_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seal_doubling: Callable[..., Bundle]
) -> None:
    """The key that one machine prints is the one that another takes, as text or as a file."""
    path = str(seal_doubling(card="theirs").path)
    monkeypatch.setenv("QUATRAIN_CORE__HOME", str(tmp_path / "scoring-box"))
    monkeypatch.setenv("QUATRAIN_CORE__SIGNERS", "known")
    with pytest.raises(BundleError, match="quatrain models trust") as problem:
        _text("show", path)
    key = str(problem.value).rpartition("trust ")[2].rstrip("`")
    assert "trusted" in _text("trust", key)
    assert _json("trust")["keys"][0]["public_key"] == key
    assert _json("show", path)["card"] == "theirs"
    (tmp_path / "theirs.pub").write_text(key + "\n")
    assert len(_json("trust", str(tmp_path / "theirs.pub"))["keys"]) == 1
    with pytest.raises(signing.SignatureError, match="must be an Ed25519 public key"):
        _text("trust", "letmein")
    with pytest.raises(UserError, match=r"cannot read the key file .*none\.pub: No such file"):
        _text("trust", str(tmp_path / "none.pub"))


def test_errors_reach_a_person_without_traceback() -> None:
    """The front door prints the message and exits with its code."""
    for arguments, code, message in (
        (["show", _NAME], 1, "error: no model fintech/fraud in"),
        (["promote", "../fraud", "1"], 2, "error: expected a model name"),
    ):
        result = subprocess.run(
            [sys.executable, "-c", "from quatrain.core.cli.main import main; main()", "models", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == code
        assert message in result.stderr
        assert "Traceback" not in result.stderr
        assert result.stdout == ""
