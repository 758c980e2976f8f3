"""Training: nothing is chosen on the test rows, and what is sealed is what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score  # type: ignore[import-untyped]  # ships no types
from tests.fintech.conftest import Trained, small_config, write_world

from quatrain.core.config import settings
from quatrain.core.errors import BadDataError, UsageError
from quatrain.core.inference import load_model
from quatrain.core.store import Store
from quatrain.core.tracking import list_runs
from quatrain.fintech import journal
from quatrain.fintech.data.columns import ColumnMap
from quatrain.fintech.data.table import load_labelled, split_by_time
from quatrain.fintech.features.build import build
from quatrain.fintech.features.names import LONGEST_US
from quatrain.fintech.train import run as training_run
from quatrain.fintech.train.material import prepare
from quatrain.fintech.train.run import train
from quatrain.fintech.wording import wording

QUICK = {"recipe": {"trees": {"lightgbm": {"max_rounds": 5, "step": 5, "n_seeds": 1}}}}


def test_the_table_has_the_champion_and_every_baseline(trained: Trained) -> None:
    """Test rows first, the champion on top, every baseline there; then its validation row."""
    rows = trained.result.rows
    tests = [row.name for row in rows if row.split == "test"]
    assert tests == ["quatrain", "logistic regression", "random forest", "lightgbm default"]
    assert [row.name for row in rows if row.split == "valid"] == ["quatrain"]
    at_threshold = {"precision", "recall", "alert_rate", "alerts_per_day"}
    for row in rows:
        assert {"ap", "auc", "ece", "brier", "value_recall", "cp_20"} <= set(row.metrics)
        assert (at_threshold <= set(row.metrics)) == (row is rows[0])
        low, high = row.intervals["ap"]
        assert low <= row.metrics["ap"] <= high


def test_the_sealed_model_reproduces_its_test_row(trained: Trained) -> None:
    """The bundle alone, on the last fifth of the data, gives the AP in the table; sklearn agrees."""
    model = load_model(trained.bundle)
    names = model.manifest.inputs[0].columns
    labelled = load_labelled(trained.data, ColumnMap())
    test = split_by_time(labelled.timestamp_us, test_share=0.2, valid_share=0.2).test
    score = model.predict(build(labelled.table, names, label_delay_us=0)[test])["score"].astype(np.float64)
    ap = average_precision_score(labelled.label[test], score)
    assert trained.result.rows[0].metrics["ap"] == pytest.approx(ap, abs=1e-9)
    assert model.manifest.metrics["test"] == trained.result.rows[0].metrics
    assert set(model.manifest.metrics) == {"test", "valid"}


def test_the_decision_is_sealed(trained: Trained) -> None:
    """Threshold on the raw score, medians of legitimate rows, mapping, delay, calibration and the synthetic mark."""
    decision = trained.result.bundle.manifest.decision
    assert decision["is_synthetic"] is True
    assert decision["threshold_on"] == "score"
    assert decision["label_delay_days"] == 0
    assert decision["calibration"]["method"] in {"none", "beta", "isotonic"}
    assert decision["alert_rate"]["low"] <= decision["alert_rate"]["rate"] <= decision["alert_rate"]["high"]
    assert ColumnMap.model_validate(decision["columns"]) == ColumnMap()
    labelled = load_labelled(trained.data, ColumnMap())
    past = split_by_time(labelled.timestamp_us, test_share=0.2, valid_share=0.2).test.start
    legitimate = labelled.amount[:past][~labelled.label[:past]]
    assert decision["reference"]["amount"] == pytest.approx(np.median(legitimate), rel=1e-6)


def test_the_sealed_outputs_are_in_order(trained: Trained) -> None:
    """Each row's probability lies within its interval, and no higher score has a lower probability."""
    model = load_model(trained.bundle)
    labelled = load_labelled(trained.data, ColumnMap())
    answer = model.predict(build(labelled.table, model.manifest.inputs[0].columns, label_delay_us=0))
    assert (answer["low"] <= answer["probability"]).all()
    assert (answer["probability"] <= answer["high"]).all()
    order = np.argsort(answer["score"], kind="stable")
    for name in ("probability", "low", "high"):
        assert (np.diff(answer[name][order]) >= 0).all()


