"""Fold after fold: the contract of the JSON, no look into the future, and what is said where something is missing."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from tests.fintech.conftest import Trained, write_world

from quatrain.core.errors import BadDataError
from quatrain.fintech.data.arrays import from_numpy
from quatrain.fintech.evaluate.config import EvaluateConfig
from quatrain.fintech.evaluate.run import evaluate
from quatrain.fintech.evaluate.text import notes_of, shown_rows
from quatrain.fintech.features.build import build
from quatrain.fintech.features.names import STANDARD

BASELINES = ["logistic regression", "random forest", "lightgbm default"]


def config_for(data: Path, **changes: object) -> EvaluateConfig:
    """Return an evaluation that takes seconds."""
    values = {
        "data": str(data),
        "train_days": 7,
        "delay_days": 3,
        "test_days": 5,
        "folds": 2,
        "cards_per_day": 10,
        "n_resamples": 30,
        "recipe": {"trees": {"small": {"max_rounds": 20, "step": 10, "n_seeds": 1, "learning_rate": 0.1}}},
    }
    return EvaluateConfig.model_validate(values | changes)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return fifty days of a small world."""
    return write_world(tmp_path_factory.mktemp("world") / "a.parquet", days=50)


@pytest.fixture(scope="module")
def document(data: Path) -> dict[str, Any]:
    """Return its evaluation."""
    return evaluate(config_for(data))


def changed(path: Path, target: Path, *, without: tuple[str, ...] = (), **columns: pa.Array) -> Path:
    """Write the file with other columns."""
    table = pq.read_table(path).drop_columns(list(without))
    for name, column in columns.items():
        place = table.column_names.index(name)
        table = table.set_column(place, name, column)
    pq.write_table(table, target)
    return target


def test_the_recipe_comes_first_and_the_baselines_after_it(document: dict[str, Any]) -> None:
    """With the flat names of the contract, means over folds, intervals, and each fold's own values."""
    names = [row["name"] for row in document["rows"]]
    assert names == ["quatrain", "quatrain (standard features)", *BASELINES]
    assert (document["app"], document["task"], document["split"]) == ("fintech", "fraud", "prequential")
    for row in document["rows"]:
        wanted = {"ap", "auc", "cp_10", "value_recall", "ece", "alert_rate", "brier", "log_loss"}
        assert wanted <= set(row["metrics"])
        assert row["metrics"]["ap"] == pytest.approx(np.mean([fold["ap"] for fold in row["folds"]]))
        low, high = row["intervals"]["cp_10"]
        assert low <= row["metrics"]["cp_10"] <= high
        assert len(row["folds"]) == 2
    assert document["n"] == sum(fold["n_test"] for fold in document["protocol"]["folds"])
    json.dumps(document, allow_nan=False)


def test_differences_are_from_the_forest_on_the_same_days(document: dict[str, Any]) -> None:
    """Every other model has one, of every measure, with an interval."""
    metrics = {row["name"]: row["metrics"] for row in document["rows"]}
    assert [found["name"] for found in document["differences"]] == [name for name in metrics if name != "random forest"]
    for found in document["differences"]:
        assert found["against"] == "random forest"
        expected = metrics[found["name"]]["ap"] - metrics["random forest"]["ap"]
        assert found["metrics"]["ap"] == pytest.approx(expected)
        low, high = found["intervals"]["ap"]
        assert low <= found["metrics"]["ap"] <= high


