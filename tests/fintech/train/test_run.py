"""Training: nothing is chosen on the test rows, and what is sealed is what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from quatrain.fintech.features.build import build
from sklearn.metrics import average_precision_score  # type: ignore[import-untyped]  # ships no types
from tests.fintech.conftest import Trained, small_config, write_world

from quatrain.core.config import settings
from quatrain.core.errors import BadDataError, UsageError
from quatrain.core.inference import load_model
from quatrain.core.store import Store
from quatrain.core.tracking import list_runs
from quatrain.fintech.data.columns import ColumnMap
from quatrain.fintech.data.table import load_labelled, split_by_time
from quatrain.fintech.evaluate.sealed import predict
from quatrain.fintech.features.row import BUILT_IN
from quatrain.fintech.train import run as training_run
from quatrain.fintech.train.candidates import Trial, choose
from quatrain.fintech.train.run import train

QUICK = {"perceptron": False, "trees": {"lightgbm": {"max_rounds": 5, "step": 5, "n_seeds": 1}}}


def test_the_table_has_champion_candidates_and_baselines(trained: Trained) -> None:
    """Test rows first, the champion on top, every baseline there; then the validation rows."""
    rows = trained.result.rows
    tests = [row.name for row in rows if row.split == "test"]
    assert set(tests) == {"lightgbm", "perceptron", "lightgbm default", "logistic regression"}
    assert tests[0] == trained.result.bundle.manifest.training["candidate"]
    assert tests[2:] == ["lightgbm default", "logistic regression"]
    assert {row.name for row in rows if row.split == "valid"} == {"lightgbm", "perceptron"}
    for row in rows:
        assert set(row.metrics) == {"ap", "auc", "ece", "value_recall", "cp_20"}
        low, high = row.intervals["ap"]
        assert low <= row.metrics["ap"] <= high


def test_the_sealed_model_reproduces_its_test_row(trained: Trained) -> None:
    """The bundle alone, on the last fifth of the data, gives the AP in the table; sklearn agrees."""
    model = load_model(trained.bundle)
    names = model.manifest.inputs[0].columns
    labelled = load_labelled(trained.data, ColumnMap())
    test = split_by_time(labelled.timestamp_us, test_share=0.2, valid_share=0.2).test
    score = predict(model, build(labelled.table, names)[test])
    ap = average_precision_score(labelled.label[test], score)
    assert trained.result.rows[0].metrics["ap"] == pytest.approx(ap, abs=1e-9)
    assert model.manifest.metrics["test"] == trained.result.rows[0].metrics
    assert set(model.manifest.metrics) == {"test", "valid"}


def test_the_decision_is_sealed(trained: Trained) -> None:
    """Threshold from the validation rows, medians of legitimate rows, mapping, and the synthetic mark."""
    decision = trained.result.bundle.manifest.decision
    assert set(decision) == {"threshold", "alert_budget", "reference", "columns", "model", "is_synthetic"}
    assert decision["is_synthetic"] is True
    assert decision["model"] in {"lightgbm", "mlp"}
    assert ColumnMap.model_validate(decision["columns"]) == ColumnMap()
    labelled = load_labelled(trained.data, ColumnMap())
    past = split_by_time(labelled.timestamp_us, test_share=0.2, valid_share=0.2).test.start
    legitimate = labelled.amount[:past][~labelled.label[:past]]
    assert decision["reference"]["amount"] == pytest.approx(np.median(legitimate), rel=1e-6)


def test_a_folder_that_exists_is_refused_before_training(trained: Trained) -> None:
    """Minutes of training are not spent on a model that has nowhere to go."""
    n_runs = len(list_runs())
    with pytest.raises(UsageError, match="exists already; give --out a new folder"):
        train(trained.config)
    assert len(list_runs()) == n_runs


def test_the_report_is_there_before_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that dies in between leaves no model in use without its report."""
    data = write_world(tmp_path / "t.parquet", days=16)
    monkeypatch.setattr(training_run, "publish", lambda *_, **__: pytest.fail("publishing, which was not to happen"))
    with pytest.raises(pytest.fail.Exception, match="publishing"):
        train(small_config(data, **QUICK))
    [run] = list_runs()
    assert (settings().runs_dir / run.id / "report.json").is_file()


def test_the_card_says_what_the_model_is(trained: Trained) -> None:
    """Synthetic, results with intervals, limits."""
    card = trained.result.bundle.card
    assert "**SYNTHETIC**" in card
    assert f"| {trained.result.rows[0].name} | {trained.result.rows[0].metrics['ap']:.3f} [" in card
    assert "## Limits" in card
    assert str(trained.data.parent) not in card


