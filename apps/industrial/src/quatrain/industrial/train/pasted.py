"""Defects pasted on images of good parts, of no product in particular: what choices are made on when nothing is bad."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from quatrain.industrial.simulation.noise import Field, grid, smooth, smooth_noise, step

Pixels = NDArray[np.float64]
# A painter takes the image (H, W, C), another good one of its size and the dice, and returns what is painted and how
# opaque it is there, (H, W) in [0, 1].
Painter = Callable[[Pixels, Pixels, np.random.Generator], tuple[Pixels, Field]]

# Marked are the pixels where the paint is at least this opaque.
_MARKED = 0.3
# Strengths are drawn in standard deviations of the image's own pixels.
_WEAKEST, _STRONGEST = 0.5, 3.0


def paste_defect(
    image: NDArray[np.uint8], other: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return a good image with one or two defects on it, and which pixels they cover.

    Lines, spots, foreign patches, stains, smears and rough places, of 1 % to half of the image's
    side and of .5 to 3 standard deviations of its pixels: wide on purpose, as nobody knows what
    will go wrong (Li et al., "CutPaste", CVPR 2021; Zavrtanik et al., "DRAEM", ICCV 2021).
    """
    painted = image.astype(np.float64)
    mask = np.zeros(image.shape[:2], dtype=np.bool_)
    for _ in range(1 + int(rng.random() < 0.3)):  # noqa: PLR2004 - a second defect in three of ten
        painter = _PAINTERS[int(rng.integers(len(_PAINTERS)))]
        paint, opacity = painter(painted, other.astype(np.float64), rng)
        painted = painted + opacity[..., None] * (paint - painted)
        mask |= opacity >= _MARKED
    return np.rint(np.clip(painted, 0, 255)).astype(np.uint8), mask


def _line(image: Pixels, other: Pixels, rng: np.random.Generator) -> tuple[Pixels, Field]:
    """A scratch or crack: straight, bent or wandering, one to a few pixels wide."""
    del other
    side = min(image.shape[:2])
    y, x = _anywhere(image, rng)
    turn = rng.uniform(0, np.pi)
    along, across = y * np.sin(turn) + x * np.cos(turn), y * np.cos(turn) - x * np.sin(turn)
    half, width = rng.uniform(0.04, 0.35) * side, rng.uniform(0.5, 1.0 + 0.008 * side)
    walk = np.cumsum(rng.normal(0, rng.choice([0.05, 0.4, 0.8]), 1024))
    path = np.interp(along.ravel(), np.arange(1024) - 512, walk - walk[512]).reshape(y.shape)
    taper = np.clip(1.5 * (1 - np.abs(along) / half), 0, 1)
    return image + _shift(image, rng), step(np.abs(across - path) - width * taper) * (np.abs(along) < half)


def _spot(image: Pixels, other: Pixels, rng: np.random.Generator) -> tuple[Pixels, Field]:
    """A pit, bubble or grain of dust: a small ellipse with a soft or hard edge."""
    del other
    side = min(image.shape[:2])
    y, x = _anywhere(image, rng)
    radius, stretch = np.exp(rng.uniform(np.log(0.008), np.log(0.05))) * side, rng.uniform(0.5, 2)
    edge = rng.uniform(1, 1 + radius / 2)
    return image + _shift(image, rng), step((np.hypot(y * stretch, x / stretch) - max(radius, 1.0)) / edge)


def _patch(image: Pixels, other: Pixels, rng: np.random.Generator) -> tuple[Pixels, Field]:
    """A piece of another good part, moved and mirrored: what is there is right, but not there."""
    flipped = other[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
    shift = (int(rng.integers(image.shape[0])), int(rng.integers(image.shape[1])))
    return np.roll(flipped, shift, axis=(0, 1)), _blob(image, rng, smallest=0.03, largest=0.25)


def _stain(image: Pixels, other: Pixels, rng: np.random.Generator) -> tuple[Pixels, Field]:
    """A region that is brighter, darker, of another colour or of another contrast."""
    del other
    gain = np.exp(rng.normal(0, 0.3))
    mean = image.mean(axis=(0, 1))
    return mean + gain * (image - mean) + 0.5 * _shift(image, rng), _blob(image, rng, smallest=0.05, largest=0.6)


def _smear(image: Pixels, other: Pixels, rng: np.random.Generator) -> tuple[Pixels, Field]:
    """A region whose texture is wiped out."""
    del other
    sigma = rng.uniform(0.01, 0.04) * min(image.shape[:2])
    blurred = np.stack([smooth(image[..., c], sigma, sigma_x_px=3 * sigma) for c in range(image.shape[2])], axis=2)
    return blurred, _blob(image, rng, smallest=0.05, largest=0.35)


def _rough(image: Pixels, other: Pixels, rng: np.random.Generator) -> tuple[Pixels, Field]:
    """A region with grain that the part does not have."""
    del other
    grain = smooth_noise(rng, (image.shape[0], image.shape[1]), rng.uniform(0.7, 4.0))
    strength = rng.uniform(0.3, 1.0) * image.std()
    return image + strength * grain[..., None], _blob(image, rng, smallest=0.03, largest=0.3)


_PAINTERS: tuple[Painter, ...] = (_line, _line, _spot, _patch, _stain, _smear, _rough)


def _anywhere(image: Pixels, rng: np.random.Generator) -> tuple[Field, Field]:
    height, width = image.shape[:2]
    return grid((height, width), centre=(rng.uniform(0.03, 0.97) * height, rng.uniform(0.03, 0.97) * width))


def _shift(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Return a change of level, alike for all channels or a colour, (C,)."""
    size = np.exp(rng.uniform(np.log(_WEAKEST), np.log(_STRONGEST))) * max(float(image.std()), 4.0)
    towards = rng.choice([-1.0, 1.0])
    if image.shape[2] > 1 and rng.random() < 0.4:  # noqa: PLR2004 - four defects of ten have a colour of their own
        return np.asarray(size * rng.uniform(-1, 1, image.shape[2]))
    return np.full(image.shape[2], size * towards)


def _blob(image: Pixels, rng: np.random.Generator, *, smallest: float, largest: float) -> Field:
    """Return an irregular region whose size is a share of the image's side, its edge soft or hard."""
    height, width = image.shape[:2]
    size = np.exp(rng.uniform(np.log(smallest), np.log(largest))) * min(height, width)
    y, x = _anywhere(image, rng)
    stretch = np.exp(rng.normal(0, 0.4))
    ragged = rng.uniform(0.1, 0.5) * smooth_noise(rng, (height, width), max(size / 3, 1.0))
    edge = rng.uniform(1.0, 1.0 + size / 6)
    return step((np.hypot(y * stretch, x / stretch) - size / 2 * (1 + ragged)) / edge)
