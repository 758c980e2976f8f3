"""An image with its map over it, and a line around what is above the threshold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quatrain.core.images import ImageArray
from quatrain.industrial.score.inspect import enlarged

# From transparent over orange to red; the scale ends at this many thresholds.
_LOW, _HIGH = np.array([255.0, 190.0, 40.0]), np.array([220.0, 20.0, 40.0])
_FULL_SCALE = 2.0
_LINE = np.array([0, 229, 255], dtype=np.uint8)


def overlay(
    image: ImageArray, found: NDArray[np.float32], *, threshold: float, opacity: float, has_contour: bool = True
) -> NDArray[np.uint8]:
    """Return the image (H, W, 3) with the map laid over it, and a cyan line where it crosses the threshold."""
    shown = as_seen(image).astype(np.float64)
    heat = enlarged(found, (image.shape[0], image.shape[1]))
    strength = np.clip(heat / max(_FULL_SCALE * threshold, 1e-6), 0, 1)[..., None]
    paint = _LOW + (_HIGH - _LOW) * strength
    mixed: NDArray[np.uint8] = np.rint(shown + opacity * strength * (paint - shown)).astype(np.uint8)
    if has_contour:
        mixed[contour(heat > threshold)] = _LINE
    return mixed


def contour(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the region's own edge pixels: those with a neighbour outside, above, below or beside."""
    padded = np.pad(region, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.asarray(region & ~inner)


def as_seen(image: ImageArray) -> NDArray[np.uint8]:
    """Return an image of any depth as 8-bit colours, (H, W, 3); deep ones are stretched to what they hold."""
    planes = image[..., None] if image.ndim == 2 else image  # noqa: PLR2004 - (H, W)
    if image.dtype == np.uint16:
        low, high = float(image.min()), float(image.max())
        planes = np.rint((planes - low) * (255 / max(high - low, 1))).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(planes, (*planes.shape[:2], 3)).astype(np.uint8))
