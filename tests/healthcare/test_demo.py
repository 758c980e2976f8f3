"""The demo's path from phantoms to a worklist, on fewer and with a smaller network."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.healthcare.conftest import small_config

from quatrain.core.config import settings
from quatrain.core.store import Store
from quatrain.healthcare import demo as demo_room
from quatrain.healthcare.train.config import TrainConfig


def test_the_demo_leaves_a_model_findings_and_a_quarantine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows, the damaged upload refused, and nothing done twice."""

    def small(data: Path) -> TrainConfig:
        return small_config(data, name="healthcare/chest-phantoms", promote="yes", n_resamples=10)

    monkeypatch.setattr(demo_room, "_SIZES", {"n_train": 80, "n_val": 60, "n_test": 120, "side": 48})
    monkeypatch.setattr(demo_room, "_N_NEW", 3)
    monkeypatch.setattr(demo_room, "_train_config", small)
    rows = demo_room.demo(tmp_path / "demo")
    assert [row.model.split(",")[0] for row in rows] == ["own site", "other site", "other site"]
    assert all(row.is_synthetic and "auc" in row.metrics for row in rows)
    assert Store().aliases("healthcare/chest-phantoms") == {"prod": 1}
    out = settings().home / "scored" / "healthcare"
    assert len(list((out / "findings").iterdir())) == 9
    assert "upload-broken-off.png" in next((out / "quarantine").iterdir()).read_text(encoding="utf-8")
    again = demo_room.demo(tmp_path / "demo")
    assert [row.metrics for row in again] == [row.metrics for row in rows]
    assert [version.number for version in Store().versions("healthcare/chest-phantoms")] == [1]
