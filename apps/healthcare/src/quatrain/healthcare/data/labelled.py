"""Labelled images as every reader gives them: pixels, labels, splits, and who is who for an audit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from quatrain.core.errors import BadDataError, UsageError

# binary: normal or not; multiclass: one of K; ordinal: one of K grades in order; multilabel: any of K findings.
Kind = Literal["binary", "multiclass", "ordinal", "multilabel"]
Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
SPLITS = ("train", "val", "test")
# Labels that a reader marks as not known: the case counts for no measure and no loss of that finding.
UNKNOWN = -1
_N_BINARY = 2


@dataclass(frozen=True, kw_only=True)
class Part:
    """One split: uint8 images (n, H, W) or (n, H, W, 3); labels (n,), of several findings (n, K) with 0, 1 or UNKNOWN.

    `groups` holds columns (n,) for an audit, such as sex, age or site; `masks` bool (n, K, H, W) where they are known.
    """

    images: Pixels
    labels: Labels
    groups: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    masks: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def rows(self, rows: NDArray[np.int64]) -> Part:
        """Return these rows, in this order."""
        return Part(
            images=self.images[rows],
            labels=self.labels[rows],
            groups={name: values[rows] for name, values in self.groups.items()},
            masks=None if self.masks is None else self.masks[rows],
        )


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A set with the splits that it has."""

    name: str
    kind: Kind
    # Of a binary set the second is the finding.
    classes: tuple[str, ...]
    parts: Mapping[str, Part]
    is_synthetic: bool = False
    sha256: str = ""
    licence: str = ""
    # What was left out of the files, and why.
    refused: tuple[str, ...] = ()

    def part(self, split: str) -> Part:
        """Return a split; UsageError if the set lacks it."""
        if split not in self.parts:
            raise UsageError(f"{self.name} has no split {split!r}; it has {', '.join(self.parts)}")
        return self.parts[split]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image: (H, W) or (H, W, 3)."""
        return next(iter(self.parts.values())).images.shape[1:]

    def with_validation(self, *, share: float, seed: int) -> Labelled:
        """Return the set with a validation split, drawn from train class by class where there is none."""
        if "val" in self.parts:
            return self
        train = self.part("train")
        rng = np.random.default_rng(seed)
        keys = train.labels if train.labels.ndim == 1 else train.labels.max(1)
        held = np.concatenate([_some(np.flatnonzero(keys == key), share, rng) for key in np.unique(keys)])
        rest = np.setdiff1d(np.arange(len(train)), held)
        return replace(self, parts={**self.parts, "train": train.rows(rest), "val": train.rows(np.sort(held))})


def kind_of(labels: Labels) -> Kind:
    """Return what labels say of themselves: several columns are findings, two classes binary, more multiclass."""
    if labels.ndim == 2 and labels.shape[1] > 1:  # noqa: PLR2004 - rows, findings
        return "multilabel"
    return "binary" if int(labels.max()) < _N_BINARY else "multiclass"


def check_part(part: Part, *, kind: Kind, n_classes: int, where: str) -> None:
    """Raise BadDataError unless images and labels are what the rest of the app takes for granted."""
    images, labels = part.images, part.labels
    if images.dtype != np.uint8 or images.ndim not in {3, 4} or (images.ndim == 4 and images.shape[3] != 3):  # noqa: PLR2004
        raise BadDataError(
            f"{where}: expected uint8 images of shape (n, H, W) or (n, H, W, 3), got {images.dtype} {images.shape}; "
            "rescale them to 0..255 and store them as uint8"
        )
    if len(images) != len(labels):
        raise BadDataError(f"{where}: {len(images)} images and {len(labels)} labels; each image needs its label")
    if not len(images) or not min(images.shape[1:3]):
        raise BadDataError(f"{where}: no image, or images without pixels: shape {images.shape}")
    if kind == "multilabel":
        if labels.ndim != 2 or not np.isin(labels, (0, 1, UNKNOWN)).all():  # noqa: PLR2004 - rows, findings
            raise BadDataError(f"{where}: findings are labelled 0 or 1 in columns, got values {_some_values(labels)}")
        return
    if labels.min() < 0 or labels.max() >= n_classes:
        raise BadDataError(
            f"{where}: {n_classes} classes have labels 0 to {n_classes - 1}, got {labels.min()} to {labels.max()}"
        )


def _some(rows: NDArray[np.intp], share: float, rng: np.random.Generator) -> NDArray[np.intp]:
    n = min(len(rows) - 1, max(1, round(share * len(rows)))) if len(rows) > 1 else 0
    return rng.permutation(rows)[:n]


def _some_values(labels: Labels) -> str:
    return ", ".join(map(str, np.unique(labels)[:8]))
