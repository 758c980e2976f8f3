"""The offline engine gives what the definitions say, and nothing of the future."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fintech.features.oracle import DAY, HOUR, Event, event_lists, expected, to_table

from quatrain.fintech.features.build import build
from quatrain.fintech.features.names import ENTITIES

PAIRS = ("customer_terminal", "customer_device", "terminal_merchant")
WINDOWS = ("1h", "7d", "60d")
KINDS = ("count", "sum", "mean", "ratio", "matured", "frauds", "risk")
NAMES = tuple(
    name
    for key in (*ENTITIES, *PAIRS)
    for name in (
        *(
            f"{key}_{kind}_{w}"
            for kind in ("count", "sum", "mean", "ratio", "matured", "frauds", "risk")
            for w in WINDOWS
        ),
        *(f"{key}_distinct_{of}_{w}" for of in ENTITIES for w in WINDOWS if of not in key),
        f"{key}_since",
        f"{key}_since_fraud",
        *(["device_component"] if key == "device" else []),
    )
)


@settings(max_examples=300, deadline=None)
@given(events=event_lists(), delay=st.sampled_from((0, 1, HOUR, 7 * DAY, 40 * DAY)))
def test_every_kind_agrees_with_its_definition(events: list[Event], delay: int) -> None:
    """All kinds, keys and window edges, against plain Python that compares every pair of events."""
    found = build(to_table(events), NAMES, label_delay_us=delay)
    wanted = expected(events, NAMES, delay)
    # The definition's fraction is rounded once, an engine's float64 expression up to three times.
    wrong = [NAMES[place] for place in np.flatnonzero((np.abs(found - wanted) > np.spacing(wanted)).any(axis=0))]
    assert wrong == []
