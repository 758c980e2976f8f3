"""Scoring: what the model says of each good row, alerts with reasons, bad rows set aside."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv
from pydantic import ValidationError
from tests.fintech.conftest import Trained, write_world
from tests.fintech.score_models import seal_model

from quatrain.core.inference import load_model
from quatrain.core.jobs.history import unit_outputs
from quatrain.fintech.features.build import build
from quatrain.fintech.journal import save_for
from quatrain.fintech.score.run import JOB, ScoreConfig, score
from quatrain.fintech.score.scorer import label_delay_us

ALERT_COLUMNS = [
    "transaction_id", "timestamp", "customer_id", "terminal_id", "amount", "score", "threshold",
    "reason_1", "reason_2", "reason_3", "source_file", "model", "is_synthetic",
]  # fmt: skip
GOOD = "t{i},2026-03-01T10:00:0{i}Z,C1,M1,{amount},x\n"
HEADER = "transaction_id,timestamp,customer_id,terminal_id,amount,note\n"


# A model that looks at each row alone.
STATELESS = ("amount", "log_amount", "hour", "is_night", "weekday", "is_weekend")


@dataclass(frozen=True)
class Sealed:
    """A sealed model."""

    bundle: Path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    """Return a model that needs nothing but time and amount, and makes few alerts."""
    folder = tmp_path_factory.mktemp("plain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUATRAIN_CORE__HOME", str(folder / "home"))
        seal_model(folder / "bundle", STATELESS, threshold=0.998, weights=(0.6, -0.3, 0.02, -0.01, 0.01, 0.1))
    return Sealed(folder / "bundle")


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    """Return a folder with one day of new transactions."""
    folder = tmp_path / "incoming"
    folder.mkdir()
    world = pq.read_table(write_world(tmp_path / "world.parquet", seed=9, days=4))
    pq.write_table(world.drop_columns(["is_fraud"]), folder / "day.parquet")
    return folder


def config_for(model: Trained | Sealed, incoming: Path, **changes: Any) -> ScoreConfig:
    """Return a config that scores a folder with a model."""
    values = {"inputs": (incoming,), "bundle": str(model.bundle), "out": incoming.parent / "out"}
    return ScoreConfig.model_validate(values | changes)


def table(folder: Path, output: str) -> pa.Table:
    """Return the only file of an output."""
    (path,) = (folder / output).glob("*.parquet")
    return pq.read_table(path)


def rejected(folder: Path, stem: str) -> list[dict[str, Any]]:
    """Return the quarantine lines of one input."""
    (path,) = (folder / "quarantine").glob(f"{stem}-*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_scores_are_the_models(plain: Sealed, incoming: Path) -> None:
    """Each row's score is what the sealed model gives for its features; alerts are those at the threshold."""
    report = score(config_for(plain, incoming))
    assert (report.exit_code, report.units["done"]) == (0, 1)
    model = load_model(plain.bundle)
    rows = pq.read_table(incoming / "day.parquet")
    expected = model.predict(build(rows, STATELESS))["probability"]
    scores = table(incoming.parent / "out", "scores")
    assert scores.column_names == ["transaction_id", "timestamp", "score", "is_alert"]
    assert scores["transaction_id"].to_pylist() == rows["transaction_id"].to_pylist()
    np.testing.assert_array_equal(scores["score"].to_numpy(), expected)
    threshold = np.float32(model.manifest.decision["threshold"])
    np.testing.assert_array_equal(scores["is_alert"].to_numpy(), expected >= threshold)
    assert report.rows == len(rows)


def test_a_champion_scores_as_it_was_trained(trained: Trained, incoming: Path) -> None:
    """A real one, with what it kept of its training data: every number that its graph gives, of the same inputs."""
    world = pq.read_table(trained.data)
    save_for(trained.result.bundle.digest, world)
    assert score(config_for(trained, incoming)).exit_code == 0
    model = load_model(trained.bundle)
    rows = pq.read_table(incoming / "day.parquet")
    delay_us = label_delay_us(model)
    x = build(rows, model.manifest.inputs[0].columns, history=world, label_delay_us=delay_us)
    answer = model.predict(x)
    scores = table(incoming.parent / "out", "scores")
    for name in ("score", "probability", "low", "high"):
        np.testing.assert_array_equal(scores[name].to_numpy(), answer[name])
    on = answer[model.manifest.decision["threshold_on"]]
    np.testing.assert_array_equal(scores["is_alert"].to_numpy(), on >= np.float32(model.manifest.decision["threshold"]))


