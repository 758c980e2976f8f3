"""Folders of SYNTHETIC parts in MVTec AD's layout, with exact masks and known millimetres."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from quatrain.core.config import Config
from quatrain.core.errors import UsageError, require
from quatrain.industrial.simulation.camera import draw_pose, shoot
from quatrain.industrial.simulation.defects import damage, kinds_for
from quatrain.industrial.simulation.surfaces import SURFACES

Kind = Literal["disc", "pcb", "fabric", "cast"]

# Beside the images: what every one of them shows, in millimetres.
TRUTH = "parts.json"


class PartsConfig(Config):
    """What parts are drawn, how many, and how much they vary: the `[industrial.parts]` section."""

    kind: Kind = "disc"
    n_train: int = Field(default=60, ge=1)
    n_good: int = Field(default=30, ge=0)
    # Of each kind of defect that the part can have.
    n_bad: int = Field(default=8, ge=0)
    side_px: int = Field(default=256, ge=64, le=4096)
    # The part's side is 100 mm unless said otherwise.
    mm_per_px: float = Field(default=100 / 256, gt=0)
    # How far a defect stands out; below .1 people miss it.
    contrast: float = Field(default=0.25, gt=0, le=1)
    # 1 is a good station; 0 holds still.
    jitter: float = Field(default=1.0, ge=0, le=10)
    lighting: float = Field(default=1.0, ge=0, le=10)


def write_parts(path: Path, *, seed: int = 0, **options: Any) -> None:
    """Write train/good, test/<kind>, ground_truth/<kind> and parts.json to a new folder, the same for the same seed.

    `options` are those of PartsConfig. parts.json gives the scale, and of each defect its area
    in mm2 and its longest side in mm. Raises UsageError where the folder holds something.
    """
    config = PartsConfig.model_validate(options)
    if path.exists() and any(path.iterdir()):
        raise UsageError(f"{path} is not empty; name a new folder for the generated parts")
    rng = np.random.default_rng(seed)
    _write_good(path / "train" / "good", config, rng, config.n_train)
    _write_good(path / "test" / "good", config, rng, config.n_good)
    truth: dict[str, Any] = {}
    for kind in kinds_of(config.kind):
        truth |= _write_bad(path, kind, config, rng)
    document = {"is_synthetic": True, "seed": seed, **config.model_dump(), "defects": truth}
    (path / TRUTH).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def kinds_of(kind: Kind) -> tuple[str, ...]:
    """Return the kinds of defects that such a part can have."""
    rng = np.random.default_rng(0)
    return kinds_for(SURFACES[kind](rng, 64, draw_pose(rng, 64, jitter=0)))


def draw_good(config: PartsConfig, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return an image of a good part, uint8 (H, W, 3)."""
    part = SURFACES[config.kind](rng, config.side_px, draw_pose(rng, config.side_px, jitter=config.jitter))
    return shoot(np.clip(part.reflectance, 0, 1), rng, lighting=config.lighting)


def draw_bad(config: PartsConfig, kind: str, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return an image of a part with one defect, and the mask of the pixels that the defect changed."""
    part = SURFACES[config.kind](rng, config.side_px, draw_pose(rng, config.side_px, jitter=config.jitter))
    defect = damage(part, kind, rng, contrast=config.contrast * rng.uniform(0.8, 1.2))
    return shoot(defect.reflectance, rng, lighting=config.lighting), defect.mask


def _write_good(folder: Path, config: PartsConfig, rng: np.random.Generator, n: int) -> None:
    folder.mkdir(parents=True)
    for number in range(n):
        _save(folder / f"{number:03d}.png", draw_good(config, rng))


def _write_bad(path: Path, kind: str, config: PartsConfig, rng: np.random.Generator) -> dict[str, Any]:
    images, masks = path / "test" / kind, path / "ground_truth" / kind
    truth = {}
    for folder in (images, masks) if config.n_bad else ():
        folder.mkdir(parents=True)
    for number in range(config.n_bad):
        image, mask = draw_bad(config, kind, rng)
        _save(images / f"{number:03d}.png", image)
        _save(masks / f"{number:03d}_mask.png", np.where(mask, 255, 0).astype(np.uint8))
        truth[f"{kind}/{number:03d}.png"] = _measured(mask, config.mm_per_px)
    return truth


def _measured(mask: NDArray[np.bool_], mm_per_px: float) -> dict[str, float]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    sides = [0 if len(line) == 0 else int(line[-1] - line[0]) + 1 for line in (rows, columns)]
    return {"area_mm2": round(float(mask.sum()) * mm_per_px**2, 4), "side_mm": round(max(sides) * mm_per_px, 4)}


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    image: Any = require("PIL.Image", package="quatrain-industrial")
    image.fromarray(pixels).save(path)