def test_golden_rows_are_nobodys_transactions(trained: Trained) -> None:
    """No golden row is a row of the data, though each value occurs in it."""
    golden, _ = trained.result.bundle.golden()
    names = trained.result.bundle.manifest.inputs[0].columns
    x = build(load_labelled(trained.data, ColumnMap()).table, names)
    real = {row.tobytes() for row in x}
    assert not any(row.tobytes() in real for row in golden["features"])
    for place in range(x.shape[1]):
        assert np.isin(golden["features"][:, place], x[:, place]).all()


def test_the_report_holds_what_the_page_draws(trained: Trained) -> None:
    """Counts add up to the test rows, and the digest ties the report to its bundle."""
    report = json.loads((trained.run_folder / "report.json").read_text())
    n_test = trained.result.rows[0].n
    assert report["digest"] == trained.result.bundle.digest
    assert sum(row["n"] for row in report["calibration"]) == n_test
    assert sum(row["legitimate"] + row["fraud"] for row in report["score_histogram"]) == n_test
    assert report["precision_recall"][-1]["recall"] == pytest.approx(1.0)
    assert {row["feature"] for row in report["importance"]} == set(BUILT_IN)
    assert report["importance"][0]["feature"] in {"amount", "log_amount"}
    assert report["rows"][0]["name"] == report["champion"]


def test_the_first_model_is_promoted_and_the_next_is_not(tmp_path: Path) -> None:
    """Automatic promotion never replaces a model that serves."""
    data = write_world(tmp_path / "transactions.parquet", days=20)
    first = train(small_config(data, **QUICK))
    second = train(small_config(data, seed=1, **QUICK))
    third = train(small_config(data, seed=2, promote="yes", **QUICK))
    assert [r.version.reference for r in (first, second, third) if r.version] == [
        f"fintech/fraud:{n}" for n in (1, 2, 3)
    ]
    assert Store().aliases("fintech/fraud") == {"prod": 3}
    assert [event.version for event in Store().history("fintech/fraud")] == [1, 3]
    runs = list_runs()
    assert [run.bundle for run in runs] == [r.bundle.digest for r in (third, second, first)]
    assert runs[0].status == "done"
    assert runs[0].metrics["ap"] == pytest.approx(third.rows[0].metrics["ap"])


def test_shuffling_the_future_changes_no_choice(tmp_path: Path) -> None:
    """With the test rows' labels turned round, the sealed graph is the same, bit for bit."""
    data = write_world(tmp_path / "transactions.parquet", days=20)
    table = pq.read_table(data)
    start = split_by_time(load_labelled(data, ColumnMap()).timestamp_us, test_share=0.2, valid_share=0.2).test.start
    label = table["is_fraud"].to_numpy().copy()
    label[start:] = ~label[start:]
    turned = tmp_path / "turned.parquet"
    place = table.schema.get_field_index("is_fraud")
    pq.write_table(table.set_column(place, "is_fraud", pa.array(label)), turned)
    models = [train(small_config(path, out=tmp_path / path.stem, **QUICK)).bundle for path in (data, turned)]
    assert models[0].onnx == models[1].onnx
    assert models[0].manifest.decision == models[1].manifest.decision


def test_a_part_without_frauds_is_refused(tmp_path: Path) -> None:
    """A model cannot be chosen or measured without frauds."""
    path = tmp_path / "t.csv"
    rows = "".join(f"2026-01-{1 + i // 10:02d}T{i % 10:02d}:00:00Z,{i},{int(i < 20)}\n" for i in range(100))
    path.write_text("timestamp,amount,is_fraud\n" + rows)
    with pytest.raises(BadDataError, match=r"the valid part of t\.csv has 0 frauds in 16 rows"):
        train(small_config(path))
    assert list_runs()[0].status == "failed"


def test_a_set_of_another_task_is_refused() -> None:
    """Credit scoring is not fraud detection: another model, another card."""
    with pytest.raises(UsageError, match="german-credit is a set for credit-scoring, not fraud"):
        train(small_config(Path("german-credit")))


def _trial(name: str, score: list[float]) -> Trial:
    stand_in = type("Candidate", (), {"name": name})()
    return Trial(candidate=stand_in, fitted=stand_in, score=np.array(score), ap=0.0)


def test_a_challenger_must_be_better_beyond_chance() -> None:
    """Equal scores keep the first; a clearly better one replaces it; a worse one never does."""
    rng = np.random.default_rng(0)
    label = rng.random(4000) < 0.05
    weak, strong = rng.normal(label * 1.0), rng.normal(label * 3.0)
    first, better = _trial("first", weak.tolist()), _trial("better", strong.tolist())
    same = _trial("same", (weak + rng.normal(size=4000) * 1e-3).tolist())
    assert choose([first, same], label, seed=0) is first
    assert choose([first, better], label, seed=0) is better
    assert choose([better, first, same], label, seed=0) is better
