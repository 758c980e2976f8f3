"""Features are a function of the row alone."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quatrain.core.errors import BadDataError
from quatrain.fintech.features.build import build, reference_values
from quatrain.fintech.features.names import extra_names, feature_names
from quatrain.fintech.features.row import BUILT_IN, DAY_US, WEEK_US

NAMES = (*BUILT_IN, "V1")


def rows_of(moments: list[datetime], amounts: list[float], v1: list[float]) -> pa.Table:
    """Return a table with what features read."""
    stamps = pa.array(moments, pa.timestamp("us", tz="UTC"))
    return pa.table({"timestamp": stamps, "amount": pa.array(amounts, pa.float64()), "V1": pa.array(v1, pa.float64())})


def test_values_of_a_worked_example() -> None:
    """A Sunday night and a Wednesday noon, by hand."""
    moments = [datetime(2026, 1, 4, 3, 30, tzinfo=UTC), datetime(2026, 1, 7, 12, 0, tzinfo=UTC)]
    matrix = build(rows_of(moments, [0.0, 99.0], [-1.5, 2.0]), NAMES)
    assert matrix.dtype == np.float32
    expected = [[0, 0, 3.5, 1, 6, 1, -1.5], [99, math.log(100), 12, 0, 2, 0, 2]]
    np.testing.assert_allclose(matrix, expected, rtol=1e-6)


@given(
    moments=st.lists(
        st.datetimes(datetime(1970, 1, 1), datetime(2199, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001 -- hypothesis adds the zone
        min_size=1,
        max_size=20,
    )
)
def test_calendar_agrees_with_datetime(moments: list[datetime]) -> None:
    """Hour and weekday of every instant are those of the standard library."""
    n = len(moments)
    matrix = build(rows_of(moments, [1.0] * n, [0.0] * n), ("hour", "weekday"))
    hours = [t.hour + t.minute / 60 + t.second / 3600 + t.microsecond / 3.6e9 for t in moments]
    np.testing.assert_allclose(matrix[:, 0], hours, atol=1e-5)
    assert matrix[:, 1].tolist() == [t.weekday() for t in moments]


def test_other_rows_change_nothing() -> None:
    """Features of a row alone equal its features among others: no state, so no leak."""
    rng = np.random.default_rng(0)
    moments = [datetime.fromtimestamp(int(t), tz=UTC) for t in rng.integers(0, 2_000_000_000, 50)]
    table = rows_of(moments, rng.random(50).tolist(), rng.random(50).tolist())
    together = build(table, NAMES)
    alone = np.concatenate([build(table.slice(i, 1), NAMES) for i in rng.permutation(50)])
    order = np.lexsort(together.T)
    np.testing.assert_array_equal(together[order], alone[np.lexsort(alone.T)])


def test_a_cycle_is_learned_only_if_seen_whole() -> None:
    """Two days of data say nothing about weekdays."""
    assert feature_names([], ["V1"], span_us=DAY_US - 1) == ("amount", "log_amount", "V1")
    assert feature_names([], ["V1"], span_us=2 * DAY_US) == ("amount", "log_amount", "hour", "is_night", "V1")
    assert feature_names([], ["V1"], span_us=WEEK_US) == NAMES
    assert extra_names(NAMES) == ("V1",)


def test_an_extra_named_like_a_feature_is_refused() -> None:
    """Two meanings of one name would be scored as one."""
    with pytest.raises(BadDataError, match="may not be named hour"):
        feature_names([], ["hour"], span_us=WEEK_US)


def test_reference_is_the_median() -> None:
    """The usual transaction is the middle one."""
    matrix = np.array([[1, 10], [3, 30], [200, 20]], dtype=np.float32)
    assert reference_values(matrix, ("amount", "V1")) == {"amount": 3.0, "V1": 20.0}
