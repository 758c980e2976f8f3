"""The demo: a bank, a model, a week of files, and nothing twice."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from quatrain.core.jobs.history import list_job_runs, unit_outputs
from quatrain.core.store import Store
from quatrain.fintech import demo as demo_room
from quatrain.fintech.models.trees import TreeSettings
from quatrain.fintech.score.run import JOB
from quatrain.fintech.simulation.handbook import SimulatorConfig
from quatrain.fintech.train.config import TrainConfig


@pytest.fixture
def small_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shrink the demo's bank and training."""
    world = SimulatorConfig(customers=200, terminals=300, days=25, radius=10, compromised_terminals=1)

    def config(history: Path) -> TrainConfig:
        trees = {"lightgbm": TreeSettings(max_rounds=10, step=5, n_seeds=1)}
        return TrainConfig(
            data=str(history), promote="yes", alert_budget=0.01, recipe={"trees": trees}, n_folds=1, n_resamples=20
        )

    monkeypatch.setattr(demo_room, "_WORLD", world)
    monkeypatch.setattr(demo_room, "_train_config", config)


@pytest.mark.usefixtures("small_demo")
def test_the_demo_ends_with_alerts_and_a_quarantine_and_repeats_nothing(tmp_path: Path) -> None:
    """Rows are labelled synthetic; a second call trains no second model and scores no file again."""
    rows = demo_room.demo(tmp_path / "demo")
    assert rows[0].model == "quatrain"
    assert all(row.is_synthetic and row.app == "fintech" for row in rows)
    assert {"lightgbm default", "logistic regression", "random forest"} <= {row.model for row in rows}
    assert set(rows[0].metrics) == {"ap", "auc", "cp_100", "value_recall"}
    alerts = [pq.read_table(path) for path in unit_outputs(name=JOB, output="alerts")]
    assert len(alerts) == 7
    assert sum(map(len, alerts)) > 0
    run = list_job_runs()[0]
    assert (run.status, run.units["done"], run.units["refused"], run.bad_rows) == ("done", 7, 1, 5)
    assert demo_room.demo(tmp_path / "demo") == rows
    assert len(Store().versions("fintech/fraud")) == 1
    assert list_job_runs()[0].units["new"] == 0
    days = [_span(path) for path in (tmp_path / "demo" / "incoming").glob("2*.parquet")]
    assert _span(tmp_path / "demo" / "history.parquet")[1] < min(first for first, _ in days)


def _span(path: Path) -> tuple[int, int]:
    at_us = pq.read_table(path)["timestamp"].cast(pa.int64()).to_numpy()
    return int(at_us.min()), int(at_us.max())
