"""Card numbers are known by length, issuer and check digit, and no text shows one."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quatrain.fintech.data import pan

# Numbers that the schemes and payment processors publish for tests.
TEST_PANS = [
    "4111111111111111",
    "4222222222222",
    "4000056655665556",
    "5555555555554444",
    "5105105105105100",
    "2223003122003222",
    "378282246310005",
    "371449635398431",
    "30569309025904",
    "38520000023237",
    "36227206271667",
    "6011111111111117",
    "6011000990139424",
    "3530111333300000",
    "3566002020360505",
    "6200000000000005",
    "6304000000000000",
    "5019717010103742",
    "2201382000000013",
]


def as_numbers(*texts: str) -> pan.Numbers:
    """Return texts of digits as numbers."""
    return np.array([int(text) for text in texts], dtype=np.uint64)


def luhn(digits: str) -> bool:
    """Return whether a number passes, digit by digit as ISO/IEC 7812-1 describes it."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def pans_in(*values: Any, kind: pa.DataType | None = None) -> list[int]:
    """Return the card numbers found in a column."""
    found = pan.find(pa.array(values, kind))
    return sorted(found.numbers[pan.is_pan(found.numbers)].tolist())


@pytest.mark.parametrize("number", TEST_PANS)
def test_published_test_numbers_are_card_numbers(number: str) -> None:
    """Each scheme's, at each of its lengths; with another last digit none is."""
    assert pan.is_pan(as_numbers(number)).all()
    others = [number[:-1] + digit for digit in "0123456789" if digit != number[-1]]
    assert not pan.is_pan(as_numbers(*others)).any()


@settings(deadline=None)
@given(numbers=st.lists(st.integers(0, 10**19 - 1), max_size=40))
def test_luhn_agrees_with_the_definition(numbers: list[int]) -> None:
    """Four digits at a time gives what one at a time does."""
    found = pan.passes_luhn(np.array(numbers, dtype=np.uint64))
    assert found.tolist() == [luhn(str(number)) for number in numbers]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("4" + "0" * 12, True),
        ("4" + "0" * 13, False),
        ("4" + "0" * 18, True),
        ("222099" + "0" * 10, False),
        ("222100" + "0" * 10, True),
        ("272099" + "0" * 10, True),
        ("272100" + "0" * 10, False),
        ("50" + "0" * 14, True),
        ("59" + "0" * 14, False),
        ("36" + "0" * 12, True),
        ("36" + "0" * 11, False),
        ("352799" + "0" * 10, False),
        ("352800" + "0" * 10, True),
        ("34" + "0" * 13, True),
        ("34" + "0" * 14, False),
        ("1" + "0" * 15, False),
        ("999999999999", False),
        ("9" * 19, False),
        ("10" + "0" * 18, False),
    ],
)
def test_issuers_are_known_by_prefix_and_length(number: str, expected: bool) -> None:
    """The edges of ranges; numbers that are too short or too long for a card."""
    assert pan.has_issuer(as_numbers(number)).tolist() == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111111",
        " 4111111111111111 ",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111.1111.1111.1111",
        "4111\u00a01111\u00a01111\u00a01111",
        "4111\u20131111\u20131111\u20131111",
        "41-111111-11111-111",
        "4111111111111111.0",
        "0004111111111111111",
        "0" * 25 + "4111111111111111",
        "card 4111111111111111 declined",
        "paid with 4111 1111 1111 1111, twice",
        "12 4111 1111 1111 1111",
        "PAN4111111111111111",
        "a4111111111111111b",
        ";4111111111111111=25121010000012345?",
        "%B4111111111111111^DOE/JOHN^2512",
        "https://shop.example/pay?card=4111111111111111&cvv=1",
    ],
)
def test_a_card_number_is_found_however_it_is_written(text: str) -> None:
    """Grouped, padded, or in the middle of other text."""
    assert 4111111111111111 in pans_in(text)
    assert "4111111111111111" not in re.sub("[^0-9]", "", pan.masked(text))


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T08:00:00.123456Z",
        "1769846400000000",
        "41111111111111111111",
        "411111111111111",
        "",
        "C000017",
    ],
)
def test_other_texts_hold_none(text: str) -> None:
    """Times, numbers of other lengths, digests in hex."""
    assert pans_in(text) == []


