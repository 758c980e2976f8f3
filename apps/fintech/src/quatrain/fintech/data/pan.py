"""Card numbers (PANs): which numbers could be one, where values hold them, and text that shows none.

Only ASCII digits are looked at, together or in groups.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quatrain.fintech.data import kernels
from quatrain.fintech.data.arrays import Array, Mask, from_numpy, from_strings
from quatrain.fintech.data.iban import is_iban

Numbers = NDArray[np.uint64]
Rows = NDArray[np.int64]
Whole = TypeVar("Whole", np.uint64, np.int64)

# Digits of a PAN that is in use; ISO/IEC 7812-1 allows 10 to 19.
_SHORTEST, _LONGEST = 13, 19
_ANY_LENGTH = range(_SHORTEST, _LONGEST + 1)
_FROM_16 = range(16, _LONGEST + 1)
# Issuer identification numbers as the schemes publish them: first prefix, last prefix, digits of the PAN.
_ISSUERS: tuple[tuple[str, str, Sequence[int]], ...] = (
    ("4", "4", (13, 16, 19)),  # Visa
    ("51", "55", (16,)),  # Mastercard
    ("2221", "2720", (16,)),  # Mastercard
    ("34", "34", (15,)),  # American Express
    ("37", "37", (15,)),  # American Express
    ("300", "305", range(14, 20)),  # Diners Club
    ("3095", "3095", range(14, 20)),  # Diners Club
    ("36", "36", range(14, 20)),  # Diners Club
    ("38", "39", range(14, 20)),  # Diners Club
    ("3528", "3589", _FROM_16),  # JCB
    ("2131", "2131", (15,)),  # JCB
    ("1800", "1800", (15,)),  # JCB
    ("50", "50", _ANY_LENGTH),  # Maestro, Verve, Elo, RuPay
    ("56", "58", _ANY_LENGTH),  # Maestro
    ("6", "6", _ANY_LENGTH),  # Discover, UnionPay, Maestro, RuPay, Elo, Troy
    ("81", "82", _FROM_16),  # UnionPay, RuPay
    ("2200", "2205", _FROM_16),  # Mir, Borica
    ("8600", "8600", (16,)),  # Uzcard
    ("9860", "9860", (16,)),  # Humo
    ("9704", "9704", (16, 19)),  # Napas
    ("9792", "9792", (16,)),  # Troy
)
_POWERS = np.array([10**n for n in range(_LONGEST + 1)], dtype=np.uint64)
_LEAST = 10 ** (_SHORTEST - 1)
_LEADING = 10_000
# Zeros before a number in a field of fixed width.
_WIDEST_PADDING = 32
# Whole numbers from here on are not exact as float64.
EXACT = 2.0**53
# A UUID, or a digest of 96 bits or more that has a letter.
_HEX = re.compile(r"\b(?:[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|(?=[0-9]*[a-fA-F])[0-9a-fA-F]{24,})\b")
_IBAN = re.compile(r"\b[A-Z]{2}[0-9]{2}[0-9A-Z]{11,30}\b")
# What people and systems put between the groups of a card number.
_BETWEEN = r"[ \-._/\u00a0\u2010-\u2015]{0,2}"
_RUN = re.compile(rf"[0-9](?:{_BETWEEN}[0-9]){{{_SHORTEST - 1},}}")
_GROUP = re.compile("[0-9]+")
# The same for RE2, which writes code points in its own way.
_BETWEEN_RE2 = r"[ \-._/\x{A0}\x{2010}-\x{2015}]{0,2}"
_RUN_RE2 = rf"[0-9](?:{_BETWEEN_RE2}[0-9]){{{_SHORTEST - 1}}}"
_WHOLE_RE2 = rf"^[0-9](?:{_BETWEEN_RE2}[0-9]){{{_SHORTEST - 1},{_LONGEST - 1}}}$"
_MANY_GROUPS_RE2 = "(?:[0-9]+[^0-9]+){4}[0-9]"
_FRACTION_RE2 = r"^\s*[+-]?[0-9]{0,12}[.,][0-9]+(?:[eE][+-]?[0-9]+)?\s*$"
_UUID_RE2 = "^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_OTHER_RE2 = "[A-Z]{2} ?[0-9]{2} ?[0-9A-Z]{4}|[0-9a-fA-F]{24}|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-"
_DIGITS_RE2 = rf"^[^0-9]*[0-9]{{{_SHORTEST},}}[^0-9]*$"
# Shown of a masked number: what PCI DSS 4.0 (3.4.1) lets anybody see.
_FIRST, _LAST = 6, 4


@dataclass(frozen=True, kw_only=True)
class Found:
    """The numbers of 13 to 19 digits in a column: `numbers[i]` stands in row `rows[i]`."""

    rows: Rows
    numbers: Numbers

    def where(self, mask: Mask) -> Found:
        """Return some of what was found."""
        return Found(rows=self.rows[mask], numbers=self.numbers[mask])


def masked(text: str) -> str:
    """Return the text with every number of 13 or more digits, grouped or not, cut to its first six and last four."""
    return _RUN.sub(lambda run: _mask(run.group()), text)


def passes_luhn(numbers: Numbers) -> Mask:
    """Return which numbers have a right check digit (ISO/IEC 7812-1 annex B); of random ones a tenth has."""
    total = np.zeros(len(numbers), dtype=np.int64)
    rest = numbers
    while rest.any():
        rest, last = np.divmod(rest, np.uint64(_LEADING))
        total += _LUHN_OF_FOUR[last]
    return np.asarray(total % 10 == 0)


def has_issuer(numbers: Numbers) -> Mask:
    """Return which numbers begin as a known card scheme's do, at one of its lengths."""
    extra_digits = np.zeros(len(numbers), dtype=np.int64)
    for power in _POWERS[_SHORTEST:_LONGEST]:
        extra_digits += numbers >= power
    leading = (numbers // _POWERS[extra_digits + _SHORTEST - 4]) % np.uint64(_LEADING)
    return np.asarray((_ISSUER_LENGTHS[leading] >> extra_digits & 1 != 0) & _is_long(numbers))


def is_pan(numbers: Numbers) -> Mask:
    """Return which numbers could be a card's: a known issuer and a right check digit."""
    verdict = has_issuer(numbers)
    verdict[verdict] = passes_luhn(numbers[verdict])
    return verdict


def different(values: NDArray[Whole]) -> NDArray[Whole]:
    """Return each value once, in order; several times as fast as NumPy's unique."""
    ranked = np.sort(values)
    is_first = np.ones(len(ranked), dtype=bool)
    is_first[1:] = ranked[1:] != ranked[:-1]
    return ranked[is_first]


def find(array: Array) -> Found:
    """Return the long numbers in a column of any type: in text wherever they stand, as numbers if whole.

    Types that hold no such number give none. Floats are exact below 2**53 only, so longer ones are left.
    """
    if pa.types.is_integer(array.type):
        return _of_numbers(np.abs(kernels.numbers(array)).astype(np.uint64))
    if pa.types.is_floating(array.type):
        floats = np.abs(kernels.numbers(array.cast(pa.float64())))
        if not (floats >= _LEAST).any():
            return _NOTHING
        is_exact = (floats < EXACT) & (floats == np.floor(floats))
        return _of_numbers(np.where(is_exact, floats, 0).astype(np.uint64))
    if pa.types.is_decimal(array.type):
        return _of_text(array.cast(pa.string()))
    if pa.types.is_fixed_size_binary(array.type):
        array = array.cast(pa.binary())
    if kernels.is_text(array.type):
        return _of_text(kernels.decoded(array))
    return _joined([(rows, find(leaf)) for rows, leaf in _inside(array)])


def without_fractions(strings: Array) -> Array:
    """Return strings, null where one is a decimal number: its fraction has as many digits as a card."""
    return kernels.only(strings, ~kernels.matches(strings, _FRACTION_RE2))


def without_other_ids(array: Array, found: Found) -> Found:
    """Return what was found in a column without the digits of IBANs, UUIDs and digests, which have their own."""
    if not (len(found.rows) and pa.types.is_string(array.type)):
        return found
    rows = different(found.rows)
    texts = array.take(from_numpy(rows))
    has_other = kernels.matches(texts, _OTHER_RE2)
    if not has_other.any():
        return found
    rows = rows[has_other]
    rest = _of_text(
        from_strings([_without_others(str(text)) for text in texts.filter(from_numpy(has_other)).to_pylist()])
    )
    kept = found.where(~np.isin(found.rows, rows))
    return Found(
        rows=np.concatenate([kept.rows, rows[rest.rows]]), numbers=np.concatenate([kept.numbers, rest.numbers])
    )


def _without_others(text: str) -> str:
    if is_iban(text.replace(" ", "")):
        return ""
    return _IBAN.sub(lambda match: "" if is_iban(match.group()) else match.group(), _HEX.sub("", text))


def _mask(run: str) -> str:
    digits = "".join(_GROUP.findall(run))
    return digits[:_FIRST] + "*" * (len(digits) - _FIRST - _LAST) + digits[-_LAST:]


def _is_long(numbers: Numbers) -> Mask:
    return np.asarray((numbers >= _POWERS[_SHORTEST - 1]) & (numbers < _POWERS[_LONGEST]))


def _of_numbers(numbers: Numbers) -> Found:
    rows = np.flatnonzero(_is_long(numbers))
    return Found(rows=rows, numbers=numbers[rows])


def _of_text(strings: Array) -> Found:
    lengths = kernels.pc.binary_length(strings)
    if (kernels.pc.max(lengths).as_py() or 0) < _SHORTEST:
        return _NOTHING
    n_bytes = kernels.numbers(lengths)
    is_long = n_bytes >= _SHORTEST
    is_bare = is_long & (n_bytes <= _LONGEST) & kernels.mask(kernels.pc.ascii_is_decimal(strings))
    bare: Array = strings.filter(from_numpy(is_bare)).cast(pa.uint64())
    has_run = is_long & ~is_bare
    has_run[has_run] = kernels.matches(strings.filter(from_numpy(has_run)), _RUN_RE2)
    rows, texts = np.flatnonzero(has_run), strings.filter(from_numpy(has_run))
    parts = [(np.flatnonzero(is_bare), _of_numbers(kernels.numbers(bare))), (rows, _together(texts))]
    parts += _in_groups(rows, texts)
    return _joined(parts)


def _joined(parts: Sequence[tuple[Rows, Found]]) -> Found:
    """Return what was found in parts of a column, given the rows of each part."""
    if not parts:
        return _NOTHING
    return Found(
        rows=np.concatenate([rows[found.rows] for rows, found in parts]),
        numbers=np.concatenate([found.numbers for _, found in parts]),
    )


def _inside(array: Array) -> Iterator[tuple[Rows, Array]]:
    """Yield what lists, structures and maps hold, with the rows that it belongs to."""
    if isinstance(array.type, pa.MapType):
        pair = pa.struct([("key", array.type.key_type), ("value", array.type.item_type)])
        array = array.cast(pa.list_(pair))
    if pa.types.is_struct(array.type):
        for place in range(array.type.num_fields):
            yield np.arange(len(array)), kernels.pc.struct_field(array, [place])
    elif pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        parents = kernels.numbers(kernels.pc.list_parent_indices(array)).astype(np.int64)
        yield parents, kernels.pc.list_flatten(array)


def _together(strings: Array) -> Found:
    """Return the numbers whose digits stand together."""
    offsets, content = _bytes_of(strings)
    if not len(content):
        return _NOTHING
    is_digit = (content >= ord("0")) & (content <= ord("9"))
    # Nothing before the first and after the last, so that each byte has neighbours.
    padded = np.concatenate([[False], is_digit, [False]])
    begins_value = np.zeros(len(content) + 1, dtype=bool)
    begins_value[offsets] = True
    first = np.flatnonzero(is_digit & (~padded[:-2] | begins_value[:-1]))
    last = np.flatnonzero(is_digit & (~padded[2:] | begins_value[1:]))
    n_digits = last - first + 1
    is_wanted = n_digits >= _SHORTEST
    first, n_digits = _without_padding(content, first[is_wanted], n_digits[is_wanted])
    is_wanted = n_digits <= _LONGEST
    first, n_digits = first[is_wanted], n_digits[is_wanted]
    numbers = np.zeros(len(first), dtype=np.uint64)
    for place in range(_LONGEST):
        digit = content[np.minimum(first + place, len(content) - 1)] - np.uint8(ord("0"))
        numbers = np.where(place < n_digits, numbers * np.uint64(10) + digit, numbers)
    rows = np.searchsorted(offsets[1:], first, side="right")
    is_long = _is_long(numbers)
    return Found(rows=rows[is_long], numbers=numbers[is_long])


def _without_padding(
    content: NDArray[np.uint8], first: NDArray[np.int64], n_digits: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return runs of digits without the zeros that fields of a fixed width begin with."""
    for _ in range(_WIDEST_PADDING):
        is_padded = (content[first] == ord("0")) & (n_digits > _SHORTEST)
        if not is_padded.any():
            break
        first, n_digits = first + is_padded, n_digits - is_padded
    return first, n_digits


def _in_groups(rows: Rows, strings: Array) -> Iterator[tuple[Rows, Found]]:
    """Yield the numbers whose digits stand in groups, with the rows that they count in."""
    is_other = ~(kernels.matches(strings, _DIGITS_RE2) | kernels.matches(strings, _UUID_RE2))
    if not is_other.any():
        return
    rows, strings = rows[is_other], strings.filter(from_numpy(is_other))
    is_whole = kernels.matches(strings, _WHOLE_RE2) & ~kernels.matches(strings, _MANY_GROUPS_RE2)
    bare: Array = kernels.pc.replace_substring_regex(strings.filter(from_numpy(is_whole)), "[^0-9]+", "")
    yield rows[is_whole], _together(bare)
    rows = rows[~is_whole]
    found = [
        (row, number)
        for row, text in zip(rows, strings.filter(from_numpy(~is_whole)).to_pylist(), strict=True)
        for number in _windows(str(text))
    ]
    each = np.array([row for row, _ in found], dtype=np.int64)
    numbers = np.array([number for _, number in found], dtype=np.uint64)
    yield each, Found(rows=np.arange(len(each)), numbers=numbers)


def _windows(text: str) -> Iterator[int]:
    """Yield the numbers that two or more neighbouring groups of digits make."""
    for run in _RUN.finditer(text):
        groups = [match.group() for match in _GROUP.finditer(run.group())]
        for begin in range(len(groups)):
            digits = groups[begin]
            for group in groups[begin + 1 :]:
                digits += group
                if len(digits) > _LONGEST:
                    break
                if len(digits) >= _SHORTEST and digits[0] != "0":
                    yield int(digits)


def _bytes_of(strings: Array) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Return where each value begins, and the end of the last, in the bytes of all of them."""
    _, offsets, content = (memoryview(buffer or b"") for buffer in strings.buffers())
    begins = np.frombuffer(offsets, dtype=np.int32)[strings.offset : strings.offset + len(strings) + 1]
    every = np.frombuffer(content, dtype=np.uint8)
    return begins - begins[0], every[begins[0] : begins[-1]]


def _luhn_of_four() -> NDArray[np.int64]:
    """Return the Luhn sum of four digits, for each number below 10,000."""
    digits = np.arange(_LEADING)[:, None] // np.array([1, 10, 100, 1000]) % 10
    digits[:, 1::2] = np.array([0, 2, 4, 6, 8, 1, 3, 5, 7, 9])[digits[:, 1::2]]
    return np.asarray(digits.sum(axis=1), dtype=np.int64)


def _issuer_lengths() -> NDArray[np.int64]:
    """Return, for each four leading digits, a bit per length that a PAN may have."""
    lengths = np.zeros(_LEADING, dtype=np.int64)
    for first, last, n_digits in _ISSUERS:
        width = 10 ** (4 - len(first))
        lengths[int(first) * width : (int(last) + 1) * width] |= sum(1 << n - _SHORTEST for n in n_digits)
    return lengths


_LUHN_OF_FOUR = _luhn_of_four()
_ISSUER_LENGTHS = _issuer_lengths()
_NOTHING = Found(rows=np.zeros(0, dtype=np.int64), numbers=np.zeros(0, dtype=np.uint64))
