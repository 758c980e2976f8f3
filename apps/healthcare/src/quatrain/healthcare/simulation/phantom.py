"""Chest radiographs of people who do not exist, at two sites with different machines: for demos, tests and checks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from quatrain.core.config import Config
from quatrain.healthcare.simulation.anatomy import FINDINGS, OPACITY, Bools, Chests, Floats, Patients, draw_chests
from quatrain.healthcare.simulation.lettering import MIN_SIDE, stamp

_CHUNK = 512


@dataclass(frozen=True, kw_only=True)
class Site:
    """A machine and the people before it."""

    # How steeply thickness becomes darkness of the film; share of scattered rays; unsharpness in pixels of 64.
    contrast: float
    scatter: float
    blur: float
    # Standard deviation of the noise in a picture of 64 pixels, on a scale of 0 to 1; exponent of the look-up table.
    noise: float
    gamma: float
    # Share of each side that the collimator blackens, at most.
    collimation: float
    # Mean extra density of healthy lungs.
    haze: float
    age_years: tuple[float, float]


SITES = {
    "a": Site(
        contrast=1.15, scatter=0.08, blur=0.4, noise=0.015, gamma=1.0, collimation=0.02, haze=0.0, age_years=(50, 14)
    ),
    # Portable machine, no grid, supine patients who breathe less deeply and are older.
    "b": Site(
        contrast=1.0, scatter=0.27, blur=0.8, noise=0.02, gamma=0.85, collimation=0.05, haze=0.08, age_years=(66, 12)
    ),
}


class PhantomConfig(Config):
    """How many radiographs of which kind: the `[healthcare.phantom]` section."""

    n_train: int = Field(default=2400, ge=8)
    n_val: int = Field(default=600, ge=4)
    n_test: int = Field(default=1200, ge=4)
    side: int = Field(default=64, ge=MIN_SIDE, le=1024)
    # binary: opacity or not, half of each; findings: any of the four, a third each.
    task: Literal["binary", "findings"] = "binary"
    # Where the three splits come from.
    train_site: Literal["a", "b"] = "a"
    test_site: Literal["a", "b"] = "b"


@dataclass(frozen=True, kw_only=True)
class Phantoms:
    """Radiographs uint8 (n, side, side), findings and masks as in anatomy, and the people's columns (n,)."""

    images: NDArray[np.uint8]
    findings: Bools
    masks: Bools
    sex: NDArray[np.str_]
    age_years: NDArray[np.int64]
    site: NDArray[np.str_]


def draw_phantoms(
    n: int,
    *,
    side: int = 64,
    seed: int = 0,
    site: Literal["a", "b"] = "a",
    task: Literal["binary", "findings"] = "binary",
) -> Phantoms:
    """Return n radiographs from one site; the same seed gives the same bytes."""
    parts = [
        _draw(min(_CHUNK, n - start), side=side, rng=np.random.default_rng([seed, start]), site=site, task=task)
        for start in range(0, n, _CHUNK)
    ]
    return Phantoms(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def write_chest_phantoms(path: Path, *, seed: int, **options: Any) -> None:
    """Write a MedMNIST-like .npz with classes, sex, age, site and masks of each split; options as in PhantomConfig."""
    config = PhantomConfig.model_validate(options)
    is_binary = config.task == "binary"
    classes = ("normal", "opacity") if is_binary else FINDINGS
    arrays: dict[str, NDArray[Any]] = {"classes": np.array(classes), "synthetic": np.array(True)}
    sizes = {"train": config.n_train, "val": config.n_val, "test": config.n_test}
    for number, (split, n) in enumerate(sizes.items()):
        site = config.test_site if split == "test" else config.train_site
        drawn = draw_phantoms(n, side=config.side, seed=seed * 10 + number, site=site, task=config.task)
        labels = drawn.findings[:, OPACITY, None] if is_binary else drawn.findings
        arrays |= {
            f"{split}_images": drawn.images,
            f"{split}_labels": labels.astype(np.uint8),
            f"{split}_masks": drawn.masks[:, [OPACITY]] if is_binary else drawn.masks,
            f"{split}_sex": drawn.sex,
            f"{split}_age": drawn.age_years,
            f"{split}_site": drawn.site,
        }
    with path.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # its stub takes no mapping of arrays


def _draw(n: int, *, side: int, rng: np.random.Generator, site: str, task: str) -> Phantoms:
    machine = SITES[site]
    findings = np.zeros((n, len(FINDINGS)), dtype=np.bool_)
    if task == "binary":
        findings[:, OPACITY] = rng.random(n) < 0.5  # noqa: PLR2004 - half
    else:
        findings = rng.random((n, len(FINDINGS))) < 1 / 3
    age = np.clip(rng.normal(*machine.age_years, n), 18, 95)
    patients = Patients(
        is_male=rng.random(n) < 0.5,  # noqa: PLR2004 - half
        age_years=age.astype(np.float32),
        findings=findings,
        breath=np.clip(rng.normal(0.9 - 2 * machine.haze, 0.12, n), 0.3, 1).astype(np.float32),
        haze=(machine.haze + 0.001 * (age - 50) + rng.normal(0, 0.03, n)).astype(np.float32),
    )
    chests = draw_chests(patients, side=side, rng=rng)
    return Phantoms(
        images=stamp(_expose(chests, machine, rng)),
        findings=findings,
        masks=chests.masks,
        sex=np.where(patients.is_male, "male", "female"),
        age_years=age.astype(np.int64),
        site=np.full(n, site),
    )


def _expose(chests: Chests, machine: Site, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return what the detector makes of thickness: dense is bright, as radiographs are shown."""
    n, side = chests.thickness.shape[:2]
    vary = rng.normal(1, 0.06, (n, 1, 1)).astype(np.float32)
    shown = 1 - np.exp(-machine.contrast * vary * chests.thickness)
    shown = _blurred(shown, machine.blur * side / 64)
    shown = shown * (1 - machine.scatter) + machine.scatter * _blurred(shown, 10 * side / 64)
    shown = np.clip(shown, 0, 1) ** (machine.gamma * rng.normal(1, 0.06, (n, 1, 1)).astype(np.float32))
    # The same noise is left at 64 pixels, whatever the size before a reduction to it.
    shown = shown + machine.noise * side / 64 * rng.standard_normal(shown.shape).astype(np.float32)
    cut = (rng.uniform(0, machine.collimation, (n, 4)) * side).astype(int)
    for image, (top, bottom, left, right) in zip(shown, cut, strict=True):
        image[:top], image[side - bottom :], image[:, :left], image[:, side - right :] = 0, 0, 0, 0
    levels: NDArray[np.uint8] = np.rint(np.clip(shown, 0, 1) * 255).astype(np.uint8)
    return levels


def _blurred(images: Floats, sigma: float) -> Floats:
    """Return images blurred by a Gaussian whose edge repeats."""
    if sigma < 0.2:  # noqa: PLR2004 - under a fifth of a pixel nothing is left to blur
        return images
    side = images.shape[1]
    place = np.arange(side, dtype=np.float32)
    weights = np.exp(-((place[:, None] - place) ** 2) / (2 * sigma**2))
    weights /= weights.sum(1, keepdims=True)
    return np.asarray(weights @ images @ weights.T, dtype=np.float32)
