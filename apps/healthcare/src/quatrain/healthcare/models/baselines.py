"""What the networks have to beat: the commonest class, and a logistic regression on coarse pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quatrain.core.errors import require
from quatrain.healthcare.data.labelled import Kind, Labels, Part
from quatrain.healthcare.features import area_weights, with_channels

_EXTRA = "quatrain-healthcare[train]"
_SIDE = 14
# Images that the regression learns from, at most: it has few weights.
_MAX_ROWS = 10_000


def commonest(train: Part, test: Part, *, kind: Kind, n_classes: int) -> NDArray[np.float64]:
    """Return each class's share of the training images as every image's probability."""
    if kind == "multilabel":
        share = np.maximum(train.labels, 0).mean(0)
    else:
        share = np.bincount(train.labels, minlength=n_classes) / len(train)
    return np.tile(share[1:2] if kind == "binary" else share, (len(test), 1))


def coarse_pixels(train: Part, test: Part, *, kind: Kind, n_classes: int) -> NDArray[np.float64]:
    """Return the probabilities of a ridge logistic regression on 14 x 14 standardised grey pixels."""
    linear_model = require("sklearn.linear_model", package=_EXTRA)
    rows = np.random.default_rng(0).permutation(len(train))[:_MAX_ROWS]
    x, unseen = _coarse(train.images[rows]), _coarse(test.images)

    def fitted(labels: Labels) -> NDArray[np.float64]:
        if len(np.unique(labels)) == 1:
            return np.full((len(unseen), 1), float(labels[0]))
        model = linear_model.LogisticRegression(C=0.01, max_iter=200).fit(x, labels)
        found = np.zeros((len(unseen), max(n_classes, 2) if kind != "multilabel" else 2))
        found[:, model.classes_] = model.predict_proba(unseen)
        return found

    if kind == "multilabel":
        labels = np.maximum(train.labels[rows], 0)
        return np.stack([fitted(labels[:, k])[:, -1] for k in range(labels.shape[1])], axis=1)
    found = fitted(train.labels[rows])
    return found[:, 1:2] if kind == "binary" else found


BASELINES = {"coarse pixels": coarse_pixels, "commonest class": commonest}


def _coarse(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    grey = with_channels(images, 1).astype(np.float32)
    rows, columns = area_weights(grey.shape[1], _SIDE), area_weights(grey.shape[2], _SIDE)
    small = np.einsum("ij,njk,lk->nil", rows, grey, columns, optimize=True).reshape(len(grey), -1).astype(np.float64)
    return np.asarray((small - small.mean(1, keepdims=True)) / (small.std(1, keepdims=True) + 1))
