"""`quatrain fintech data generate` writes either world, and the truth of the hard one apart."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from quatrain.core.errors import UsageError
from quatrain.fintech.cli import app

SIZES = ("--set", "customers=60", "--set", "merchants=100", "--set", "days=12")


def test_the_hard_world_and_its_truth_are_written(tmp_path: Path) -> None:
    """The command says what it made, and both files hold the same rows."""
    path, truth = tmp_path / "set.parquet", tmp_path / "truth.parquet"
    done = CliRunner().invoke(
        app, ["data", "generate", str(path), "--kind", "hard", "--truth", str(truth), "--json", *SIZES]
    )
    facts = json.loads(done.stdout)
    assert (facts["kind"], facts["is_synthetic"], facts["customers"]) == ("hard", True, 60)
    assert pq.read_table(truth)["transaction_id"] == pq.read_table(path)["transaction_id"]


def test_the_handbooks_world_has_no_truth_of_its_own(tmp_path: Path) -> None:
    """--truth without --kind hard is refused before anything is written."""
    done = CliRunner().invoke(app, ["data", "generate", str(tmp_path / "a"), "--truth", str(tmp_path / "b")])
    assert isinstance(done.exception, UsageError)
    assert "--truth needs --kind hard" in str(done.exception)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("kind", "option"), [("handbook", "merchants=100"), ("hard", "terminals=100")])
def test_options_of_the_other_world_are_refused(kind: str, option: str, tmp_path: Path) -> None:
    """Each world knows its own knobs."""
    done = CliRunner().invoke(app, ["data", "generate", str(tmp_path / "a"), "--kind", kind, "--set", option])
    assert isinstance(done.exception, UsageError)
    assert "unknown key" in str(done.exception)