def test_the_protocol_is_said(document: dict[str, Any]) -> None:
    """Dates of every fold, how many rows, how many cards removed, and what was chosen on what."""
    protocol = document["protocol"]
    assert (protocol["train_days"], protocol["delay_days"], protocol["test_days"]) == (7, 3, 5)
    assert [fold["test_from"] for fold in protocol["folds"]] == ["2018-05-11", "2018-05-16"]
    assert [fold["test_to"] for fold in protocol["chosen_on"]] == ["2018-05-02", "2018-05-07"]
    assert all(fold["removed_cards"] > 0 for fold in protocol["folds"])
    for name in ("quatrain (standard features)", *BASELINES):
        assert tuple(document["models"][name]["inputs"]) == STANDARD
    assert len(document["models"]["quatrain"]["inputs"]) > len(STANDARD)
    assert document["models"]["quatrain"]["recipe"]["trees"] == "small"
    text = "\n".join(notes_of(document))
    assert "trained on 2018-05-01 to 2018-05-07" in text
    assert "known compromised cards removed" in text
    assert "quatrain against random forest: ap" in text
    assert set(shown_rows(document["rows"])[0]["intervals"]) == {"ap", "auc", "cp_10", "value_recall"}


def test_the_future_changes_nothing_before_it(data: Path, document: dict[str, Any], tmp_path: Path) -> None:
    """Labels and amounts after the first test window, shuffled: the first fold's values stay to the last digit."""
    table = pq.read_table(data)
    day = np.asarray(table["timestamp"].cast(pa.int64())) // 86_400_000_000
    future = np.flatnonzero(day >= day.max() - 4)
    place = np.arange(len(table))
    place[future] = np.random.default_rng(0).permutation(future)
    shuffled = {name: table[name].take(from_numpy(place)).combine_chunks() for name in ("is_fraud", "amount")}
    other = evaluate(config_for(changed(data, tmp_path / "b.parquet", **shuffled)))
    first, second = ([row["folds"] for row in found["rows"]] for found in (document, other))
    assert [folds[0] for folds in first] == [folds[0] for folds in second]
    assert all(one[1] != two[1] for one, two in zip(first, second, strict=True))


def with_other_labels_on_the_last_day(data: Path, target: Path) -> Path:
    """Write the file with every label of its last day reversed: none of them is known in any fold."""
    table = pq.read_table(data)
    day = np.asarray(table["timestamp"].cast(pa.int64())) // 86_400_000_000
    label = np.asarray(table["is_fraud"])
    return changed(data, target, is_fraud=from_numpy(np.where(day == day.max(), ~label, label)))


def alert_rates(document: dict[str, Any]) -> list[list[float]]:
    """Return each model's, which depend on its scores and on no label of the test."""
    return [[fold["alert_rate"] for fold in row.get("folds", [row["metrics"]])] for row in document["rows"]]


def test_labels_that_are_not_known_yet_change_no_score(data: Path, document: dict[str, Any], tmp_path: Path) -> None:
    """The measures change, for the labels are other ones; what the models said does not."""
    other = evaluate(config_for(with_other_labels_on_the_last_day(data, tmp_path / "b.parquet")))
    assert alert_rates(document) == alert_rates(other)
    assert all(
        one["folds"][1]["ap"] != two["folds"][1]["ap"] for one, two in zip(document["rows"], other["rows"], strict=True)
    )


