"""Tokens are HMAC-SHA256 under the key, equal for equal cards, and say which key made them."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quatrain.core.errors import BadDataError, UsageError
from quatrain.fintech.data.base32 import base32
from quatrain.fintech.data.pan_key import KEY_VARIABLE, PanKey
from quatrain.fintech.data.pan_token import Tokeniser, hmac_sha256, tokens_of

KEY = PanKey(secret=bytes(range(32)))
OTHER = PanKey(secret=bytes(32))
# RFC 4231, test cases 1 to 4, 6 and 7 (key, data, HMAC-SHA-256); case 5 is truncated.
RFC_4231 = [
    ("0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (
        b"Jefe".hex(),
        b"what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ),
    ("aa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    (
        "0102030405060708090a0b0c0d0e0f10111213141516171819",
        b"\xcd" * 50,
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
    ),
    (
        "aa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    (
        "aa" * 131,
        (
            b"This is a test using a larger than block-size key and a larger than block-size data. "
            b"The key needs to be hashed before being used by the HMAC algorithm."
        ),
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ),
]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY.secret.hex())


def tokens(*values: str | None, key_id: str | None = None) -> list[str | None]:
    """Return the tokens of a column."""
    return Tokeniser("card", key_id=key_id).tokens(pa.array(values, pa.string())).to_pylist()


@pytest.mark.parametrize(("key", "message", "expected"), RFC_4231)
def test_published_vectors_hold(key: str, message: bytes, expected: str) -> None:
    """Keys shorter and longer than a block."""
    assert hmac_sha256(bytes.fromhex(key), [message])[0].hex() == expected


@settings(deadline=None)
@given(key=st.binary(max_size=100), messages=st.lists(st.binary(max_size=80), max_size=5))
def test_many_at_a_time_are_what_the_standard_library_gives(key: bytes, messages: list[bytes]) -> None:
    """Hashing the key's blocks once changes nothing."""
    assert hmac_sha256(key, messages) == [hmac.digest(key, each, "sha256") for each in messages]


@settings(deadline=None)
@given(digests=st.lists(st.binary(min_size=32, max_size=32), max_size=5), length=st.integers(1, 51))
def test_base32_is_the_standards(digests: list[bytes], length: int) -> None:
    """RFC 4648 in small letters, cut."""
    expected = [base64.b32encode(each).decode().lower()[:length] for each in digests]
    assert base32(digests, length=length) == expected


def test_a_token_can_be_computed_elsewhere() -> None:
    """The key's id, then 130 bits of the HMAC of the bare digits."""
    body = base64.b32encode(hmac.digest(KEY.secret, b"4111111111111111", hashlib.sha256)).decode().lower()[:26]
    key_id = base64.b32encode(hmac.digest(KEY.secret, b"quatrain pan key id", hashlib.sha256)).decode().lower()[:6]
    assert tokens("4111111111111111") == [f"tok_{key_id}_{body}"]


def test_equal_cards_have_equal_tokens() -> None:
    """Groups, padding and a float's decimals do not count; null stays null; other cards differ."""
    forms = [
        "4111111111111111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "0004111111111111111",
        "4111111111111111.0",
    ]
    made = tokens(*forms, None, "4111111111111129")
    assert len(set(made[:5])) == 1
    assert made[5] is None
    assert made[6] not in made[:5]


def test_other_values_of_a_listed_column_are_tokenised_too() -> None:
    """A card with a digit missing is nearly one; ids that differ in leading zeros stay different."""
    made = tokens("411111111111", "12", "012", "abc")
    assert len(set(made)) == 4
    assert all(str(token).startswith(f"tok_{KEY.id}_") for token in made)


def test_tokens_are_kept() -> None:
    """A file tokenised before gives the same ids, and needs no key."""
    first = tokens("4111111111111111", "5555555555554444")
    assert tokens(*first) == first
    assert tokens(first[0], "5555555555554444") == first


def test_kept_tokens_need_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scoring machine that gets tokens never holds the secret."""
    made = tokens("4111111111111111")
    monkeypatch.delenv(KEY_VARIABLE)
    assert tokens(*made) == made
    with pytest.raises(UsageError, match=r"column card, which is listed under \[pan\] columns, needs the key"):
        tokens("4111111111111111")


def test_another_key_is_noticed() -> None:
    """In a file of two keys' tokens, beside raw values, and against what a model learned from."""
    mine, theirs = tokens_of(["4111111111111111"], KEY)[0], tokens_of(["4111111111111111"], OTHER)[0]
    assert mine != theirs
    with pytest.raises(BadDataError, match=f"expected tokens of the key {OTHER.id}|{KEY.id}.*was the key changed"):
        tokens(mine, theirs)
    with pytest.raises(UsageError, match=f"expected tokens of the key {OTHER.id}, but this machine's key is {KEY.id}"):
        tokens(theirs, "4111111111111111")
    with pytest.raises(UsageError, match=f"this machine's key is {KEY.id}"):
        tokens("4111111111111111", key_id=OTHER.id)
    with pytest.raises(BadDataError, match=f"column card has tokens of {KEY.id}"):
        tokens(mine, key_id=OTHER.id)
