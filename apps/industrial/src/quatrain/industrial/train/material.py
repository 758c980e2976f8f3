"""The good parts of a run as features, and the same parts with pasted defects."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quatrain.core.errors import BadDataError
from quatrain.core.images import ImageArray, ImageError, read_image
from quatrain.core.inference import Session
from quatrain.industrial.features.pixels import PixelSpec, as_input
from quatrain.industrial.models.extractor import Geometry
from quatrain.industrial.train.pasted import paste_defect

_LOG = logging.getLogger(__name__)
# Fewer good parts give no deviation to stand out from.
MIN_PARTS = 4
# Averages of parts whose answers are sealed with the model.
_N_GOLDEN = 4


@dataclass(frozen=True, kw_only=True)
class Material:
    """Features of good parts, of pasted ones, and what was read."""

    paths: tuple[Path, ...]
    # (N, C, gh, gw)
    good: Tensor
    # (S, C, gh, gw); `source` (S,) is the good part that each was pasted on.
    pasted: Tensor
    source: NDArray[np.int64]
    # (S, gh, gw): the share of each cell that a defect covers.
    covered: Tensor
    # Averages over parts, so that no single part leaves in a bundle; (4, h, w, C).
    golden: NDArray[Any]
    # File name and reason of each image that could not be read.
    unread: tuple[tuple[str, str], ...]

    def without(self, places: Sequence[int]) -> Material:
        """Return the material without these good parts, and without what was pasted on them."""
        is_kept = np.ones(len(self.paths), dtype=np.bool_)
        is_kept[list(places)] = False
        is_on_kept = is_kept[self.source]
        renumbered = np.cumsum(is_kept) - 1
        return replace(
            self,
            paths=tuple(path for path, kept in zip(self.paths, is_kept, strict=True) if kept),
            good=self.good[torch.from_numpy(is_kept)],
            pasted=self.pasted[torch.from_numpy(is_on_kept)],
            source=renumbered[self.source[is_on_kept]],
            covered=self.covered[torch.from_numpy(is_on_kept)],
        )


def read_parts(paths: Sequence[Path]) -> tuple[list[Path], list[ImageArray], list[tuple[str, str]]]:
    """Return paths and pixels of the images that can be read, and why the others cannot.

    Raises BadDataError unless some are left.
    """
    good, images, unread = [], [], []
    for path in paths:
        try:
            image = read_image(path)
        except ImageError as error:
            unread.append((path.name, str(error)))
            _LOG.warning("left out of training: %s", error)
            continue
        if image.min() == image.max():
            unread.append((path.name, "shows nothing: all its pixels are alike"))
            _LOG.warning("left out of training: %s shows nothing: all its pixels are alike", path)
            continue
        good.append(path)
        images.append(image)
    if len(good) < MIN_PARTS:
        raise BadDataError(f"{len(good)} images of good parts can be read, at least {MIN_PARTS} are needed")
    return good, images, unread


def features_of(session: Session, pixels: NDArray[Any]) -> Tensor:
    """Return the features of one image (H, W, C), (1, C, gh, gw)."""
    return torch.from_numpy(np.asarray(session.run(["features"], {"image": pixels[None]})[0]))


def gather(
    paths: Sequence[Path],
    images: Sequence[ImageArray],
    unread: Sequence[tuple[str, str]],
    *,
    spec: PixelSpec,
    geometry: Geometry,
    session: Session,
    n_pasted: int,
    seed: int,
) -> Material:
    """Return everything that choice, calibration and fit work with; each image goes through the graph once."""
    rng = np.random.default_rng(seed)
    inputs = [as_input(image, spec, name=path.name) for path, image in zip(paths, images, strict=True)]
    good = torch.cat([features_of(session, pixels) for pixels in inputs])
    small = [_resized(pixels, spec, geometry) for pixels in inputs]
    # Every part gets its turn before any gets a second one.
    source = np.concatenate([rng.permutation(len(small)) for _ in range(-(-n_pasted // len(small)))])[:n_pasted]
    pasted, covered = [], []
    for place in source:
        image, mask = paste_defect(small[place], small[int(rng.integers(len(small)))], rng)
        pasted.append(features_of(session, _deep(image, spec)))
        covered.append(torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(mask)[None].float(), geometry.grid_hw))
    return Material(
        paths=tuple(paths),
        good=good,
        pasted=torch.cat(pasted),
        source=source.astype(np.int64),
        covered=torch.cat(covered),
        golden=np.stack([_deep(image, spec) for image in _averages(small, rng)]),
        unread=tuple(unread),
    )


def _resized(pixels: NDArray[Any], spec: PixelSpec, geometry: Geometry) -> NDArray[np.uint8]:
    """Return the image at the model's own size, (h, w, C) of 8 bits."""
    scaled = torch.from_numpy(pixels.astype(np.float32) * (255.0 / spec.full_scale)).permute(2, 0, 1)[None]
    small = torch.nn.functional.interpolate(scaled, size=geometry.size_hw, mode="bilinear", antialias=True)
    pixels_8: NDArray[np.uint8] = np.rint(np.clip(small[0].permute(1, 2, 0).numpy(), 0, 255)).astype(np.uint8)
    return pixels_8


def _deep(image: NDArray[np.uint8], spec: PixelSpec) -> NDArray[Any]:
    deep: NDArray[Any] = np.rint(image.astype(np.float64) * (spec.full_scale / 255.0)).astype(spec.dtype)
    return deep


def _averages(images: Sequence[NDArray[np.uint8]], rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    averages = []
    for _ in range(_N_GOLDEN):
        chosen = rng.choice(len(images), max(2, len(images) // 2), replace=False)
        averages.append(np.rint(np.mean([images[place].astype(np.float64) for place in chosen], axis=0)))
    return [average.astype(np.uint8) for average in averages]
