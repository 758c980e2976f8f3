"""The inputs of a file in parts: those of the whole, wherever it is cut."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from tests.fintech.score_models import NAMES, make_world

from quatrain.core.errors import BadDataError
from quatrain.fintech.features.build import build
from quatrain.fintech.score.inputs import Inputs

DELAY_US = 2 * 86_400_000_000


@pytest.mark.parametrize("names", [NAMES, NAMES[::-1], ("customer_count_7d",), ("terminal_risk_7d", "amount")])
@pytest.mark.parametrize("has_history", [False, True])
@pytest.mark.parametrize("size", [1, 64, 1000])
def test_parts_are_those_of_the_matrix(names: Sequence[str], size: int, *, has_history: bool) -> None:
    """Rows in any order, with and without a past, inputs in any order; bit for bit."""
    world = make_world(400, has_labels=True)
    past = world.slice(0, 250) if has_history else None
    rows = world.slice(200).take(np.random.default_rng(0).permutation(200))
    expected = build(rows, names, history=past, label_delay_us=DELAY_US)
    inputs = Inputs(rows, names, history=past, label_delay_us=DELAY_US)
    parts = [inputs.part(start, start + size) for start in range(0, len(rows), size)]
    np.testing.assert_array_equal(np.concatenate(parts), expected)
    assert {part.dtype for part in parts} == {np.dtype(np.float32)}


def test_an_id_column_that_is_not_there_is_named() -> None:
    """A file without devices for a model that looks at them."""
    rows: pa.Table = make_world(20).drop_columns(["device_id"])
    with pytest.raises(BadDataError, match="need device_id, which the rows do not have"):
        Inputs(rows, NAMES, label_delay_us=DELAY_US)
