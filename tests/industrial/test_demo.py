"""The demo leaves a model, verdicts and a quarantine, and does nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from quatrain.core.store import Store
from quatrain.industrial import demo as room


def test_the_demo_trains_once_and_inspects_each_part_once(
    tmp_path: Path, quatrain_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row says SYNTHETIC and has the contract's measures; a second call gives the same without training."""
    monkeypatch.setattr(room, "_N_TRAIN", 20)
    monkeypatch.setattr(room, "_N_GOOD", 4)
    monkeypatch.setattr(room, "_N_BAD", 1)
    row = room.demo(tmp_path)[0]
    assert (row.app, row.is_synthetic) == ("industrial", True)
    assert set(row.metrics) == {"image_auroc", "pixel_auroc", "aupro_30", "overkill", "escape"}
    verdicts = sorted((quatrain_home / "scored/industrial/verdicts").glob("*.parquet"))
    assert len(verdicts) == 12 + 6
    assert len(list((quatrain_home / "scored/industrial/quarantine").glob("part-broken*"))) == 1
    assert room.demo(tmp_path)[0] == row
    assert [version.number for version in Store().versions("industrial/surface")] == [1]
