"""Defects drawn into a part's reflectance, each with the exact pixels that it changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quatrain.industrial.simulation.noise import Field, grid, smooth, smooth_noise, step
from quatrain.industrial.simulation.surfaces import Part

# A pixel counts as changed above this difference of reflectance, about one level of 8 bits.
_SEEN = 1 / 255


@dataclass(frozen=True, kw_only=True)
class Defect:
    """A part with a defect in it: what is seen, and where."""

    reflectance: NDArray[np.float64]
    # (H, W): pixels that differ from the good part's by a level or more.
    mask: NDArray[np.bool_]


def scratch(part: Part, rng: np.random.Generator, contrast: float) -> NDArray[np.float64]:
    """Return the part with a straight or slightly bent bright line, two pixels wide."""
    side = part.body.shape[0]
    y, x = _at(part, rng)
    turn, bend = rng.uniform(0, np.pi), rng.uniform(-1, 1) / side
    along, across = y * np.sin(turn) + x * np.cos(turn), y * np.cos(turn) - x * np.sin(turn)
    half = rng.uniform(0.08, 0.2) * side
    line = step(np.maximum(np.abs(across - bend * along**2) - 1.0, np.abs(along) - half))
    return np.asarray(part.reflectance + contrast * line[..., None])


def pit(part: Part, rng: np.random.Generator, contrast: float) -> NDArray[np.float64]:
    """Return the part with a round dark hole that has a bright lower rim."""
    radius = rng.uniform(0.012, 0.03) * part.body.shape[0]
    y, x = _at(part, rng)
    distance = np.hypot(y, x)
    hole = step(distance - radius)
    rim = step(np.abs(distance - radius) - 1.0) * np.clip(y / radius, 0, 1)
    return np.asarray(
        part.reflectance * (1 - min(1.0, 2 * contrast) * hole[..., None]) + 0.5 * contrast * rim[..., None]
    )


def crack(part: Part, rng: np.random.Generator, contrast: float) -> NDArray[np.float64]:
    """Return the part with a thin dark line that wanders."""
    side = part.body.shape[0]
    y, x = _at(part, rng)
    turn = rng.uniform(0, np.pi)
    along, across = y * np.sin(turn) + x * np.cos(turn), y * np.cos(turn) - x * np.sin(turn)
    half = rng.uniform(0.1, 0.25) * side
    walk = np.cumsum(rng.normal(0, 0.6, 4 * side))
    path = np.interp(along.ravel(), np.linspace(-2 * side, 2 * side, 4 * side), walk - walk[2 * side]).reshape(y.shape)
    width = 1.2 * np.clip(1 - np.abs(along) / half, 0, 1)
    line = step(np.abs(across - path) - width) * (np.abs(along) < half)
    return np.asarray(part.reflectance * (1 - min(1.0, 1.6 * contrast) * line[..., None]))


def missing(part: Part, rng: np.random.Generator, contrast: float) -> NDArray[np.float64]:
    """Return the part without one of its features: a hole not drilled, a component not placed."""
    del contrast
    feature = part.features[int(rng.integers(len(part.features)))]
    soft = np.clip(smooth(feature.astype(np.float64), 1.0) * 2, 0, 1)[..., None]
    grain = 0.02 * smooth_noise(rng, feature.shape, 1.0)[..., None]
    return np.asarray(part.reflectance * (1 - soft) + (part.ground + grain) * soft)


def contamination(part: Part, rng: np.random.Generator, contrast: float) -> NDArray[np.float64]:
    """Return the part with an irregular spot of dust or oil on it."""
    side = part.body.shape[0]
    y, x = _at(part, rng)
    radius = rng.uniform(0.03, 0.07) * side
    blob = step((np.hypot(y, x) - radius * (1 + 0.35 * smooth_noise(rng, y.shape, radius / 2))) / 2)
    tone = np.array([0.30, 0.24, 0.16]) if rng.random() < 0.5 else np.array([0.85, 0.85, 0.80])  # noqa: PLR2004
    opacity = min(1.0, 2 * contrast) * blob[..., None]
    return np.asarray(part.reflectance * (1 - opacity) + tone * opacity)


def colour(part: Part, rng: np.random.Generator, contrast: float) -> NDArray[np.float64]:
    """Return the part discoloured over a soft region, as by heat or by the wrong dye."""
    side = part.body.shape[0]
    y, x = _at(part, rng)
    radius = rng.uniform(0.08, 0.14) * side
    stain = np.exp(-((np.hypot(y, x) / radius) ** 4))
    tint = np.array([0.9, -0.1, -0.8]) if rng.random() < 0.5 else np.array([-0.7, 0.0, 0.9])  # noqa: PLR2004
    return np.asarray(part.reflectance * (1 + contrast * tint * stain[..., None]))


DEFECTS: dict[str, Callable[[Part, np.random.Generator, float], NDArray[np.float64]]] = {
    "scratch": scratch,
    "pit": pit,
    "crack": crack,
    "missing": missing,
    "contamination": contamination,
    "colour": colour,
}


def kinds_for(part: Part) -> tuple[str, ...]:
    """Return the kinds of defects that this part can have: nothing can be missing where nothing must be."""
    return tuple(kind for kind in DEFECTS if kind != "missing" or part.features)


def damage(part: Part, kind: str, rng: np.random.Generator, *, contrast: float) -> Defect:
    """Return the part with a defect of this kind; `contrast` in (0, 1] is how far it stands out."""
    changed = np.clip(DEFECTS[kind](part, rng, contrast), 0, 1)
    if kind != "missing":
        changed = np.where(part.body[..., None], changed, part.reflectance)
    return Defect(reflectance=changed, mask=np.abs(changed - part.reflectance).max(axis=2) > _SEEN)


def _at(part: Part, rng: np.random.Generator) -> tuple[Field, Field]:
    """Return (y, x) from a random point of the part's body, away from the image's edge where there is room."""
    margin = part.body.shape[0] // 10
    inner = np.zeros_like(part.body)
    inner[margin:-margin, margin:-margin] = True
    places = np.argwhere(part.body & inner)
    cy, cx = places[int(rng.integers(len(places)))]
    return grid(part.body.shape, centre=(float(cy), float(cx)))
