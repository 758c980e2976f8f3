"""What a confident network does not notice: negatives, turned pictures, pictures of something else; no torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from quatrain.core.calibration.temperature import softmax
from quatrain.healthcare.features import area_weights, with_channels

Floats = NDArray[np.float64]
# Pictures are looked at so coarsely that no finding shows, only how a picture of this kind lies and shines.
SIDE = 14
# What is checked beside "as it should be", in the order of the sealed weights' rows.
POSES = ("upright", "negative", "turned by 90 degrees", "turned by 180 degrees", "turned by 270 degrees")
_DIGITS = 4
# Mean distance from grey that doubles the distance of a picture from a grey set.
_COLOUR_LIMIT = 0.03


@dataclass(frozen=True, kw_only=True)
class Checks:
    """Sealed numbers: how coarse pictures of training images vary, and what tells poses apart."""

    mean: Floats
    # (SIDE^2, r), divided by the deviation in each direction, and the deviation of what they leave.
    directions: Floats
    rest: float
    # (poses, SIDE^2 + 1).
    poses: Floats
    # Largest appearance distance and smallest probability of the right pose among 99 % of good images.
    appearance_limit: float
    upright_limit: float
    is_grey: bool

    def to_json(self) -> dict[str, Any]:
        """Return JSON values of few digits for the manifest."""
        arrays = {name: np.round(getattr(self, name), _DIGITS).tolist() for name in ("mean", "directions", "poses")}
        plain = ("rest", "appearance_limit", "upright_limit", "is_grey")
        return arrays | {name: getattr(self, name) for name in plain}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return what `to_json` gave."""
        arrays = {name: np.asarray(values[name], np.float64) for name in ("mean", "directions", "poses")}
        return cls(
            rest=float(values["rest"]),
            appearance_limit=float(values["appearance_limit"]),
            upright_limit=float(values["upright_limit"]),
            is_grey=bool(values["is_grey"]),
            **arrays,
        )

    def appearance(self, images: NDArray[np.uint8]) -> Floats:
        """Return how far coarse pictures lie from training ones, (n,): probabilistic PCA's distance.

        Tipping and Bishop, "Probabilistic principal component analysis", JRSS B 1999. Colour in a grey set counts.
        """
        x = coarse(images) - self.mean
        along = x @ self.directions
        norms = np.linalg.norm(self.directions, axis=0)
        left = (x**2).sum(1) - ((x @ (self.directions / norms)) ** 2).sum(1)
        distance = np.sqrt((along**2).sum(1) + np.maximum(left, 0) / self.rest**2)
        return np.asarray(distance * (1 + colourfulness(images) / _COLOUR_LIMIT) if self.is_grey else distance)

    def pose_probability(self, images: NDArray[np.uint8]) -> Floats:
        """Return the probability of each of POSES, (n, 5)."""
        x = coarse(images)
        return softmax(x @ self.poses[:, :-1].T + self.poses[:, -1])

    def faults(self, images: NDArray[np.uint8]) -> list[tuple[str, ...]]:
        """Return what is wrong with each image, in words; nothing for good ones."""
        poses, distance = self.pose_probability(images), self.appearance(images)
        found = []
        for pose, far in zip(poses, distance, strict=True):
            words = []
            if pose[0] < self.upright_limit:
                words.append(f"looks {POSES[1 + int(pose[1:].argmax())]}")
            if far > self.appearance_limit:
                words.append("unlike the pictures that the model was trained on")
            found.append(tuple(words))
        return found


def coarse(images: NDArray[np.uint8]) -> Floats:
    """Return standardised grey pictures of 14 x 14, (n, 196): neither brightness nor contrast is left in them."""
    grey = with_channels(images, 1).astype(np.float32)
    rows, columns = area_weights(grey.shape[1], SIDE), area_weights(grey.shape[2], SIDE)
    small = np.einsum("ij,njk,lk->nil", rows, grey, columns, optimize=True).reshape(len(grey), -1).astype(np.float64)
    return np.asarray((small - small.mean(1, keepdims=True)) / (small.std(1, keepdims=True) + 1))


def colourfulness(images: NDArray[np.uint8]) -> Floats:
    """Return the mean distance of colours from grey, 0 to 1; 0 for grey images."""
    if images.ndim == 3:  # noqa: PLR2004 - (n, H, W)
        return np.zeros(len(images))
    return np.asarray((images.max(3).astype(np.float64) - images.min(3)).mean((1, 2)) / 255)


def posed(images: NDArray[np.uint8], pose: int) -> NDArray[np.uint8]:
    """Return images as one of POSES would have them."""
    if pose == 1:
        return 255 - images
    return np.ascontiguousarray(np.rot90(images, k=max(0, pose - 1), axes=(1, 2)))
