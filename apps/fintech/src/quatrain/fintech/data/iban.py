"""International bank account numbers (ISO 13616): their check digits."""

from __future__ import annotations

import re

# Letters count from A = 10.
_VALUES = {ord("A") + place: str(10 + place) for place in range(26)}
_FORM = re.compile("[A-Z]{2}[0-9]{2}[0-9A-Z]{11,30}")


def is_iban(text: str) -> bool:
    """Return whether an IBAN, without spaces and in capitals, has right check digits (ISO 7064, mod 97-10)."""
    if _FORM.fullmatch(text) is None:
        return False
    return int((text[4:] + text[:4]).translate(_VALUES)) % 97 == 1
