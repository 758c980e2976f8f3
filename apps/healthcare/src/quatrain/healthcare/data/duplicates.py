"""The same picture twice: across splits it makes results look better than they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from quatrain.healthcare.data.labelled import Part, Pixels
from quatrain.healthcare.features import area_weights, with_channels

# A difference hash compares neighbours in a row: 8 rows of 8 comparisons make 64 bits.
_SIDE = 8
# Two hashes nearer than this are looked at pixel by pixel; unrelated radiographs differ in 10 bits and more.
_NEAR_BITS = 4
# Mean absolute difference of 16 x 16 standardised pictures below which two are the same one, re-encoded or rescaled.
_NEAR_PIXELS = 0.08
_CHECK_SIDE = 16
_CHUNK = 512


@dataclass(frozen=True, kw_only=True)
class Duplicate:
    """A row of one split that is also in another."""

    split: str
    row: int
    other_split: str
    other_row: int
    is_exact: bool
    has_same_label: bool


def find_duplicates(parts: Mapping[str, Part], *, within: bool = False) -> list[Duplicate]:
    """Return pictures that lie in two splits, exactly or nearly: re-encoded, rescaled, brighter, of other contrast.

    Each row of the later split is reported once, with its nearest partner. `within` looks inside splits, too. What
    was cropped, turned or mirrored is not found.
    """
    found = []
    pairs = list(combinations(parts, 2)) + ([(name, name) for name in parts] if within else [])
    prints = {name: _Prints(part.images) for name, part in parts.items()}
    for first, second in pairs:
        for row, other, is_exact in prints[second].matches(prints[first], is_same=first == second):
            labels = parts[second].labels[row], parts[first].labels[other]
            found.append(
                Duplicate(
                    split=second,
                    row=row,
                    other_split=first,
                    other_row=other,
                    is_exact=is_exact,
                    has_same_label=bool(np.array_equal(*labels)),
                )
            )
    return found


class _Prints:
    """Hashes and small standardised copies of a split's pictures."""

    def __init__(self, images: Pixels) -> None:
        self._images = images
        self._bits = difference_hash(images)
        small = _reduced(images, _CHECK_SIDE)
        small -= small.mean((1, 2), keepdims=True)
        self._small = small / (small.std((1, 2), keepdims=True) + 1.0)

    def matches(self, other: _Prints, *, is_same: bool) -> list[tuple[int, int, bool]]:
        """Return (row here, row there, whether every pixel agrees); in one split only earlier rows."""
        found = []
        for start in range(0, len(self._bits), _CHUNK):
            distance = np.bitwise_count(self._bits[start : start + _CHUNK, None] ^ other._bits[None])
            rows, others = np.nonzero(distance <= _NEAR_BITS)
            rows += start
            if is_same:
                rows, others = rows[others < rows], others[others < rows]
            if not len(rows):
                continue
            gap = np.abs(self._small[rows] - other._small[others]).mean((1, 2))
            for row in np.unique(rows[gap < _NEAR_PIXELS]):
                mine = np.flatnonzero(rows == row)
                best = int(others[mine[gap[mine].argmin()]])
                found.append((int(row), best, bool(np.array_equal(self._images[row], other._images[best]))))
        return found


def difference_hash(images: Pixels) -> NDArray[np.uint64]:
    """Return 64 bits (n,) of each picture: whether brightness rises from one cell of a row to the next."""
    small = _reduced(images, _SIDE, _SIDE + 1)
    bits = (small[:, :, 1:] > small[:, :, :-1]).reshape(len(images), -1)
    packed = np.packbits(bits, axis=1)
    return np.ascontiguousarray(packed).view(np.uint64)[:, 0]


def _reduced(images: Pixels, height: int, width: int | None = None) -> NDArray[np.float32]:
    grey = with_channels(images, 1)
    rows, columns = area_weights(grey.shape[1], height), area_weights(grey.shape[2], width or height)
    parts = [
        np.einsum("ij,njk,lk->nil", rows, grey[i : i + _CHUNK].astype(np.float32), columns, optimize=True)
        for i in range(0, len(grey), _CHUNK)
    ]
    return np.asarray(np.concatenate(parts), dtype=np.float32)
