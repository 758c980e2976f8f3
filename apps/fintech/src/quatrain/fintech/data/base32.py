"""Digests as text of small letters and the digits 2 to 7 (RFC 4648, section 6), many at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_ALPHABET = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz234567", dtype=np.uint8)
_BITS = 5


def base32(digests: Sequence[bytes], *, length: int) -> list[str]:
    """Return the first `length` characters of each digest in base32; the digests are of one size."""
    if not digests:
        return []
    content = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(len(digests), -1)
    n_bytes = -(-length * _BITS // 8)
    bits = np.unpackbits(content[:, :n_bytes], axis=1)[:, : length * _BITS]  # (n, length * 5)
    values = np.packbits(bits.reshape(-1, _BITS), axis=1) >> (8 - _BITS)
    text = _ALPHABET[values.reshape(len(digests), length)].tobytes().decode("ascii")
    return [text[begin : begin + length] for begin in range(0, len(text), length)]
