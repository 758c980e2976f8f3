"""Whether a column's long numbers are card numbers or numbers of its own, decided by what share passes the check digit.

One in ten random numbers passes the Luhn check. So a column whose long numbers (13 to 19 digits)
fail it as often as random ones do has its own numbering, and is left alone. Everywhere else a
number that passes and begins as a card's does is a card number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from quatrain.core.errors import BadDataError
from quatrain.fintech.data import kernels, pan
from quatrain.fintech.data.arrays import Array, Mask

REASON = "holds a card number"
# A column with card numbers in more than this share of its values is a column of card numbers.
_REFUSED_SHARE = 0.05
# Of random numbers, the share that passes the Luhn check.
_LUHN_SHARE = 0.1
# How far above it the passing ones may lie: one column in three million is that far by chance.
_DEVIATIONS = 5.0
# How many different long numbers must fail before a column counts as having its own numbering: where most values
# are long numbers, and where few are, of those that begin like a card's.
_FAILING_IF_MOST = 9
_FAILING_IF_FEW = 20


@dataclass
class _Seen:
    """What a column has shown so far."""

    n_values: int = 0
    n_pans: int = 0
    has_own_numbers: bool = False


class PanGuard:
    """Finds the card numbers in the columns of one file, batch after batch."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._columns: dict[str, _Seen] = {}

    def pans(self, column: str, array: Array) -> Mask:
        """Return which rows hold a card number.

        Raises BadDataError, which names the fix, when they are more than single rows.
        """
        seen = self._columns.setdefault(column, _Seen())
        n_values = len(array) - array.null_count
        seen.n_values += n_values
        mask = np.zeros(len(array), dtype=bool)
        found = pan.find(array)
        shaped = found.where(pan.has_issuer(found.numbers))
        if not len(pan.without_other_ids(array, _passing(shaped)).rows):
            return mask
        shaped = pan.without_other_ids(array, shaped)
        if not seen.has_own_numbers:
            seen.has_own_numbers = _shows_own_numbers(pan.without_other_ids(array, found), shaped, n_values)
        if seen.has_own_numbers and _is_chance(shaped):
            return mask
        cards = _passing(shaped)
        rows = pan.different(cards.rows)
        mask[rows] = True
        seen.n_pans += len(rows)
        if seen.n_pans > _REFUSED_SHARE * seen.n_values:
            raise BadDataError(self._refusal(column, seen, pan.masked(str(cards.numbers[0]))))
        return mask

    def _refusal(self, column: str, seen: _Seen, example: str) -> str:
        return (
            f"{self._file}: column {column} holds card numbers (PANs), {seen.n_pans} in its first {seen.n_values} "
            f"values, such as {example}; a PAN is never stored. List the column in columns.toml: "
            f'[pan] columns = ["{column}"]; if it is used, keyed tokens then take the place of its values '
            "(`quatrain fintech data keygen` makes the key)"
        )


def as_written(array: Array) -> Array:
    """Return what to look at in a column that nobody parsed: text without decimal numbers, other types as they are."""
    return pan.without_fractions(kernels.decoded(array)) if kernels.is_text(array.type) else array


def _passing(found: pan.Found) -> pan.Found:
    return found.where(pan.passes_luhn(found.numbers))


def _shows_own_numbers(found: pan.Found, shaped: pan.Found, n_values: int) -> bool:
    """Return whether enough long numbers fail: any where most values are long, else such as begin like a card's."""
    is_most = 2 * len(found.rows) >= n_values
    judged = pan.different(found.numbers if is_most else shaped.numbers)
    return int((~pan.passes_luhn(judged)).sum()) >= (_FAILING_IF_MOST if is_most else _FAILING_IF_FEW)


def _is_chance(shaped: pan.Found) -> bool:
    """Return whether no more of the numbers that begin like a card's pass than of random ones, and not most."""
    judged = pan.different(shaped.numbers)
    n, n_passing = len(judged), int(pan.passes_luhn(judged).sum())
    spread = math.sqrt(n * _LUHN_SHARE * (1 - _LUHN_SHARE))
    return n_passing <= n * _LUHN_SHARE + _DEVIATIONS * spread and 2 * n_passing <= n