def test_alerts_have_the_contracts_columns(plain: Sealed, incoming: Path) -> None:
    """Names, types, the model inputs of each row, and reasons in words."""
    score(config_for(plain, incoming))
    alerts = table(incoming.parent / "out", "alerts")
    names = load_model(plain.bundle).manifest.inputs[0].columns
    assert alerts.column_names == [*ALERT_COLUMNS, *(f"feature:{name}" for name in names)]
    assert alerts.schema.field("timestamp").type == pa.timestamp("us", tz="UTC")
    assert alerts.schema.field("score").type == pa.float32()
    assert 0 < len(alerts) < 0.1 * len(pq.read_table(incoming / "day.parquet"))
    for alert in alerts.to_pylist():
        assert alert["score"] >= alert["threshold"]
        assert alert["feature:amount"] == pytest.approx(alert["amount"], rel=1e-6)
        assert alert["reason_1"] is None or ", usually " in alert["reason_1"]
        assert alert["source_file"] == "day.parquet"
        assert alert["model"] == f"fintech/fraud {load_model(plain.bundle).digest[:12]}"
        assert alert["is_synthetic"]
    assert any(str(alert["reason_1"]).startswith("amount ") for alert in alerts.to_pylist())
    assert unit_outputs(name=JOB, output="alerts") == sorted((incoming.parent / "out" / "alerts").iterdir())


def test_a_rerun_does_nothing_and_another_place_gives_the_same_bytes(plain: Sealed, incoming: Path) -> None:
    """Units are known by content, and outputs hold no time and no path."""
    first = score(config_for(plain, incoming))
    again = score(config_for(plain, incoming))
    assert (first.units["done"], again.units["done"], again.units["skipped"]) == (1, 0, 1)
    other = incoming.parent / "elsewhere"
    score(config_for(plain, incoming, out=other))
    for path in (incoming.parent / "out").rglob("*.parquet"):
        assert path.read_bytes() == (other / path.relative_to(incoming.parent / "out")).read_bytes()


def test_bad_rows_are_set_aside_and_good_ones_scored(plain: Sealed, incoming: Path) -> None:
    """Every kind of bad row in one file: reason, row and value; exit 65 above the allowed share."""
    (incoming / "day.parquet").unlink()
    lines = [GOOD.format(i=i, amount=10 + i) for i in range(3)]
    lines += [
        "b1,2026-03-01T10:00:00Z,C1,M1,NaN,x\n",
        "b2,2026-03-01T10:00:00Z,C1,M1,-5,x\n",
        "t0,2026-03-01T10:00:00Z,C1,M1,5,x\n",
        "b4,2026-03-01 10:00:00,C1,M1,5,x\n",
        "b5,soon,C1,M1,5,x\n",
        "b6,2026-03-01T10:00:00Z,C1\n",
    ]
    (incoming / "mixed.csv").write_text(HEADER + "".join(lines))
    report = score(config_for(plain, incoming))
    assert (report.status, report.exit_code, report.rows, report.bad_rows) == ("bad_data", 65, 9, 6)
    assert table(incoming.parent / "out", "scores")["transaction_id"].to_pylist() == ["t0", "t1", "t2"]
    found = {
        line["row"]: (line["column"], line["reason"], line["value"])
        for line in rejected(incoming.parent / "out", "mixed")
    }
    assert found == {
        3: ("amount", "not a finite number", "NaN"),
        4: ("amount", "negative", "-5"),
        5: ("transaction_id", "repeated in this file", "t0"),
        6: ("timestamp", "no time zone, while other rows of the file have one", "2026-03-01 10:00:00"),
        7: ("timestamp", "not an ISO 8601 date and time (numbers need [timestamp] unit)", "soon"),
        8: (None, "expected 6 values, got 3", "b6,2026-03-01T10:00:00Z,C1"),
    }
    assert score(config_for(plain, incoming, max_bad_ratio=0.9, out=incoming.parent / "lenient")).exit_code == 0


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.csv", b"", "is empty"),
        ("header.csv", HEADER.encode(), "no readable rows"),
        ("names.csv", b"TX_TIME,TX_AMOUNT\n1,2\n", "lacks timestamp"),
        ("hopeless.csv", HEADER.encode() + b"a,soon,C,M,1,x\n", "no row that can be scored"),
        ("broken.parquet", b"PAR1 and no more", "cannot be read to its end"),
    ],
)
def test_a_bad_file_is_refused_and_the_others_scored(
    plain: Sealed, incoming: Path, name: str, content: bytes, reason: str
) -> None:
    """The reason stands in the quarantine; the good file's results are there."""
    (incoming / name).write_bytes(content)
    report = score(config_for(plain, incoming))
    assert (report.exit_code, report.units["refused"], report.units["done"]) == (65, 1, 1)
    assert reason in rejected(incoming.parent / "out", Path(name).stem)[-1]["reason"]
    assert len(table(incoming.parent / "out", "scores")) > 100


