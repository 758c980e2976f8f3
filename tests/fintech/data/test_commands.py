"""The data commands: what they print, where keys go, and how they end."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from quatrain.core.errors import UserError
from quatrain.fintech.cli import app

CARD = "4111111111111111"


def data(*arguments: str | Path) -> Result:
    """Run `quatrain fintech data ...` in this process."""
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def as_json(result: Result) -> dict[str, Any]:
    """Return stdout, which must be one JSON object."""
    document: dict[str, Any] = json.loads(result.stdout)
    return document


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """Return a folder of a CSV file with cards, its mapping beside it."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    (folder / "a.csv").write_text(f"when,card,amount\n2026-01-31,{CARD},1\n2026-01-31,5555555555554444,2\n")
    (tmp_path / "columns.toml").write_text(
        '[columns]\ntimestamp = "when"\ncustomer_id = "card"\n[pan]\ncolumns = ["card"]\n'
    )
    return folder


def test_from_raw_cards_to_tokens(inbox: Path, tmp_path: Path, quatrain_home: Path) -> None:
    """Refused without a mapping, then a key, then a file that every command reads."""
    done = data("validate", "--data", inbox, "--json")
    assert done.exit_code == 65
    raw = data("validate", "--data", inbox / "a.csv", "--columns", tmp_path / "columns.toml")
    assert isinstance(raw.exception, UserError)
    assert "data keygen" in str(raw.exception)
    made = as_json(data("keygen", "--json"))
    file = quatrain_home / "keys" / "pan.key"
    assert made["path"] == str(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    out = tmp_path / "tokens.csv"
    done = data("tokenise", "--data", inbox / "a.csv", "--columns", tmp_path / "columns.toml", "--out", out, "--json")
    facts = as_json(done)
    assert (facts["rows"], facts["tokenised"], facts["key_id"]) == (2, ["card"], made["key_id"])
    assert CARD not in done.output + out.read_text()
    for path in (out, inbox):
        checked = data("validate", "--data", path, "--columns", tmp_path / "columns.toml", "--json")
        assert (checked.exit_code, as_json(checked)["files"][0]["good"]) == (0, 2)


def test_no_command_prints_the_key(inbox: Path, tmp_path: Path) -> None:
    """Nor does an error, also when the key is wrong."""
    made = data("keygen", "--out", tmp_path / "pan.key")
    secret = (tmp_path / "pan.key").read_text().strip()
    assert secret not in made.output
    columns = tmp_path / "columns.toml"
    for text in (secret, secret[1:], f"{secret}!"):
        environment = {"QUATRAIN_PAN_KEY": text}
        arguments = ["data", "validate", "--data", str(inbox), "--columns", str(columns), "--json"]
        done = CliRunner().invoke(app, arguments, env=environment)
        assert text not in f"{done.output} {done.exception}"


def test_a_folder_of_files_and_messages_is_validated(tmp_path: Path) -> None:
    """A payment message counts like any file."""
    (tmp_path / "a.csv").write_text("timestamp,amount\n2026-01-31,1\n")
    (tmp_path / "b.xml").write_text(
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08"><FIToFICstmrCdtTrf><GrpHdr><MsgId>M</MsgId>'
        "<CreDtTm>2026-01-31T08:00:00Z</CreDtTm><NbOfTxs>1</NbOfTxs></GrpHdr><CdtTrfTxInf><PmtId><TxId>T</TxId></PmtId>"
        '<IntrBkSttlmAmt Ccy="EUR">1</IntrBkSttlmAmt></CdtTrfTxInf></FIToFICstmrCdtTrf></Document>'
    )
    done = data("validate", "--data", tmp_path, "--json")
    files = as_json(done)["files"]
    assert [(file["file"], file["good"], file["refused"]) for file in files] == [("a.csv", 1, None), ("b.xml", 1, None)]
    assert done.exit_code == 0
