"""A feature's name is its whole definition: one name, one meaning."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fintech.features.oracle import DAY, HOUR, MINUTE, NAMES

from quatrain.core.errors import BadDataError
from quatrain.fintech.features.names import (
    ENTITIES,
    STANDARD,
    Feature,
    entities,
    extra_names,
    feature_names,
    horizon_us,
    needs_history,
    parse,
)
from quatrain.fintech.features.row import BUILT_IN, WEEK_US

HANDBOOK = ("customer_id", "terminal_id")
YEAR = 365 * DAY


@pytest.mark.parametrize(
    ("name", "feature"),
    [
        ("customer_count_10m", Feature(kind="count", by=("customer",), window_us=10 * MINUTE)),
        ("customer_terminal_mean_1d", Feature(kind="mean", by=("customer", "terminal"), window_us=DAY)),
        ("device_distinct_customer_7d", Feature(kind="distinct", by=("device",), window_us=7 * DAY, of="customer")),
        ("terminal_since_fraud", Feature(kind="since_fraud", by=("terminal",))),
        ("customer_merchant_since", Feature(kind="since", by=("customer", "merchant"))),
        ("device_component", Feature(kind="component", by=("device",))),
        ("merchant_risk_60d", Feature(kind="risk", by=("merchant",), window_us=60 * DAY)),
    ],
)
def test_a_name_reads_as_its_feature(name: str, feature: Feature) -> None:
    """Key, kind and window; and the feature writes itself as that name."""
    assert parse(name) == feature
    assert feature.name == name


@pytest.mark.parametrize(
    "name",
    [
        "amount",
        "V1",
        "customer",
        "customer_count",
        "customer_count_7",
        "customer_count_07d",
        "customer_count_0d",
        "customer_count_24h",
        "customer_count_60m",
        "customer_count_61d",
        "customer_count_99999d",
        "customer_count_7d_",
        "xcustomer_count_7d",
        "terminal_customer_count_7d",
        "customer_customer_count_7d",
        "customer_distinct_customer_7d",
        "customer_terminal_distinct_terminal_7d",
        "customer_distinct_7d",
        "customer_since_7d",
        "customer_component",
        "customer_device_component",
        "CUSTOMER_count_7d",
    ],
)
def test_other_names_are_no_features(name: str) -> None:
    """A second spelling, a window past the longest or a column of the file's own is not taken for a feature."""
    assert parse(name) is None


@given(text=st.text() | st.sampled_from(NAMES).flatmap(lambda name: st.sampled_from((name, name + "d", name[1:]))))
def test_what_reads_as_a_feature_has_one_name(text: str) -> None:
    """Whatever the text, no two names read as one feature."""
    feature = parse(text)
    assert feature is None or feature.name == text


def test_the_standard_inputs_are_the_handbooks_fifteen() -> None:
    """Fifteen names, of cards and terminals only."""
    assert len(set(STANDARD)) == 15
    assert entities(STANDARD) == HANDBOOK
    assert feature_names(HANDBOOK, [], span_us=YEAR, history="standard") == STANDARD


def test_history_is_what_looks_beyond_the_row() -> None:
    """The calendar and the file's own columns do not."""
    assert not needs_history((*BUILT_IN, "V1"))
    assert needs_history((*BUILT_IN, "customer_since"))
    assert extra_names(("amount", "V1", "customer_since", "V2")) == ("V1", "V2")
    assert entities(("merchant_distinct_device_7d", "V1")) == ("device_id", "merchant_id")
    assert entities(("device_component",)) == ("customer_id", "device_id")
    assert entities(BUILT_IN) == ()


@pytest.mark.parametrize(
    ("name", "reach_us"),
    [
        ("V1", 0),
        ("customer_count_7d", 7 * DAY),
        ("customer_since", 60 * DAY),
        ("terminal_matured_7d", 7 * DAY + HOUR),
        ("terminal_risk_7d", 60 * DAY + HOUR),
        ("device_component", 60 * DAY),
        ("device_since_fraud", 60 * DAY),
    ],
)
def test_the_horizon_is_how_far_back_a_feature_looks(name: str, reach_us: int) -> None:
    """Alone, and as the longest of many."""
    assert horizon_us([name], HOUR) == reach_us
    assert horizon_us(["customer_count_1d", name], HOUR) == max(reach_us, DAY)


def test_a_file_without_an_id_has_no_features_of_it() -> None:
    """Every feature asked for can be computed from the columns that there are, and each column brings some."""
    for n in range(len(ENTITIES) + 1):
        for columns in itertools.combinations(ENTITIES.values(), n):
            names = feature_names(columns, [], span_us=YEAR, history="full")
            assert len(set(names)) == len(names)
            assert entities(names) == columns
            assert set(names[: len(BUILT_IN)]) == set(BUILT_IN)


def test_full_holds_the_standard_features() -> None:
    """More history never means less."""
    assert set(STANDARD) < set(feature_names(HANDBOOK, [], span_us=YEAR, history="full"))


def test_windows_that_the_data_does_not_hold_are_left_out() -> None:
    """Of a window longer than the data a model would learn the date; labels need their delay too."""
    names = feature_names(HANDBOOK, ["V1"], span_us=WEEK_US, label_delay_us=DAY, history="full")
    assert "customer_count_7d" in names
    assert "customer_count_30d" not in names
    assert "terminal_risk_1d" in names
    assert "terminal_risk_7d" not in names
    assert names[-1] == "V1"
    assert "terminal_since_fraud" not in feature_names(
        HANDBOOK, [], span_us=DAY, label_delay_us=WEEK_US, history="full"
    )


def test_an_extra_named_like_a_history_feature_is_refused() -> None:
    """Two meanings of one name would be scored as one, whether or not the model has the feature."""
    with pytest.raises(BadDataError, match="may not be named customer_count_7d: features of that name are built in"):
        feature_names(HANDBOOK, ["customer_count_7d"], span_us=YEAR, history="none")
    assert feature_names(HANDBOOK, ["customer_count_61d"], span_us=YEAR)[-1] == "customer_count_61d"
