"""Keyed tokens in place of card numbers: equal for equal numbers, and nobody without the key can tell whose."""

from __future__ import annotations

import hashlib
import re

from quatrain.core.errors import BadDataError, UsageError, UserError
from quatrain.fintech.data import kernels
from quatrain.fintech.data.arrays import Array, from_numpy, from_strings
from quatrain.fintech.data.base32 import base32
from quatrain.fintech.data.pan_key import PanKey, need_key

# 130 of the 256 bits, as RFC 2104 section 5 lets one cut: among a billion cards, two share a token once in 10^21 times.
_LENGTH = 26
_PREFIX = "tok_"
_TOKEN = re.compile(rf"{_PREFIX}([a-z2-7]{{6}})_[a-z2-7]{{{_LENGTH}}}")
_TOKEN_RE2 = f"^{_TOKEN.pattern}$"
# A number as long as a card's, however its digits are grouped.
_NUMBER_RE2 = r"^[0-9](?:[ \-._/\x{A0}\x{2010}-\x{2015}]{0,2}[0-9]){12,}$"
# SHA-256 works on blocks of 64 bytes; RFC 2104 section 2 gives the two paddings.
_BLOCK = 64
_INNER, _OUTER = 0x36, 0x5C


class Tokeniser:
    """Gives the tokens of one column's values; `key_id`, where given, is the only key whose tokens will do."""

    def __init__(self, column: str, *, key_id: str | None = None) -> None:
        self._column = column
        self._key_id = key_id
        self._key: PanKey | None = None

    @property
    def key_id(self) -> str | None:
        """Whose tokens came so far, None before the first."""
        return self._key_id

    def tokens(self, values: Array) -> Array:
        """Return the tokens of trimmed strings, null for null; tokens are kept as they are.

        Digits in groups are one number, and zeros before it do not count. Raises UsageError when
        the key is missing or another one than expected, BadDataError for tokens of another key.
        """
        encoded = values.dictionary_encode()
        different: Array = encoded.dictionary
        is_token = kernels.matches(different, _TOKEN_RE2)
        if is_token.any():
            self._check(different.filter(from_numpy(is_token)))
        texts = different.to_pylist()
        plain = [str(text) for text in _normal(different.filter(from_numpy(~is_token))).to_pylist()]
        made = iter(self._made(plain) if plain else ())
        tokens = [text if kept else next(made) for text, kept in zip(texts, is_token.tolist(), strict=True)]
        return from_strings(tokens).take(encoded.indices)

    def _made(self, texts: list[str]) -> list[str]:
        if self._key is None:
            key = need_key(f"column {self._column}, which is listed under [pan] columns,")
            self._expect(key.id, "this machine's key is", UsageError)
            self._key = key
        return tokens_of(texts, self._key)

    def _check(self, tokens: Array) -> None:
        ids = {match.group(1) for text in tokens.to_pylist() if (match := _TOKEN.fullmatch(str(text)))}
        for key_id in sorted(ids):
            self._expect(key_id, f"column {self._column} has tokens of", BadDataError)

    def _expect(self, key_id: str, what: str, error: type[UserError]) -> None:
        if self._key_id is None:
            self._key_id = key_id
        elif key_id != self._key_id:
            raise error(
                f"expected tokens of the key {self._key_id}, but {what} {key_id}: was the key changed? Under another "
                "key a card has no history; use the first one, or tokenise the original files and train again"
            )


def tokens_of(texts: list[str], key: PanKey) -> list[str]:
    """Return the token of each text: HMAC-SHA256 (RFC 2104) under the key, in base32."""
    prefix = f"{_PREFIX}{key.id}_"
    digests = hmac_sha256(key.secret, [text.encode() for text in texts])
    return [prefix + body for body in base32(digests, length=_LENGTH)]


def hmac_sha256(secret: bytes, messages: list[bytes]) -> list[bytes]:
    """Return the HMAC of each message; the key's two blocks are hashed once, which is most of the work."""
    if len(secret) > _BLOCK:
        secret = hashlib.sha256(secret).digest()
    block = secret.ljust(_BLOCK, b"\0")
    inner, outer = (hashlib.sha256(bytes(byte ^ pad for byte in block)) for pad in (_INNER, _OUTER))
    digests = []
    for message in messages:
        first = inner.copy()
        first.update(message)
        second = outer.copy()
        second.update(first.digest())
        digests.append(second.digest())
    return digests


def _normal(strings: Array) -> Array:
    """Return card numbers as their bare digits, other texts as they are."""
    # A column of floats writes 4111111111111111.0.
    whole: Array = kernels.pc.replace_substring_regex(strings, r"^([0-9]+)\.0+$", r"\1")
    is_number = kernels.matches(whole, _NUMBER_RE2)
    digits: Array = kernels.pc.replace_substring_regex(whole, "[^0-9]+|^0+", "")
    normal: Array = kernels.pc.if_else(from_numpy(is_number), digits, strings)
    return normal