def test_every_type_that_can_hold_a_number_is_looked_at() -> None:
    """Numbers, decimals, bytes, dictionaries and what is nested; columns of times hold none."""
    number = 4111111111111111
    assert pans_in(number, None, -number, 5) == [number, number]
    assert pans_in(number, kind=pa.uint64()) == [number]
    assert pans_in(float(number), float("nan"), float("inf"), None, 0.5) == [number]
    assert pans_in(Decimal(number), kind=pa.decimal128(20, 2)) == [number]
    assert pans_in(str(number).encode()) == [number]
    dictionary = pa.array([str(number), "x"]).dictionary_encode()
    assert pan.find(dictionary).numbers.tolist() == [number]
    nested = pa.array([None, [], [{"a": 1.0, "b": "x"}], [{"a": 0.5, "b": "x"}, {"a": 2.0, "b": f"y {number}"}]]).slice(
        1
    )
    assert (pan.find(nested).rows.tolist(), pan.find(nested).numbers.tolist()) == ([2], [number])
    mapped = pa.array([None, [("k", 7)], [("k", number), (f"{number}", None)]], pa.map_(pa.string(), pa.int64()))
    assert pan.find(mapped).rows.tolist() == [2, 2]
    assert pan.find(pa.array([number], pa.timestamp("us"))).numbers.tolist() == []


@settings(deadline=None)
@given(data=st.data())
def test_each_number_is_found_in_its_own_row(data: st.DataObject) -> None:
    """Neighbours never run together, also in a slice and between nulls."""
    filler = st.one_of(st.none(), st.text("0123456789 -abc", max_size=10))
    rows = data.draw(st.lists(st.one_of(filler, st.sampled_from(TEST_PANS)), min_size=1, max_size=20))
    begin = data.draw(st.integers(0, len(rows) - 1))
    array = pa.array(rows, pa.string()).slice(begin)
    found = pan.find(array)
    expected = {(row, int(text)) for row, text in enumerate(rows[begin:]) if text in TEST_PANS}
    is_pan = pan.is_pan(found.numbers)
    assert set(zip(found.rows[is_pan].tolist(), found.numbers[is_pan].tolist(), strict=True)) == expected


@settings(deadline=None)
@given(
    number=st.sampled_from(TEST_PANS),
    before=st.text(max_size=12),
    after=st.text(max_size=12),
    between=st.sampled_from(["", " ", "-", ".", "\u00a0", " - "[:2]]),
    step=st.integers(1, 6),
)
def test_masked_text_shows_no_card_number(number: str, before: str, after: str, between: str, step: int) -> None:
    """Whatever stands around it and between its digits, at most six and four digits of a run are left."""
    written = between.join(number[i : i + step] for i in range(0, len(number), step))
    text = pan.masked(before + written + after)
    assert number not in re.sub(r"[^0-9*]", "", text)
    assert written not in text


@settings(deadline=None)
@given(text=st.text("0123456789 -.abc", max_size=60))
def test_masking_changes_nothing_but_long_numbers(text: str) -> None:
    """Masking twice is masking once, and no run of 13 digits is left."""
    once = pan.masked(text)
    assert pan.masked(once) == once
    assert re.search(r"[0-9]{13}", once) is None
    if sum(sign.isdigit() for sign in text) < 13:
        assert once == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12345678-1234-4123-8123-446655440000 to AT611904300234573201", []),
        ("AT61 1904 3002 3457 3201", []),
        ("d41d8cd98f00b204e9800998ecf8427e4111111111111111", []),
        ("d41d8cd94111111111111111", []),
        ("d41d8c4111111111111111", [4111111111111111]),
        ("AT611904300234573201 4111111111111111", [4111111111111111]),
        ("12345678-1234-4123-8123-446655440000 4111 1111 1111 1111", [4111111111111111]),
        # No account, as its check digits are wrong, and no digest, as it has no letter.
        ("AT006200000000000005", [6200000000000005]),
        ("4111111111111111-4111111111111111", [4111111111111111] * 2),
    ],
)
def test_other_ids_have_digits_of_their_own(text: str, expected: list[int]) -> None:
    """Those of IBANs, UUIDs and digests are left out; what is beside them is still seen."""
    array = pa.array(["x", text])
    found = pan.without_other_ids(array, pan.find(array))
    is_pan = pan.is_pan(found.numbers)
    assert found.numbers[is_pan].tolist() == expected
    assert set(found.rows[is_pan].tolist()) <= {1}


def test_fractions_are_left_out() -> None:
    """A float as text has as many digits as a card; a whole number with decimals is still a number."""
    texts = pa.array(["-1.3598071336738", ".4111111111111111", "4,111111111111111e-5", "4111111111111111.0", "x"])
    assert pan.without_fractions(texts).to_pylist() == [None, None, None, "4111111111111111.0", "x"]
