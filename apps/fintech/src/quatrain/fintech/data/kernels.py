"""Arrow kernels on columns of any type, typed as the parser needs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from quatrain.fintech.data.arrays import Array, Mask, from_numpy, from_strings, to_numpy

# The stubs' overloads know typed arrays only; a file's columns have any type.
pc: Any = pyarrow.compute

# What decoding puts in place of bytes that are no character.
REPLACEMENT = "\ufffd"


def is_number(kind: pa.DataType) -> bool:
    """Return whether a file's column type is numeric."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def is_bytes(kind: pa.DataType) -> bool:
    """Return whether a file's column type holds bytes, as older Parquet writers store text."""
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def is_text(kind: pa.DataType) -> bool:
    """Return whether a file's column type holds text, or bytes that may be text."""
    if isinstance(kind, pa.DictionaryType):
        return is_text(kind.value_type)
    is_string = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return is_string or is_bytes(kind) or pa.types.is_null(kind)


def mask(booleans: Array) -> Mask:
    """Return an Arrow boolean array as NumPy, null being False."""
    if booleans.null_count:
        booleans = pc.and_kleene(pc.is_valid(booleans), booleans)
    return to_numpy(booleans)


def nulls(array: Array) -> Mask:
    """Return where values are missing."""
    return mask(pc.is_null(array)) if array.null_count else np.zeros(len(array), dtype=bool)


def numbers(array: Array) -> NDArray[Any]:
    """Return an Arrow numeric array as NumPy with its own type, 0 standing for null."""
    if not array.null_count:
        return to_numpy(array)
    zeros = from_numpy(np.zeros(len(array), dtype=np.int8)).cast(array.type)
    return to_numpy(pc.if_else(pc.is_valid(array), array, zeros))


def matches(strings: Array, pattern: str) -> Mask:
    """Return where strings match a regular expression."""
    return mask(pc.match_substring_regex(strings, pattern))


def is_in(strings: Array, choices: Sequence[str]) -> Mask:
    """Return where strings are one of the choices."""
    return mask(pc.is_in(strings, value_set=from_strings(choices)))


def only(strings: Array, where: Mask) -> Array:
    """Return the strings, null where `where` is False."""
    kept: Array = pc.if_else(from_numpy(where), strings, pa.nulls(len(strings), pa.string()))
    return kept


def numbered(prefix: str, values: Array, *, width: int) -> Array:
    """Return whole numbers as strings of the prefix and at least `width` digits, so that they sort."""
    digits = pc.utf8_lpad(values.cast(pa.string()), width=width, padding="0")
    strings: Array = pc.replace_substring_regex(digits, "^", prefix, max_replacements=1)
    return strings


def text(array: Array) -> Array:
    """Return trimmed strings, null where empty and where bytes could not be decoded (see `undecodable`)."""
    strings = decoded(array)
    trimmed: Array = pc.utf8_trim_whitespace(strings)
    return only(trimmed, (numbers(pc.binary_length(trimmed)) > 0) & ~undecodable(strings))


def undecodable(array: Array) -> Mask:
    """Return the rows that hold bytes outside the file's encoding."""
    strings = decoded(array) if is_text(array.type) else None
    # Most text is ASCII, which a look at its bytes tells several times as fast.
    if strings is None or pc.all(pc.string_is_ascii(strings), min_count=0).as_py():
        return np.zeros(len(array), dtype=bool)
    return mask(pc.match_substring(strings, REPLACEMENT))


def cast_each(strings: Array, cast: Callable[[Array], Array]) -> Array:
    """Return the cast, null where a single value fails; halving, so that few bad values cost few casts."""
    try:
        return cast(strings)
    except pa.ArrowInvalid:
        if len(strings) == 1:
            return cast(pa.nulls(1, pa.string()))
    half = len(strings) // 2
    return pa.concat_arrays([cast_each(strings.slice(0, half), cast), cast_each(strings.slice(half), cast)])


def decoded(array: Array) -> Array:
    """Return text or bytes as strings; bytes that are no character come out as U+FFFD."""
    if isinstance(array.type, pa.DictionaryType):
        array = array.cast(array.type.value_type)
    try:
        return array.cast(pa.string())
    except pa.ArrowInvalid:
        return from_strings([_utf8(value) for value in array.to_pylist()])


def _utf8(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", errors="replace")
