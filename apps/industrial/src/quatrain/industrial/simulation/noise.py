"""Smooth random fields, the stuff that drawn surfaces are made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]


def smooth(field: Field, sigma_px: float, *, sigma_x_px: float | None = None) -> Field:
    """Return the field blurred by a Gaussian, wrapped at the edges; `sigma_x_px` differs along a row."""
    height, width = field.shape
    along_y, along_x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    wide = sigma_px if sigma_x_px is None else sigma_x_px
    # The transform of a Gaussian: exp(-2 (pi sigma f)^2).
    kernel = np.exp(-2 * np.pi**2 * ((sigma_px * along_y) ** 2 + (wide * along_x) ** 2))
    return np.asarray(np.fft.irfft2(np.fft.rfft2(field) * kernel, s=field.shape))


def smooth_noise(
    rng: np.random.Generator, shape_hw: tuple[int, int], sigma_px: float, *, sigma_x_px: float | None = None
) -> Field:
    """Return a random field of mean 0 and standard deviation 1 whose details are about `sigma_px` wide."""
    field = smooth(rng.standard_normal(shape_hw), sigma_px, sigma_x_px=sigma_x_px)
    field -= field.mean()
    return field / max(float(field.std()), 1e-12)


def grid(shape_hw: tuple[int, int], *, centre: tuple[float, float] | None = None) -> tuple[Field, Field]:
    """Return (y, x) in pixels from the centre, or from this point."""
    height, width = shape_hw
    cy, cx = ((height - 1) / 2, (width - 1) / 2) if centre is None else centre
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    return y - cy, x - cx


def step(distance_px: Field) -> Field:
    """Return 1 inside (negative distances), 0 outside, with an edge one pixel wide."""
    return np.clip(0.5 - distance_px, 0.0, 1.0)
