"""Check digits of account numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quatrain.fintech.data.iban import is_iban

# The examples of the SWIFT IBAN registry.
REGISTRY = [
    "GB29NWBK60161331926819",
    "DE89370400440532013000",
    "FR1420041010050500013M02606",
    "NL91ABNA0417164300",
    "AT611904300234573201",
    "NO9386011117947",
    "MT84MALT011000012345MTLCAST001S",
]


@pytest.mark.parametrize("iban", REGISTRY)
def test_published_examples_hold(iban: str) -> None:
    """Every country's form is checked in the same way."""
    assert is_iban(iban)


@settings(deadline=None)
@given(iban=st.sampled_from(REGISTRY), place=st.integers(4, 33), digit=st.sampled_from("0123456789"))
def test_a_wrong_sign_is_noticed(iban: str, place: int, digit: str) -> None:
    """One digit in place of another never passes: 97 is prime, and 10 generates what is prime to it."""
    place = min(place, len(iban) - 1)
    changed = iban[:place] + digit + iban[place + 1 :]
    assert is_iban(changed) == (changed == iban) or not iban[place].isdigit()


@pytest.mark.parametrize(
    "text", ["", "GB29", "gb29nwbk60161331926819", "4111111111111111", "GB29 NWBK 6016 1331 9268 19"]
)
def test_other_texts_are_none(text: str) -> None:
    """Only the compact form in capitals counts."""
    assert not is_iban(text)
