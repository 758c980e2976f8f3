"""Light and camera: reflectance to the 8-bit image of one shot, never twice the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quatrain.industrial.simulation.noise import grid
from quatrain.industrial.simulation.surfaces import Pose

# Of the sensor, in shares of full scale: noise that is always there, and shot noise at full scale.
_READ_NOISE, _SHOT_NOISE = 0.006, 0.012


def draw_pose(rng: np.random.Generator, side_px: int, *, jitter: float) -> Pose:
    """Return a pose; `jitter` 1 is a shift of 1 % of the image and a turn of half a degree (one standard deviation)."""
    dy, dx = rng.normal(0, 0.01 * jitter * side_px, 2)
    return Pose(dy=float(dy), dx=float(dx), turn=float(rng.normal(0, np.deg2rad(0.5) * jitter)))


def shoot(reflectance: NDArray[np.float64], rng: np.random.Generator, *, lighting: float) -> NDArray[np.uint8]:
    """Return the image, uint8 (H, W, 3); `lighting` 1 varies brightness by 5 % and its slope over the image by 8 %."""
    shape_hw = reflectance.shape[:2]
    y, x = grid((shape_hw[0], shape_hw[1]))
    slope_y, slope_x = rng.normal(0, 0.08 * lighting, 2)
    light = 1 + rng.normal(0, 0.05 * lighting) + slope_y * y / shape_hw[0] + slope_x * x / shape_hw[1]
    lit = np.clip(reflectance * light[..., None], 0, 1)
    noise = rng.standard_normal(lit.shape) * np.sqrt(_READ_NOISE**2 + _SHOT_NOISE**2 * lit)
    image: NDArray[np.uint8] = np.rint(np.clip(lit + noise, 0, 1) * 255).astype(np.uint8)
    return image
