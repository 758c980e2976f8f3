"""A picture as the reader wants it: through a window, with what the model looked at laid over it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quatrain.healthcare.features import area_weights

# Orange: seen on grey by nearly everyone, whatever their colour vision.
_COLOUR = np.array([255.0, 140.0, 0.0])
# Name: centre and width in levels of 0 to 255.
PRESETS = {"Whole range": (128, 256), "Lungs": (90, 140), "Dense": (180, 150)}


def through_window(pixels: NDArray[np.uint8], *, centre: float, width: float) -> NDArray[np.uint8]:
    """Return levels between centre +- width / 2 spread over 0 to 255."""
    low = centre - width / 2
    return np.rint(np.clip((pixels.astype(np.float64) - low) / max(width, 1) * 255, 0, 255)).astype(np.uint8)


def with_saliency(
    pixels: NDArray[np.uint8], saliency: NDArray[np.float64] | None, *, opacity: float
) -> NDArray[np.uint8]:
    """Return red, green and blue (s, s, 3) with the saliency, 0 to 1, at most so opaque."""
    grey = np.repeat(pixels[..., None], 3, axis=2).astype(np.float64)
    if saliency is None or opacity <= 0:
        return grey.astype(np.uint8)
    rows, columns = (area_weights(n, len(pixels)) for n in saliency.shape)
    share = np.clip(rows @ saliency @ columns.T, 0, 1)[..., None] * opacity
    return np.rint(grey * (1 - share) + _COLOUR * share).astype(np.uint8)
