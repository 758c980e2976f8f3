"""Evaluation: the shipped model first, baselines beside it, on rows that none of them learned from."""

from __future__ import annotations

import logging
import re

import pyarrow.parquet as pq
import pytest
from tests.fintech.conftest import Trained, write_world

from quatrain.core.errors import BadDataError
from quatrain.fintech.evaluate.config import EvaluateConfig
from quatrain.fintech.evaluate.run import evaluate


def config_for(trained: Trained, **changes: object) -> EvaluateConfig:
    """Return an evaluation of the small model on its own data."""
    values = {"data": str(trained.data), "bundle": str(trained.bundle), "cards_per_day": 20, "n_resamples": 20}
    return EvaluateConfig.model_validate(values | changes)


def test_the_test_split_repeats_the_training_table(trained: Trained) -> None:
    """The same rows, the same measures, the same baselines as when the model was sealed."""
    document = evaluate(config_for(trained))
    sealed = {row.name: row for row in trained.result.rows if row.split == "test"}
    shipped, *baselines = document["rows"]
    assert set(document) == {"app", "task", "data", "split", "n", "rows"}
    assert document["n"] == shipped["n"] == trained.result.rows[0].n
    assert shipped["metrics"] == pytest.approx(trained.result.rows[0].metrics)
    assert shipped["intervals"]["ap"] == pytest.approx(trained.result.rows[0].intervals["ap"])
    assert [row["name"] for row in baselines] == ["lightgbm default", "logistic regression"]
    for row in baselines:
        assert row["metrics"] == pytest.approx(sealed[row["name"]].metrics)


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
