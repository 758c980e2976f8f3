"""`quatrain fintech benchmark` times the model that scoring uses."""

from __future__ import annotations

import json
from pathlib import Path

from tests.fintech.score_models import seal_model
from typer.testing import CliRunner

from quatrain.fintech.cli import app


def test_the_fraud_model_is_timed_by_name(tmp_path: Path) -> None:
    """One object on stdout; trees have no products, so no share of the machine's."""
    bundle = seal_model(tmp_path / "model")
    arguments = ["benchmark", "--bundle", str(bundle.path), "--backend", "onnxruntime", "--batch", "8"]
    result = CliRunner().invoke(app, [*arguments, "--seconds", "0.01", "--out", str(tmp_path / "out"), "--json"])
    assert result.exit_code == 0, result.output
    (case,) = json.loads(result.stdout)["cases"]
    assert (case["backend"], case["batch"]) == ("onnxruntime", 8)


def test_without_a_model_the_error_says_so() -> None:
    """The store's own words, before anything is measured."""
    result = CliRunner().invoke(app, ["benchmark"])
    assert "fintech/fraud" in str(result.exception)
    assert result.exit_code != 0
