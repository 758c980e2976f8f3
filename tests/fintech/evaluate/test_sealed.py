"""Evaluation: the shipped model first, baselines beside it, on rows that none of them learned from."""

from __future__ import annotations

import logging
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.fintech.conftest import Trained, write_world

from quatrain.core.errors import BadDataError
from quatrain.core.inference import load_model
from quatrain.fintech.data.columns import ColumnMap
from quatrain.fintech.data.table import load_labelled, split_by_time
from quatrain.fintech.evaluate.config import EvaluateConfig
from quatrain.fintech.evaluate.run import evaluate
from quatrain.fintech.evaluate.sealed import sealed_delay_us
from quatrain.fintech.features.build import build
from quatrain.fintech.features.row import DAY_US


def config_for(trained: Trained, **changes: object) -> EvaluateConfig:
    """Return an evaluation of the small model on its own data."""
    values = {"data": str(trained.data), "bundle": str(trained.bundle), "cards_per_day": 20, "n_resamples": 20}
    return EvaluateConfig.model_validate(values | changes)


def test_the_test_split_repeats_the_training_table(trained: Trained) -> None:
    """The same rows, the same measures, the same baselines as when the model was sealed."""
    document = evaluate(config_for(trained))
    sealed = {row.name: row for row in trained.result.rows if row.split == "test"}
    shipped, *baselines = document["rows"]
    assert set(document) == {"app", "task", "data", "split", "n", "rows", "leaks"}
    assert document["n"] == shipped["n"] == trained.result.rows[0].n
    measured = {name: shipped["metrics"][name] for name in trained.result.rows[0].metrics}
    assert measured == pytest.approx(trained.result.rows[0].metrics)
    assert shipped["intervals"]["ap"] == pytest.approx(trained.result.rows[0].intervals["ap"])
    assert [row["name"] for row in baselines] == ["logistic regression", "random forest", "lightgbm default"]
    for row in baselines:
        assert row["metrics"] == pytest.approx(sealed[row["name"]].metrics)


def test_the_sealed_threshold_is_measured(trained: Trained) -> None:
    """What it catches, how often it is right, and how many alerts that makes."""
    shipped, *baselines = evaluate(config_for(trained))["rows"]
    threshold = trained.result.bundle.manifest.decision["threshold"]
    model = load_model(str(trained.bundle))
    labelled = load_labelled(trained.data, ColumnMap())
    part = split_by_time(labelled.timestamp_us, test_share=0.2, valid_share=0.5).test
    names = model.manifest.inputs[0].columns
    x = build(labelled.table, names, label_delay_us=sealed_delay_us(model))[part]
    alerted = model.predict(x)["score"] >= np.float32(threshold)
    label = labelled.label[part]
    expected = {
        "precision": (alerted & label).sum() / alerted.sum(),
        "recall": (alerted & label).sum() / label.sum(),
        "alert_rate": alerted.mean(),
        "alerts_per_day": alerted.sum() / len(np.unique(labelled.timestamp_us[part] // DAY_US)),
    }
    assert {name: shipped["metrics"][name] for name in expected} == pytest.approx(expected)
    assert not set(expected) & set(baselines[0]["metrics"])


def test_all_rows_have_no_baselines_and_a_warning(trained: Trained, caplog: pytest.LogCaptureFixture) -> None:
    """Measuring on the training rows is possible and named as such."""
    with caplog.at_level(logging.WARNING):
        document = evaluate(config_for(trained, split="all"))
    assert len(document["rows"]) == 1
    assert "it looks better here than it is" in caplog.text


def test_rows_of_the_training_period_are_warned_of_in_any_file(
    trained: Trained, caplog: pytest.LogCaptureFixture
) -> None:
    """An extract of the training file has another digest, and a larger test share reaches before the test rows."""
    with caplog.at_level(logging.WARNING):
        evaluate(config_for(trained))
    assert "better here" not in caplog.text
    path = trained.data.parent / "extract.parquet"
    table = pq.read_table(trained.data)
    pq.write_table(table.slice(0, len(table) // 2), path)
    for config in (config_for(trained, data=str(path)), config_for(trained, test_share=0.4)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            evaluate(config)
        assert re.search(r"\d+ of \d+ rows are from before 2018-", caplog.text)


def test_new_data_is_measured_with_the_sealed_mapping(trained: Trained) -> None:
    """Another month of the same bank needs no mapping."""
    data = write_world(trained.data.parent / "next.parquet", seed=11, days=12)
    document = evaluate(config_for(trained, data=str(data), split="all"))
    assert document["data"] == "next.parquet"
    assert 0.5 < document["rows"][0]["metrics"]["auc"] <= 1


def test_unlabelled_data_cannot_be_measured(trained: Trained) -> None:
    """The label is asked for by name."""
    path = trained.data.parent / "unlabelled.csv"
    path.write_text("timestamp,amount\n2026-01-01,1\n")
    with pytest.raises(BadDataError, match="lacks is_fraud"):
        evaluate(config_for(trained, data=str(path)))