def test_rows_that_wait_for_their_labels_teach_nothing_and_set_the_threshold(tmp_path: Path) -> None:
    """With a delay, the labels of the last days before the test change neither graph nor threshold."""
    data = write_world(tmp_path / "t.parquet", days=40)
    delay = {"label_delay_days": 5, "alert_budget": 0.05, **QUICK}
    material = prepare(small_config(data, **delay))
    waiting = material.split.waiting
    assert waiting.stop - waiting.start > 500
    table = pq.read_table(data)
    label = table["is_fraud"].to_numpy().copy()
    label[waiting] = ~label[waiting]
    turned = tmp_path / "turned.parquet"
    place = table.schema.get_field_index("is_fraud")
    pq.write_table(table.set_column(place, "is_fraud", pa.array(label)), turned)
    bundles = [train(small_config(path, out=tmp_path / path.stem, **delay)).bundle for path in (data, turned)]
    assert bundles[0].onnx == bundles[1].onnx
    assert bundles[0].manifest.decision == bundles[1].manifest.decision
    score = load_model(bundles[0].path).predict(material.x[waiting])["score"]
    assert (score >= bundles[0].manifest.decision["threshold"]).mean() == pytest.approx(0.05, abs=0.005)


def test_training_leaves_the_last_transactions_beside_the_model(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scoring starts with each card's history; the signed bundle holds none of it."""
    monkeypatch.setenv("QUATRAIN_CORE__HOME", str(trained.run_folder.parents[1]))
    held = journal.load_for(trained.result.bundle.digest)
    assert held is not None
    at_us = load_labelled(trained.data, ColumnMap()).timestamp_us
    assert len(held) == (at_us > at_us.max() - LONGEST_US).sum()
    assert b"C000" not in b"".join(p.read_bytes() for p in trained.bundle.iterdir() if p.is_file())


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
    x = build(load_labelled(trained.data, ColumnMap()).table, names, label_delay_us=0)
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
    names = trained.result.bundle.manifest.inputs[0].columns
    assert {row["feature"] for row in report["importance"]} == {wording(name).thing for name in names}
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
    with pytest.raises(BadDataError, match=r"the valid part of t\.csv has 0 frauds known when the test begins"):
        train(small_config(path))
    assert list_runs()[0].status == "failed"


def test_a_set_of_another_task_is_refused() -> None:
    """Credit scoring is not fraud detection: another model, another card."""
    with pytest.raises(UsageError, match="german-credit is a set for credit-scoring, not fraud"):
        train(small_config(Path("german-credit")))


def test_a_column_from_after_the_decision_is_refused(tmp_path: Path) -> None:
    """A column that only frauds have filled would make any model look perfect; told to, training only warns."""
    table = pq.read_table(write_world(tmp_path / "t.parquet", days=20))
    label = table["is_fraud"].to_numpy()
    noise = np.random.default_rng(0).normal(size=len(label))
    leaking = tmp_path / "leaking.parquet"
    pq.write_table(table.append_column("review_minutes", pa.array(label * 30 + noise)), leaking)
    columns = tmp_path / "columns.toml"
    columns.write_text('[extra]\nnumeric = ["review_minutes"]\n')
    with pytest.raises(BadDataError, match=r"review_minutes: .* \[extra\] ignore .* leaks=warn"):
        train(small_config(leaking, columns=columns, **QUICK))
    result = train(small_config(leaking, columns=columns, leaks="warn", **QUICK))
    assert "review_minutes" in {leak["column"] for leak in result.to_dict()["leaks"]}


def test_the_run_says_what_it_took_of_the_machine(trained: Trained) -> None:
    """CPU, memory and disk, beside its measures."""
    metrics = json.loads((trained.run_folder / "run.json").read_text(encoding="utf-8"))["metrics"]
    assert metrics["resources_cpu_seconds"] > 0
    assert metrics["resources_memory_mib"] > 1
