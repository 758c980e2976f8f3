"""The commands: one JSON object on stdout, a table and the protocol without it, errors in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.fintech.conftest import write_world

from quatrain.fintech.data.arrays import from_numpy

COMMAND = Path(sys.executable).with_name("quatrain")
DAYS = ["--train-days", "7", "--delay-days", "3", "--test-days", "5", "--folds", "1"]
SMALL = ['recipe.trees={"small" = {max_rounds = 10, step = 10, n_seeds = 1}}', "n_resamples=20", "features=standard"]
QUICK = [word for override in SMALL for word in ("--set", override)]


def quatrain(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command and return how it ended."""
    return subprocess.run(
        [str(COMMAND), "fintech", *map(str, arguments)], check=False, capture_output=True, text=True, env=os.environ
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return forty days of a small world with a planted leak, under foreign names."""
    folder = tmp_path_factory.mktemp("world")
    table = pq.read_table(write_world(folder / "world.parquet", days=40))
    names = {"timestamp": "WHEN", "customer_id": "CARD", "terminal_id": "SHOP", "amount": "SUM", "is_fraud": "BAD"}
    table = table.rename_columns([names.get(name, name) for name in table.column_names])
    paid_back = from_numpy(np.asarray(table["BAD"]).astype(float) * np.asarray(table["SUM"]))
    pq.write_table(table.append_column("PAID_BACK", paid_back), folder / "foreign.parquet")
    lines = [f'{name} = "{foreign}"' for name, foreign in names.items()]
    text = "[columns]\n" + "\n".join(lines) + '\n[extra]\nignore = ["PAID_BACK"]\n'
    (folder / "columns.toml").write_text(text)
    (folder / "all.toml").write_text(text.replace("ignore", "numeric"))
    return folder / "foreign.parquet"


def test_a_foreign_file_is_evaluated_fold_by_fold(data: Path) -> None:
    """Without any bundle: the recipe first, the baselines after it."""
    done = quatrain("evaluate", "--data", data, "--columns", data.with_name("columns.toml"), *DAYS, *QUICK, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["rows"][0]["name"] == "quatrain (standard features)"
    assert found["protocol"]["folds"][0]["removed_cards"] > 0
    assert found["leaks"] == []


def test_the_table_is_followed_by_the_protocol(data: Path) -> None:
    """Dates, differences and possible leaks are said to a person too."""
    done = quatrain("evaluate", "--data", data, "--columns", data.with_name("all.toml"), *DAYS, *QUICK, "-q")
    assert done.returncode == 0, done.stderr
    assert "random forest" in done.stdout
    assert "trained on 2018-" in done.stdout
    assert "against random forest: ap" in done.stdout
    assert "possible leak: PAID_BACK: " in done.stdout


def test_leaks_are_named_before_anything_is_trained(data: Path) -> None:
    """`data leaks` wants the label only; what the mapping ignores is not looked at."""
    done = quatrain("data", "leaks", "--data", data, "--columns", data.with_name("all.toml"), "--json")
    assert done.returncode == 0, done.stderr
    assert [leak["column"] for leak in json.loads(done.stdout)["leaks"]] == ["PAID_BACK"]
    done = quatrain("data", "leaks", "--data", data, "--columns", data.with_name("columns.toml"))
    assert done.stdout.splitlines() == [
        f"foreign.parquet: 0 columns in {pq.read_metadata(data).num_rows:,} labelled rows"
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--folds", "9"], 65, "and 63 are needed: 9 folds of 5 test days after 7 days to train"),
        (["--train-days", "0"], 2, "train_days"),
        (["--set", "featuers=full"], 2, "did you mean 'features'"),
    ],
)
def test_what_cannot_be_done_is_said_with_the_fix(data: Path, arguments: list[str], code: int, message: str) -> None:
    """No traceback; of a flag that is given twice the last counts."""
    done = quatrain("evaluate", "--data", data, "--columns", data.with_name("columns.toml"), *DAYS, *arguments)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert message in done.stderr
