"""The word SYNTHETIC in the pixels themselves, where no export can lose it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Letters of 3 x 5 pixels, row by row.
_LETTERS = {
    "S": "111100111001111",
    "Y": "101101010010010",
    "N": "110101101101101",
    "T": "111010010010010",
    "H": "101101111101101",
    "E": "111100110100111",
    "I": "111010010010111",
    "C": "111100100100111",
}
_WORD = "SYNTHETIC"
_HEIGHT, _ADVANCE = 5, 4
# Letters grow with the picture, which looks the same at every size: once for each of so many pixels.
_SIDE_OF_ONE = 48
# The word and a margin.
MIN_SIDE = _ADVANCE * len(_WORD) + 4


def stamp(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images (n, H, W) with the word at the lower left, white on black; large images get larger letters."""
    side = min(images.shape[1:])
    if side < MIN_SIDE:
        raise ValueError(f"the mark SYNTHETIC needs {MIN_SIDE} pixels, got {side}")
    factor = _factor(side)
    mark = np.kron(_mark(), np.ones((factor, factor), dtype=np.uint8))
    marked = images.copy()
    marked[:, -mark.shape[0] :, : mark.shape[1]] = mark
    return marked


def has_stamp(image: NDArray[np.uint8]) -> bool:
    """Return whether an image of the size it was drawn in carries the mark."""
    factor = _factor(min(image.shape[:2]))
    mark = np.kron(_mark(), np.ones((factor, factor), dtype=np.uint8))
    return bool(np.array_equal(image[-mark.shape[0] :, : mark.shape[1]], mark))


def _factor(side: int) -> int:
    return max(1, side // _SIDE_OF_ONE)


def _mark() -> NDArray[np.uint8]:
    mark = np.zeros((_HEIGHT + 2, _ADVANCE * len(_WORD) + 1), dtype=np.uint8)
    for place, letter in enumerate(_WORD):
        bits = np.array([int(bit) for bit in _LETTERS[letter]], dtype=np.uint8).reshape(_HEIGHT, 3)
        mark[1:-1, 1 + place * _ADVANCE : 4 + place * _ADVANCE] = bits * 255
    return mark
