"""From any picture to the pixels that a model takes: middle square, one size, grey or colour; no torch here."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_COLOUR = 3
_GREY_AXES = 2
_MAX_8_BITS = 255


def fit_square(pixels: NDArray[Any], side: int) -> NDArray[np.uint8]:
    """Return the middle square of (H, W) or (H, W, 3), `side` pixels wide, as uint8.

    Reduction averages areas, so that nothing aliases; enlargement interpolates linearly. Of 16 bits the lowest and
    highest value become 0 and 255: radiographs use a small part of their range.
    """
    if min(pixels.shape[:2]) < 1 or side < 1:
        raise ValueError(f"expected at least one pixel and a side of at least 1, got {pixels.shape} and {side}")
    height, width = pixels.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    square = pixels[top : top + edge, left : left + edge].astype(np.float32)
    if pixels.dtype != np.uint8:
        low, high = float(square.min()), float(square.max())
        square = (square - low) * (_MAX_8_BITS / (high - low)) if high > low else np.zeros_like(square)
    if edge != side:
        weights = area_weights(edge, side)
        # Products of matrices, channel by channel: einsum would not ask BLAS.
        is_grey = square.ndim == _GREY_AXES
        planes = [square] if is_grey else list(np.moveaxis(square, 2, 0))
        reduced = [weights @ np.ascontiguousarray(plane) @ weights.T for plane in planes]
        square = reduced[0] if is_grey else np.stack(reduced, axis=2)  # (side, side) or (side, side, 3)
    return np.clip(np.rint(square), 0, _MAX_8_BITS).astype(np.uint8)


def with_channels(images: NDArray[np.uint8], n_channels: int) -> NDArray[np.uint8]:
    """Return images (n, H, W) for one channel or (n, H, W, 3) for three; grey is the luma of ITU-R BT.601."""
    if n_channels == _COLOUR and images.ndim == _COLOUR:
        return np.repeat(images[..., None], _COLOUR, axis=-1)
    if n_channels == 1 and images.ndim == _COLOUR + 1:
        luma = images.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        return np.rint(luma).astype(np.uint8)
    return images


def area_weights(n_in: int, n_out: int) -> NDArray[np.float32]:
    """Return the matrix (n_out, n_in) that averages areas, or interpolates to enlarge; its rows sum to 1."""
    centres = (np.arange(n_out) + 0.5) * n_in / n_out
    inputs = np.arange(n_in) + 0.5
    if n_out >= n_in:
        weights = np.maximum(0.0, 1 - np.abs(np.clip(centres, 0.5, n_in - 0.5)[:, None] - inputs))
    else:
        half = n_in / n_out / 2
        low, high = centres[:, None] - half, centres[:, None] + half
        weights = np.clip(np.minimum(high, inputs + 0.5) - np.maximum(low, inputs - 0.5), 0, None)
    return np.asarray(weights / weights.sum(1, keepdims=True), dtype=np.float32)
