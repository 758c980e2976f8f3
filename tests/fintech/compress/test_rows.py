"""Rows to calibrate on and rows to be judged by never meet, in time or otherwise."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.fintech.compress.conftest import Sealed

from quatrain.core.errors import BadDataError
from quatrain.fintech.compress.rows import read_rows
from quatrain.fintech.data.columns import ColumnMap
from quatrain.fintech.data.table import load_labelled
from quatrain.fintech.features.build import build
from quatrain.fintech.features.row import DAY_US


def test_calibration_is_what_was_known_when_the_test_began(perceptron: Sealed) -> None:
    """Rows of the last two days before it waited for their labels: they are in neither part."""
    manifest = perceptron.bundle.manifest
    rows = read_rows(perceptron.config(), manifest)
    labelled = load_labelled(perceptron.data, ColumnMap())
    x = build(labelled.table, manifest.inputs[0].columns, label_delay_us=2 * DAY_US)
    test_us = datetime.fromisoformat(manifest.data["test_from"]).timestamp() * 1e6
    known, later = labelled.timestamp_us < test_us - 2 * DAY_US, labelled.timestamp_us >= test_us
    assert (~known & ~later).sum() > 0
    np.testing.assert_array_equal(rows.known_x, x[known])
    np.testing.assert_array_equal(rows.later_x, x[later])
    np.testing.assert_array_equal(rows.later_y, labelled.label[later])
    assert manifest.data["test"] == len(rows.later_y)


def test_calibration_rows_hold_frauds_and_are_drawn_by_seed(perceptron: Sealed) -> None:
    """At most a quarter are frauds, none is drawn twice, and another seed draws others."""
    rows = read_rows(perceptron.config(), perceptron.bundle.manifest)
    drawn = rows.calibration(400, seed=1)
    assert len(np.unique(drawn, axis=0)) == len(drawn) == 400
    known = {row.tobytes(): bool(label) for row, label in zip(rows.known_x, rows.known_y, strict=True)}
    n_frauds = sum(known[row.tobytes()] for row in drawn)
    assert n_frauds == min(100, int(rows.known_y.sum()))
    np.testing.assert_array_equal(rows.calibration(400, seed=1), drawn)
    assert not np.array_equal(rows.calibration(400, seed=2), drawn)


def test_data_that_ends_with_the_training_is_refused(perceptron: Sealed) -> None:
    """There is nothing new to the model in it; the message says from when on rows are needed."""
    manifest = perceptron.bundle.manifest
    table = pq.read_table(perceptron.data)
    test_us = int(datetime.fromisoformat(manifest.data["test_from"]).timestamp() * 1e6)
    earlier = perceptron.data.with_name("earlier.parquet")
    at_us = table["timestamp"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    pq.write_table(table.filter(pa.array(at_us < test_us)), earlier)
    with pytest.raises(BadDataError, match=r"has 0 frauds in 0 labelled rows from .* give data that goes on after it"):
        read_rows(perceptron.config(data=str(earlier)), manifest)


def test_a_bundle_that_does_not_say_when_it_was_trained_is_refused(perceptron: Sealed) -> None:
    """Without that moment, rows that it learned from could judge it."""
    manifest = perceptron.bundle.manifest
    forgetful = manifest.model_copy(update={"data": {}})
    with pytest.raises(BadDataError, match="does not say up to when it was trained"):
        read_rows(perceptron.config(), forgetful)
