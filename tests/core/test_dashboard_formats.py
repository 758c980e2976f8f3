"""Numbers, times and foreign text read the same on every page, and foreign text cannot become markup."""

from __future__ import annotations

import html
import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quatrain.core.dashboard import formats

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0.00"), (1204.5, "1,204.50"), (-3.1, "-3.10"), (12_400_310.4, "12,400,310"), (None, formats.NONE)],
)
def test_amounts_have_separators_and_cents_until_a_million(value: float | None, text: str) -> None:
    """An amount is read at a glance."""
    assert formats.money(value) == text


def test_an_amount_names_its_currency_where_it_has_one() -> None:
    """The unit stands behind the number."""
    assert formats.money(12.0, "EUR") == "12.00 EUR"


@pytest.mark.parametrize(("value", "text"), [(0.00123, "0.12 %"), (1.0, "100.00 %"), (math.nan, formats.NONE)])
def test_shares_are_percentages(value: float, text: str) -> None:
    """What is not a number is a dash, never "nan %"."""
    assert formats.share(value, digits=2) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1_754_155, "1,754,155"), (0.6891, "0.689"), (12.5, "12.500"), (0.00004, "4e-05"), (0.0, "0")]
)
def test_measures_keep_three_digits(value: float, text: str) -> None:
    """Whole numbers stay whole, and a small number does not become 0.000."""
    assert formats.measure(value) == text


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (timedelta(seconds=-5), "just now"),
        (timedelta(seconds=59), "just now"),
        (timedelta(minutes=5), "5 min ago"),
        (timedelta(hours=47, minutes=59), "47 h ago"),
        (timedelta(days=3), "3 days ago"),
    ],
)
def test_ages_have_one_unit(age: timedelta, text: str) -> None:
    """A clock that is a little ahead does not give a negative age."""
    assert formats.ago(NOW - age, now=NOW) == text


def test_no_time_is_never() -> None:
    """What has not happened has no age."""
    assert (formats.ago(None), formats.moment(None)) == ("never", formats.NONE)


@pytest.mark.parametrize(("seconds", "text"), [(0.42, "0.4 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations_have_their_natural_unit(seconds: float, text: str) -> None:
    """Seconds below a minute, then minutes, then hours."""
    assert formats.duration(seconds) == text


def test_times_are_read_as_utc() -> None:
    """A naive time is UTC; another zone is converted."""
    assert formats.parse_time("2026-11-21T12:00:00") == NOW
    assert formats.parse_time("2026-11-21T14:00:00+02:00") == NOW
    assert formats.moment(NOW) == "21 Nov 2026, 12:00 UTC"


@pytest.mark.parametrize(("number", "text"), [(1, "1 row"), (0, "0 rows"), (2310, "2,310 rows")])
def test_plurals_agree_with_their_number(number: int, text: str) -> None:
    """One row, two rows."""
    assert formats.plural(number, "row") == text


@given(text=st.text())
def test_foreign_text_cannot_become_html(text: str) -> None:
    """No character of it opens a tag or leaves an attribute, and none is lost."""
    shown = formats.html(text)
    assert not set("<>\"'") & set(shown)
    assert html.unescape(shown) == text


def test_foreign_text_cannot_become_markdown() -> None:
    """A column called [x](y) is shown, not linked."""
    assert formats.plain("*a* [x](y) :red[z]\n# b") == r"\*a\* \[x\]\(y\) \:red\[z\] \# b"