def test_a_truncated_parquet_is_refused_whole(plain: Sealed, incoming: Path) -> None:
    """Half an upload gives no half of the scores."""
    content = (incoming / "day.parquet").read_bytes()
    (incoming / "day.parquet").write_bytes(content[: len(content) // 2])
    report = score(config_for(plain, incoming))
    assert report.units["refused"] == 1
    assert not list((incoming.parent / "out").rglob("*.parquet"))


def test_files_without_entities_are_scored(plain: Sealed, incoming: Path) -> None:
    """No ids at all: made transaction ids, null cards and terminals."""
    (incoming / "day.parquet").unlink()
    (incoming / "bare.csv").write_text("timestamp,amount\n2026-03-01T10:00:00Z,5\n2026-03-01T10:00:01Z,2000\n")
    report = score(config_for(plain, incoming))
    assert report.exit_code == 0
    (alert,) = table(incoming.parent / "out", "alerts").to_pylist()
    assert (alert["customer_id"], alert["terminal_id"], alert["amount"]) == (None, None, 2000.0)
    assert alert["transaction_id"].endswith("-000000001")


def test_a_foreign_file_is_scored_through_a_mapping(plain: Sealed, incoming: Path) -> None:
    """The same rows under other names, in seconds since an origin, give the same scores."""
    rows = pq.read_table(incoming / "day.parquet")
    seconds = rows["timestamp"].cast(pa.int64()).to_numpy() // 1_000_000 - 1_500_000_000
    foreign = pa.table(
        {
            "when": pa.array(seconds),
            "eur": rows["amount"].combine_chunks(),
            "ref": rows["transaction_id"].combine_chunks(),
        }
    )
    folder = incoming.parent / "foreign"
    folder.mkdir()
    csv.write_csv(foreign, folder / "day.csv", csv.WriteOptions(delimiter=";"))
    columns = incoming.parent / "columns.toml"
    columns.write_text(
        '[columns]\ntimestamp = "when"\namount = "eur"\ntransaction_id = "ref"\n'
        '[timestamp]\nunit = "s"\norigin = 2017-07-14T02:40:00Z\n[csv]\ndelimiter = ";"\n'
    )
    score(config_for(plain, incoming))
    report = score(config_for(plain, folder, columns=columns, out=incoming.parent / "foreign-out"))
    assert report.exit_code == 0
    ours, theirs = (table(incoming.parent / place, "scores") for place in ("out", "foreign-out"))
    assert ours.equals(theirs)


def test_a_dry_run_writes_nothing(plain: Sealed, incoming: Path) -> None:
    """It says which file it would take up."""
    report = score(config_for(plain, incoming, dry_run=True))
    assert [step["action"] for step in report.plan] == ["process"]
    assert not (incoming.parent / "out").exists()


def test_a_score_config_needs_inputs() -> None:
    """A job without inputs is a mistake."""
    with pytest.raises(ValidationError, match="at least 1 item"):
        ScoreConfig(inputs=())


def test_scoring_imports_neither_torch_nor_pandas_nor_sklearn(trained: Trained, incoming: Path) -> None:
    """A night job starts in a blink and runs where no training package is installed."""
    program = """
import sys
from pathlib import Path
from quatrain.fintech.score.run import ScoreConfig, score
inputs, bundle, out = sys.argv[1:]
report = score(ScoreConfig(inputs=(Path(inputs),), bundle=bundle, out=Path(out)))
# Numba looks at the version of scipy where there is one.
heavy = {"torch", "pandas", "sklearn", "lightgbm", "matplotlib", "onnx", "streamlit"}
print(report.status, sorted(heavy & set(sys.modules)))
"""
    places = [str(incoming), str(trained.bundle), str(incoming.parent / "out")]
    (incoming / "bad.csv").write_text(HEADER + GOOD.format(i=1, amount=5) + GOOD.format(i=2, amount="x"))
    done = subprocess.run([sys.executable, "-c", program, *places], check=False, capture_output=True, text=True)
    assert done.stdout.strip() == "done []", done.stderr
