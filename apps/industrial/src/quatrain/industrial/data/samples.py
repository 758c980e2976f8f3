"""One image of a part with what is known about it, whatever folder layout it came from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from quatrain.core.errors import BadDataError
from quatrain.core.images import read_image

Split = Literal["train", "valid", "test"]
Masks = NDArray[np.bool_]

GOOD = "good"
# A mask is stored as black and white, or as small class numbers; anything but black marks a defect.
_BLACK = 0


@dataclass(frozen=True, kw_only=True)
class Box:
    """A defect's rectangle in pixels, half-open: columns x0 to x1, rows y0 to y1."""

    kind: str
    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An image file, its part of the data, and its label where it has one."""

    path: Path
    split: Split
    # GOOD, a kind of defect, or None where nobody said.
    kind: str | None
    # Files whose pixels other than black mark the defect; together they are the mask.
    masks: tuple[Path, ...] = ()
    boxes: tuple[Box, ...] = ()
    # The good image that this one is compared with, in sets of pairs.
    template: Path | None = None

    @property
    def is_defective(self) -> bool | None:
        """Whether the part is bad; None where nobody said."""
        return None if self.kind is None else self.kind != GOOD

    @property
    def has_mask(self) -> bool:
        """Whether every pixel of the image has a label."""
        return self.kind == GOOD or bool(self.masks)


def mask_of(sample: Sample, shape_hw: tuple[int, int]) -> Masks:
    """Return which pixels are defective, (H, W): the union of the sample's masks, none for a good part.

    Raises BadDataError for a mask of another size than the image's `shape_hw`.
    """
    found = np.zeros(shape_hw, dtype=np.bool_)
    for path in sample.masks:
        pixels = read_image(path, background=_BLACK)
        drawn = pixels.max(axis=2) if pixels.ndim == 3 else pixels  # noqa: PLR2004 - (H, W, 3)
        if drawn.shape != shape_hw:
            raise BadDataError(
                f"{path} has {drawn.shape[0]} x {drawn.shape[1]} pixels, expected the {shape_hw[0]} x {shape_hw[1]} "
                f"of {sample.path.name}; a mask has the size of its image"
            )
        found |= drawn > _threshold(drawn)
    return found


def select(samples: Iterable[Sample], *, split: Split | None = None, is_defective: bool | None = None) -> list[Sample]:
    """Return the samples of a split, or with a label, in their order; None asks for any."""
    return [
        sample
        for sample in samples
        if (split is None or sample.split == split) and (is_defective is None or sample.is_defective is is_defective)
    ]


def hold_back(samples: Sequence[Sample], *, share: float, seed: int) -> list[Sample]:
    """Return the samples with this share of the good ones in training moved to the test; defects are never trained on.

    For sets that come without a split: every defective sample is for testing.
    """
    good = [place for place, sample in enumerate(samples) if sample.is_defective is False]
    n_held = round(share * len(good))
    held = set(np.random.default_rng(seed).permutation(good)[:n_held].tolist())
    return [
        replace(sample, split="test" if sample.is_defective is not False or place in held else "train")
        for place, sample in enumerate(samples)
    ]


def _threshold(drawn: NDArray[Any]) -> int:
    """Return half of white for masks that were resampled or stored as JPEG, 0 for class numbers."""
    white = int(np.iinfo(drawn.dtype).max)
    return white // 2 if int(drawn.max(initial=0)) > white // 2 else _BLACK
