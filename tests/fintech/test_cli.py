"""The commands: one JSON object on stdout, exit codes of the contract, errors in words."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.fintech.conftest import Trained, write_world

COMMAND = Path(sys.executable).with_name("quatrain")


def quatrain(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command and return how it ended."""
    return subprocess.run(
        [str(COMMAND), "fintech", *map(str, arguments)], check=False, capture_output=True, text=True, env=os.environ
    )


def as_json(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return stdout, which must be one JSON object and nothing else."""
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_train_score_and_evaluate_by_name(tmp_path: Path) -> None:
    """From a generated file to alerts without naming a path of the store."""
    data = write_world(tmp_path / "t.parquet", days=16)
    small = 'recipe.trees={"small" = {max_rounds = 5, step = 5, n_seeds = 1}}'
    quick = ["--set", small, "--set", "n_folds=1", "--set", "n_resamples=10"]
    trained = as_json(quatrain("train", "--data", data, "--json", "-q", *quick))
    assert (trained["app"], trained["task"], trained["version"]) == ("fintech", "fraud", "fintech/fraud:1")
    assert {row["split"] for row in trained["rows"]} == {"test", "valid"}
    done = quatrain("score", "--data", data, "--json", "-q")
    assert done.returncode == 0, done.stderr
    report = as_json(done)
    assert report["units"]["done"] == 1
    assert {Path(path).parent.name for path in report["outputs"]} == {"scores", "alerts", "history"}
    table = as_json(quatrain("evaluate", "--data", data, "--json", "-q", "--set", "n_resamples=10"))
    assert table["rows"][0]["name"] == "fintech/fraud:1"
    told = quatrain("evaluate", "--data", data, "-q", "--set", "n_resamples=10").stdout
    for row in table["rows"]:
        assert re.search(rf"{row['name']} +│ test +│ +{row['metrics']['ap']:.4f} ", told), told


def test_score_exits_65_and_still_prints_its_report(trained: Trained, tmp_path: Path) -> None:
    """Cron reads the code, a person the reason."""
    header = "timestamp,customer_id,terminal_id,amount"
    (tmp_path / "bad.csv").write_text(f"{header}\n2026-01-01,c,m,1\n2026-01-01,c,m,x\n")
    done = quatrain(
        "score", "--data", tmp_path / "bad.csv", "--bundle", trained.bundle, "--out", tmp_path / "out", "--json"
    )
    assert done.returncode == 65
    assert as_json(done)["bad_rows"] == 1
    assert "unit done" in done.stderr


def test_a_missing_model_says_how_to_get_one(tmp_path: Path) -> None:
    """Before the first training there is no model."""
    (tmp_path / "a.csv").write_text("timestamp,amount\n2026-01-01,1\n")
    done = quatrain("score", "--data", tmp_path / "a.csv")
    assert done.returncode == 1
    assert "no model fintech/fraud" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "fintech.train.data is missing; give --data"),
        (["train", "--data", "nowhere.csv"], "neither a file or folder nor a set"),
        (["train", "--data", "ulb-creditcart"], "did you mean 'ulb-creditcard'"),
        (["train", "--set", "seeds=1"], "unknown key fintech.train.seeds from --set; did you mean 'seed'"),
        (["score"], "fintech.score.inputs is missing"),
        (["data", "describe"], "give --data"),
    ],
)
def test_wrong_usage_exits_2_with_the_fix(arguments: list[str], message: str) -> None:
    """No traceback; what was wrong and what to do."""
    done = quatrain(*arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_data_commands(tmp_path: Path) -> None:
    """Generate says synthetic, describe counts, validate lists reasons and exits 65 for a refused file."""
    path = tmp_path / "in" / "a.parquet"
    sizes = ["--set", "customers=50", "--set", "terminals=50", "--set", "days=5", "--set", "radius=30"]
    assert as_json(quatrain("data", "generate", path, *sizes, "--json"))["is_synthetic"] is True
    facts = as_json(quatrain("data", "describe", "--data", path, "--json"))
    assert facts["is_synthetic"] is True
    assert facts["rows"] > 100
    assert facts["customer_ids"] <= 50
    assert quatrain("data", "validate", "--data", path.parent).returncode == 0
    (path.parent / "b.csv").write_text("timestamp,amount\n2026-01-01,-1\n2026-01-01,1\n")
    (path.parent / "c.csv").write_text("")
    done = quatrain("data", "validate", "--data", path.parent, "--json")
    assert done.returncode == 65
    files = {file["file"]: file for file in as_json(done)["files"]}
    assert files["b.csv"]["reasons"] == {"amount: negative": 1}
    assert "is empty" in files["c.csv"]["refused"]


def test_a_file_without_a_good_row_is_said_to_be_refused(tmp_path: Path) -> None:
    """Scoring would refuse it, so validation exits 65; describe names the reason, not a traceback."""
    path = tmp_path / "a.csv"
    path.write_text("timestamp,amount,is_fraud\n1769846400,1,0\n")
    done = quatrain("data", "validate", "--data", path, "--json")
    assert done.returncode == 65
    assert as_json(done)["files"][0]["refused"] == "no row can be scored"
    done = quatrain("data", "describe", "--data", path)
    assert done.returncode == 65
    assert "a.csv has no good row: timestamp: not an ISO 8601 date" in done.stderr


def test_help_does_not_import_the_heavy_packages() -> None:
    """A command's start-up is its own."""
    program = (
        "import sys; import quatrain.fintech.cli; "
        "heavy = {'torch', 'numpy', 'pyarrow', 'lightgbm', 'pandas', 'sklearn', 'onnxruntime'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
