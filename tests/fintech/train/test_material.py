"""What a training run may know: labels as they were known when each part began."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tests.fintech.conftest import small_config, write_world

from quatrain.core.errors import BadDataError
from quatrain.fintech.features.row import DAY_US
from quatrain.fintech.train.material import prepare


def late_from(path: Path, share: float) -> Path:
    """Return the world's file with labels that come two years late after this share of its rows."""
    table = pq.read_table(path).sort_by("timestamp")
    at_us = np.asarray(table["timestamp"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()))
    delay_us = np.where(np.arange(len(at_us)) < share * len(at_us), DAY_US, 730 * DAY_US)
    known = pc.cast(pa.array(at_us + delay_us), pa.timestamp("us", tz="UTC"))
    late = path.with_name("late.parquet")
    pq.write_table(table.append_column("labelled_at", known), late)
    return late


def test_the_latest_fold_is_validated_on_the_validation_rows(tmp_path: Path) -> None:
    """Whatever other folds are left out, calibration and the table's row are of the same rows."""
    data = write_world(tmp_path / "world.parquet")
    material = prepare(small_config(data, n_folds=3))
    fold = material.latest_fold
    np.testing.assert_array_equal(fold.x_valid, material.x[material.rows(material.split.valid)])
    np.testing.assert_array_equal(material.folds[-1].x_valid, fold.x_valid)
    np.testing.assert_array_equal(fold.day_valid, material.days(material.rows(material.split.valid)))


@pytest.mark.parametrize(("share", "part"), [(0.62, "valid"), (0.0, "train")])
def test_frauds_that_nobody_knew_yet_do_not_count(tmp_path: Path, share: float, part: str) -> None:
    """Labels that come after the fact: the part that has none by the time it is read is named."""
    data = late_from(write_world(tmp_path / "world.parquet"), share)
    with pytest.raises(BadDataError, match=f"the {part} part of late.parquet has 0 frauds known when"):
        prepare(small_config(data, n_folds=3))
