"""Where a model looks: how much of a finding's logit goes when a part of the picture is hidden; no torch here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.healthcare.features import area_weights

# Hidden places in each direction, and how wide a place is as a share of the side.
_N_PLACES = 16
_WIDTH = 0.45

Logits = Callable[[NDArray[np.uint8]], NDArray[Any]]


def occlusion(logits: Logits, pixels: NDArray[np.uint8], *, output: int = 0) -> NDArray[np.float64]:
    """Return how much of a logit each place gives, (H, W): what is lost when it is filled with what surrounds it.

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
    # The mean of a ring around a place: of the whole picture it would be a bright patch in a dark lung, and of the
    # place itself it would leave a finding half there.
    beyond_rows = np.exp(-(((y[None] - places[:, None]) / _WIDTH) ** 2))
    beyond_columns = np.exp(-(((x[None] - places[:, None]) / _WIDTH) ** 2))
    beyond = (beyond_rows[:, None, :, None] * beyond_columns[None, :, None, :]).reshape(wide.shape)
    ring = beyond * (1 - wide) ** 2
    means = (whole * ring).sum((1, 2), keepdims=True) / ring.sum((1, 2), keepdims=True)
    hidden = np.rint(whole * (1 - wide) + means * wide).astype(np.uint8)
    answers = np.asarray(logits(np.concatenate([pixels[None], hidden])), np.float64)[:, output]
    lost = (answers[0] - answers[1:]).reshape(_N_PLACES, _N_PLACES)
    return np.asarray(area_weights(_N_PLACES, height) @ lost @ area_weights(_N_PLACES, width).T, dtype=np.float64)


def points_at(saliency: NDArray[np.float64], mask: NDArray[np.bool_]) -> bool:
    """Return whether the strongest place lies in the mask: one turn of the pointing game (Zhang et al., IJCV 2018)."""
    return bool(mask[np.unravel_index(int(saliency.argmax()), saliency.shape)])