def test_a_feature_that_knows_labels_at_once_would_be_caught(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test before this one is no formality: features without the delay do not pass it."""

    def hasty(rows: pa.Table, names: tuple[str, ...], *, label_delay_us: int) -> NDArray[np.float32]:
        del label_delay_us
        return build(rows, names, label_delay_us=0)

    monkeypatch.setattr("quatrain.fintech.evaluate.prequential.build", hasty)
    one_fold = {"folds": 1, "features": "standard"}
    first = evaluate(config_for(data, **one_fold))
    other = evaluate(config_for(with_other_labels_on_the_last_day(data, tmp_path / "b.parquet"), **one_fold))
    assert alert_rates(first) != alert_rates(other)


def test_without_customers_it_goes_on_and_says_so(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No card can be removed, and Card Precision is not defined."""
    with caplog.at_level(logging.WARNING):
        found = evaluate(config_for(changed(data, tmp_path / "b.parquet", without=("customer_id",))))
    assert "cards known to be compromised cannot be removed" in caplog.text
    assert "Card Precision is not defined" in found["notes"][0]
    assert found["notes"][0] in list(notes_of(found))
    assert "cp_10" not in found["rows"][0]["metrics"]
    assert found["protocol"]["folds"][0]["removed_cards"] == 0


def test_a_short_file_is_refused_with_the_days_it_needs(tmp_path: Path) -> None:
    """Before anything is trained."""
    path = write_world(tmp_path / "a.parquet", days=20)
    with pytest.raises(BadDataError, match=r"spans 20 days, .* and 28 are needed: 2 folds of 5 test days"):
        evaluate(config_for(path))


def test_a_last_day_that_was_cut_short_is_noted(data: Path, tmp_path: Path) -> None:
    """Its Card Precision is low because there is little of it."""
    table = pq.read_table(data)
    day = np.asarray(table["timestamp"].cast(pa.int64())) // 86_400_000_000
    n_last = int((day == day.max()).sum())
    pq.write_table(table.slice(0, len(table) - n_last * 2 // 3), tmp_path / "b.parquet")
    found = evaluate(config_for(tmp_path / "b.parquet", features="standard", folds=1))
    assert len(found["notes"]) == 1
    assert "was the export cut short?" in found["notes"][0]


def test_no_frauds_to_choose_on_is_said(data: Path, tmp_path: Path) -> None:
    """With the dates; an honest weekday has none in a small file."""
    table = pq.read_table(data)
    day = np.asarray(table["timestamp"].cast(pa.int64())) // 86_400_000_000
    day -= day.min()
    label = np.asarray(table["is_fraud"]) & ~((day >= 32) & (day < 42))
    with pytest.raises(BadDataError, match=r"no frauds to choose on from 2018-05-03 to 2018-05-07"):
        evaluate(
            config_for(
                changed(data, tmp_path / "b.parquet", is_fraud=from_numpy(label)), folds=1, train_days=14, delay_days=8
            )
        )


def test_standard_features_alone_on_demand(data: Path) -> None:
    """One recipe row, on the handbook's inputs; a budget in transactions a day."""
    found = evaluate(config_for(data, features="standard", alerts_per_day=5, folds=1))
    assert [row["name"] for row in found["rows"]] == ["quatrain (standard features)", *BASELINES]
    assert found["rows"][0]["metrics"]["budget_alerts_per_day"] == pytest.approx(5)
    assert "folds" not in found["rows"][0]


def test_a_planted_leak_is_in_the_document(data: Path, tmp_path: Path) -> None:
    """A post-outcome column among the extras, with the line that leaves it out."""
    table = pq.read_table(data)
    table = table.append_column("recovered", from_numpy(np.asarray(table["is_fraud"]).astype(float) * 9))
    pq.write_table(table, tmp_path / "b.parquet")
    (tmp_path / "columns.toml").write_text('[extra]\nnumeric = ["recovered"]\n')
    found = evaluate(
        config_for(tmp_path / "b.parquet", columns=tmp_path / "columns.toml", features="standard", folds=1)
    )
    assert [leak["column"] for leak in found["leaks"]] == ["recovered"]
    assert any(line.startswith("possible leak: recovered: ") for line in notes_of(found))


def test_a_sealed_model_is_measured_on_the_same_windows(trained: Trained, caplog: pytest.LogCaptureFixture) -> None:
    """It is not retrained, its own threshold counts, and days that it saw are warned of."""
    shape = {"train_days": 5, "delay_days": 0, "test_days": 5, "folds": 2}
    with caplog.at_level(logging.WARNING):
        found = evaluate(config_for(trained.data, bundle=str(trained.bundle), **shape))
    assert "it looks better here than it is" in caplog.text
    assert [row["name"] for row in found["rows"]] == [found["rows"][0]["name"], *BASELINES]
    assert found["models"][found["rows"][0]["name"]]["digest"] == trained.result.bundle.digest
    assert found["protocol"]["chosen_on"] == []
    assert "alert_rate" in found["rows"][0]["metrics"]
    # Nothing waits for a label here, so the baselines have no threshold of their own.
    assert "alert_rate" not in found["rows"][1]["metrics"]
