"""Good parts: a machined disc, a printed circuit board, woven fabric and a cast surface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quatrain.industrial.simulation.noise import Field, grid, smooth_noise, step


@dataclass(frozen=True, kw_only=True)
class Part:
    """A drawn part before light and camera: reflectance in [0, 1], where it is, and what may be missing from it."""

    # (H, W, 3)
    reflectance: NDArray[np.float64]
    # (H, W): where the part is, and so where a defect may lie.
    body: NDArray[np.bool_]
    # Features that a part must have, each as pixels (H, W), and what is seen where one is missing, (3,).
    features: tuple[NDArray[np.bool_], ...]
    ground: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Pose:
    """How far a part lies from where it should: shift in pixels, turn in radians."""

    dy: float
    dx: float
    turn: float


def disc(rng: np.random.Generator, side_px: int, pose: Pose) -> Part:
    """Return a turned steel disc with six bolt holes round a bore, on a dark ground."""
    y, x = grid((side_px, side_px), centre=(side_px / 2 + pose.dy, side_px / 2 + pose.dx))
    radius, outer = np.hypot(y, x), 0.44 * side_px
    # Turning marks: fine rings, a little uneven.
    rings = 0.03 * np.sin(radius * 2.1 + rng.uniform(0, 6)) + 0.02 * smooth_noise(rng, y.shape, 1.0)
    # Anisotropic glare of a turned face: two bright sectors.
    angle = np.arctan2(y, x)
    glare = 0.10 * np.cos(2 * (angle - 0.6))
    metal = 0.55 + rings + glare
    solid = step(radius - outer)
    features = []
    for number in range(6):
        at = pose.turn + number * np.pi / 3
        hole = np.hypot(y - 0.30 * side_px * np.sin(at), x - 0.30 * side_px * np.cos(at)) - 0.035 * side_px
        metal = metal * (1 - step(hole)) + 0.12 * step(hole)
        features.append(hole < 0)
    bore = step(radius - 0.12 * side_px)
    image = (metal * (1 - bore) + 0.10 * bore) * solid + 0.08 * (1 - solid)
    body = (radius < outer - 2) & (radius > 0.12 * side_px + 2)
    colours = image[..., None] * np.array([0.98, 1.0, 1.03])
    return Part(reflectance=colours, body=body, features=tuple(features), ground=np.array([0.54, 0.55, 0.57]))


def pcb(rng: np.random.Generator, side_px: int, pose: Pose) -> Part:
    """Return a board with tracks, pads and parts on it; the layout is the same on every board."""
    y, x = _turned(grid((side_px, side_px), centre=(side_px / 2 + pose.dy, side_px / 2 + pose.dx)), pose.turn)
    # Drawn once and for all: a board's layout is its design, not chance.
    design = np.random.default_rng(42)
    board, copper = np.array([0.10, 0.38, 0.18]), np.array([0.72, 0.55, 0.25])
    tracks = np.zeros_like(y)
    for _ in range(14):
        at, low, high = design.uniform(-0.42, 0.42) * side_px, *np.sort(design.uniform(-0.45, 0.45, 2)) * side_px
        across, along = (y, x) if design.random() < 0.5 else (x, y)  # noqa: PLR2004 - a fair coin
        tracks = np.maximum(tracks, step(np.maximum(np.abs(across - at) - 2.0, np.maximum(low - along, along - high))))
    image = board + 0.25 * tracks[..., None] * (copper - board)
    image = image + 0.015 * smooth_noise(rng, y.shape, 1.5)[..., None]
    features = []
    for row in range(4):
        for column in range(4):
            cy, cx = (row - 1.5) * 0.21 * side_px, (column - 1.5) * 0.21 * side_px
            chip = np.maximum(np.abs(y - cy) - 0.045 * side_px, np.abs(x - cx) - 0.06 * side_px)
            pads = np.maximum(
                np.abs(y - cy) - 0.035 * side_px, np.abs(np.abs(x - cx) - 0.07 * side_px) - 0.015 * side_px
            )
            image = image + step(pads)[..., None] * (0.9 * copper + 0.15 - image)
            image = image + step(chip)[..., None] * (0.13 - image)
            features.append(np.minimum(chip, pads) < 0)
    body = (np.abs(y) < 0.46 * side_px) & (np.abs(x) < 0.46 * side_px)
    return Part(reflectance=image, body=body, features=tuple(features), ground=board)


def fabric(rng: np.random.Generator, side_px: int, pose: Pose) -> Part:
    """Return plain-woven cloth that fills the image; its phase is different in every image."""
    y, x = _turned(grid((side_px, side_px), centre=(pose.dy, pose.dx)), pose.turn)
    pitch = side_px / 26
    # Threads waver a little.
    y = y + 0.10 * pitch * smooth_noise(rng, y.shape, 12.0)
    x = x + 0.10 * pitch * smooth_noise(rng, y.shape, 12.0)
    over = np.sign(np.sin(np.pi * y / pitch) * np.sin(np.pi * x / pitch))
    weft, warp = np.abs(np.sin(np.pi * y / pitch)), np.abs(np.sin(np.pi * x / pitch))
    thread = np.where(over > 0, weft, warp)
    fibre = smooth_noise(rng, y.shape, 0.8, sigma_x_px=3.0)
    image = 0.35 + 0.35 * thread + 0.03 * fibre
    colours = image[..., None] * np.array([0.95, 0.90, 0.75])
    whole = np.ones(y.shape, dtype=np.bool_)
    return Part(reflectance=colours, body=whole, features=(), ground=np.array([0.2, 0.19, 0.16]))


def cast(rng: np.random.Generator, side_px: int, pose: Pose) -> Part:
    """Return a cast surface that fills the image: grain of several sizes, nothing aligned."""
    del pose
    shape = (side_px, side_px)
    grain = sum(weight * smooth_noise(rng, shape, sigma) for weight, sigma in ((0.05, 1.0), (0.04, 2.5), (0.03, 8.0)))
    colours = (0.5 + np.asarray(grain))[..., None] * np.array([1.0, 0.99, 0.97])
    whole = np.ones(shape, dtype=np.bool_)
    return Part(reflectance=colours, body=whole, features=(), ground=np.array([0.4, 0.4, 0.4]))


SURFACES: dict[str, Callable[[np.random.Generator, int, Pose], Part]] = {
    "disc": disc,
    "pcb": pcb,
    "fabric": fabric,
    "cast": cast,
}


def _turned(axes: tuple[Field, Field], turn: float) -> tuple[Field, Field]:
    y, x = axes
    return y * np.cos(turn) - x * np.sin(turn), y * np.sin(turn) + x * np.cos(turn)
