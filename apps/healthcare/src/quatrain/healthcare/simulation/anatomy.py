"""A chest as maps of how much it weakens the beam: body, lungs, heart, ribs, and what may be wrong in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
FINDINGS = ("nodule", "effusion", "opacity", "pneumothorax")
NODULE, EFFUSION, OPACITY, PNEUMOTHORAX = range(4)
_N_RIBS = 9
_CONGESTION = 4.0


@dataclass(frozen=True, kw_only=True)
class Patients:
    """Who is drawn: columns (n,). `findings` bool (n, 4) in the order of FINDINGS."""

    is_male: Bools
    age_years: Floats
    findings: Bools
    # 1 for a full breath; less leaves lungs small and dense.
    breath: Floats
    # How dense healthy lungs are: old and smoking people, and another site's population, have denser ones.
    haze: Floats

    def __len__(self) -> int:
        """Return how many they are."""
        return len(self.findings)


@dataclass(frozen=True, kw_only=True)
class Chests:
    """Thickness maps (n, side, side) in units of soft tissue, and bool masks (n, 4, side, side) of the findings."""

    thickness: Floats
    masks: Bools


def draw_chests(patients: Patients, *, side: int, rng: np.random.Generator) -> Chests:
    """Return the chests of these patients, each with a posture and a build of its own."""
    n = len(patients)
    x, y = _grid(patients, side, rng)
    column = _column(n, rng)
    width = column(0.92, 0.04) + 0.03 * _wide(patients.is_male)
    body = _inside(x, y - 0.25, width, column(1.45, 0.08), soft=0.04)
    lungs, halves = _lungs(patients, x, y, column)
    thickness = body * (1.0 - 0.25 * np.clip(x * x, 0, 1))
    thickness += 0.75 * _soft(column(0.13, 0.015) - np.abs(x), 0.04)  # spine and mediastinum
    heart_x = column(0.13, 0.03)
    size = column(0.24, 0.025) + 0.0012 * (_wide(patients.age_years) - 50)
    heart = _inside(x - heart_x, y - column(0.28, 0.04), size, size * 1.05, soft=0.04)
    thickness += 0.7 * heart
    air = lungs * (1 - 0.85 * heart)
    density = _wide(0.30 + patients.haze + 0.25 * (1 - patients.breath))
    vessels = _smooth_noise(n, side, rng, cells=14) * 0.10 + _smooth_noise(n, side, rng, cells=6) * 0.06
    hilum = np.exp(-((np.abs(x) - 0.22) ** 2 + (y - 0.02) ** 2) / 0.035) * 0.30
    # Congested lungs show more of their vessels.
    vessels = vessels * (1 + _CONGESTION * np.clip(_wide(patients.haze), 0, None))
    lung = np.clip(density + vessels + hilum * column(1.0, 0.2), 0.05, None)
    extra, masks = _findings(patients, (x, y), air, halves, rng=rng)
    lung = np.where(masks[:, PNEUMOTHORAX], 0.12, lung)
    thickness = thickness * (1 - air) + air * lung + extra
    return Chests(thickness=(thickness + _ribs(x, y, column) * lungs).astype(np.float32), masks=masks)


def _grid(patients: Patients, side: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return each patient's own coordinates: shifted, turned by a few degrees, and scaled."""
    axis = (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1
    column = _column(len(patients), rng)
    angle, scale = column(0.0, 0.035), column(1.0, 0.04)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    x, y = x[None] - column(0.0, 0.03), y[None] - column(0.0, 0.03)
    return (x * np.cos(angle) + y * np.sin(angle)) / scale, (y * np.cos(angle) - x * np.sin(angle)) / scale


def _lungs(patients: Patients, x: Floats, y: Floats, column: _Column) -> tuple[Floats, list[Floats]]:
    """Return both lungs, and the right and left one (image left and right) apart, between 0 and 1."""
    breath = _wide(patients.breath)
    halves: list[Floats] = []
    for sign in (-1, 1):
        centre, radius = sign * column(0.44, 0.015), column(0.30, 0.015) * (0.85 + 0.15 * breath)
        shape = _inside(x - centre, y + 0.12, radius, column(0.70, 0.03), soft=0.03)
        dome = column(0.52, 0.03) * (0.75 + 0.25 * breath) + 0.03 * sign + 0.8 * (x - centre) ** 2
        halves.append(shape * _soft(dome - y, 0.03))
    return np.asarray(np.clip(halves[0] + halves[1], 0, 1), dtype=np.float32), halves


def _ribs(x: Floats, y: Floats, column: _Column) -> Floats:
    """Return ribs as arcs that fall from the spine outwards, and the collarbones."""
    ribs = np.zeros_like(x)
    spacing, first, bow = column(0.155, 0.006), column(-0.78, 0.02), column(0.55, 0.06)
    for number in range(_N_RIBS):
        arc = first + spacing * number + bow * (np.abs(x) - 0.15) ** 2 + 0.10 * np.abs(x)
        ribs += np.exp(-(((y - arc) / 0.022) ** 2)) * 0.13
    collar = -0.74 - 0.16 * (np.abs(x) - 0.1)
    return ribs + np.exp(-(((y - collar) / 0.03) ** 2)) * 0.15


def _findings(
    patients: Patients,
    grid: tuple[Floats, Floats],
    air: Floats,
    halves: list[Floats],
    *,
    rng: np.random.Generator,
) -> tuple[Floats, Bools]:
    x, y = grid
    n, side = len(patients), x.shape[1]
    column = _column(n, rng)
    sign = _wide(rng.choice((-1.0, 1.0), n))
    own = np.where(sign < 0, halves[0], halves[1])
    extra = np.zeros_like(x)
    masks = np.zeros((n, len(FINDINGS), side, side), dtype=np.bool_)

    def put(kind: int, amount: Floats, mask: Bools) -> None:
        has = _wide(patients.findings[:, kind]).astype(bool)
        extra[...] += np.where(has, amount, 0)
        masks[:, kind] = mask & has

    high = _wide(rng.uniform(-0.55, 0.25, n))
    radius = _wide(rng.uniform(0.055, 0.10, n))
    nodule = np.hypot(x - sign * column(0.42, 0.07), y - high)
    put(NODULE, _soft(radius - nodule, 0.015) * column(0.42, 0.05) * own, nodule < radius)
    level = _wide(rng.uniform(0.0, 0.24, n)) - 1.1 * np.clip(np.abs(x) - 0.35, 0, None) ** 1.5
    put(EFFUSION, _soft(y - level, 0.03) * 0.62 * own, (y > level) & (own > 0.5))  # noqa: PLR2004 - inside the lung
    spot = _wide(rng.uniform(-0.35, 0.35, n))
    wide = _wide(rng.uniform(0.20, 0.32, n))
    cloud = np.exp(-(((x - sign * column(0.40, 0.05)) ** 2 + (y - spot) ** 2) / (wide * wide)))
    cloud = cloud * (1 + 0.9 * _smooth_noise(n, side, rng, cells=9)) * own
    cloud = np.clip(cloud, 0, None) * column(0.62, 0.08)
    put(OPACITY, cloud, cloud > 0.5 * cloud.max((1, 2), keepdims=True))
    edge = _wide(rng.uniform(0.17, 0.22, n))
    depth = np.hypot((x - sign * 0.42) / 0.9, (y + 0.0) / 2.2) - edge
    # Air gathers beside and above the collapsed lung, which ends in a thin line.
    rim = (depth > 0) & (own > 0.5) & (y < 0.3)  # noqa: PLR2004 - inside the lung
    put(PNEUMOTHORAX, np.exp(-((depth / 0.02) ** 2)) * 0.12 * own * (y < 0.3), rim)  # noqa: PLR2004
    return extra * np.clip(air + 0.2, 0, 1), masks


class _Column:
    """Normal draws (n, 1, 1) around a mean."""

    def __init__(self, n: int, rng: np.random.Generator) -> None:
        self._n, self._rng = n, rng

    def __call__(self, mean: float, sd: float) -> Floats:
        return self._rng.normal(mean, sd, (self._n, 1, 1)).astype(np.float32)


def _column(n: int, rng: np.random.Generator) -> _Column:
    return _Column(n, rng)


def _wide(values: NDArray[np.generic]) -> Floats:
    return np.asarray(values, dtype=np.float32).reshape(-1, 1, 1)


def _soft(distance: Floats, width: float) -> Floats:
    """Return a step from 0 to 1 at distance 0 with a soft edge."""
    return np.asarray(0.5 + 0.5 * np.tanh(distance / width), dtype=np.float32)


def _inside(x: Floats, y: Floats, a: Floats, b: Floats, *, soft: float) -> Floats:
    """Return 1 inside an ellipse of half axes a and b, 0 outside, with a soft edge."""
    return _soft((1 - np.hypot(x / a, y / b)) * np.minimum(a, b), soft)


def _smooth_noise(n: int, side: int, rng: np.random.Generator, *, cells: int) -> Floats:
    """Return noise of unit variance at its knots that varies over 1 / cells of the picture."""
    knots = rng.standard_normal((n, cells + 1, cells + 1)).astype(np.float32)
    place = (np.arange(side) + 0.5) / side * cells
    low = np.minimum(place.astype(int), cells - 1)
    part = (place - low).astype(np.float32)
    rows = knots[:, low] * (1 - part[:, None]) + knots[:, low + 1] * part[:, None]
    return np.asarray(rows[:, :, low] * (1 - part) + rows[:, :, low + 1] * part)
