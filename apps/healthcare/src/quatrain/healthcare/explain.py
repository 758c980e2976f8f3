"""Where a model looks: how much of a finding's logit goes when a part of the picture is hidden; no torch here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.healthcare.features import area_weights

# Hidden places in each direction, and how wide a place is as a share of the side.
_N_PLACES = 9
_WIDTH = 0.16

Logits = Callable[[NDArray[np.uint8]], NDArray[Any]]


def occlusion(logits: Logits, pixels: NDArray[np.uint8], *, output: int = 0) -> NDArray[np.float64]:
    """Return how much of a logit each place gives, (H, W): what is lost when it is replaced by its surroundings' mean.

    `pixels` is one image (H, W) or (H, W, 3); `logits` answers a batch (n, outputs). Zeiler and Fergus, "Visualizing
    and understanding convolutional networks", ECCV 2014, with soft edges so that no edge of the patch is seen.
    """
    height, width = pixels.shape[:2]
    places = (np.arange(_N_PLACES) + 0.5) / _N_PLACES
    y, x = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    rows = np.exp(-(((y[None] - places[:, None]) / _WIDTH * 2) ** 2))
    columns = np.exp(-(((x[None] - places[:, None]) / _WIDTH * 2) ** 2))
    masks = (rows[:, None, :, None] * columns[None, :, None, :]).reshape(-1, height, width)
    whole = pixels.astype(np.float64)
    wide = masks.reshape(*masks.shape, *[1] * (pixels.ndim - 2))
    # The mean around a place, not of the whole picture: a lung is dark and its hidden part must be, too.
    around = np.sqrt(wide)
    means = (whole * around).sum((1, 2), keepdims=True) / around.sum((1, 2), keepdims=True)
    hidden = np.rint(whole * (1 - wide) + means * wide).astype(np.uint8)
    answers = np.asarray(logits(np.concatenate([pixels[None], hidden])), np.float64)[:, output]
    lost = (answers[0] - answers[1:]).reshape(_N_PLACES, _N_PLACES)
    return np.asarray(area_weights(_N_PLACES, height) @ lost @ area_weights(_N_PLACES, width).T, dtype=np.float64)


def points_at(saliency: NDArray[np.float64], mask: NDArray[np.bool_]) -> bool:
    """Return whether the strongest place lies in the mask: one turn of the pointing game (Zhang et al., IJCV 2018)."""
    return bool(mask[np.unravel_index(int(saliency.argmax()), saliency.shape)])
