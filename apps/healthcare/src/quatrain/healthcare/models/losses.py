"""One loss for each kind of label, one value for each image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from quatrain.healthcare.data.labelled import UNKNOWN, Kind, Labels

# How much the squared distance of cumulative shares adds for grades in order (Hou et al. 2016, arXiv:1611.05916).
_ORDER_WEIGHT = 1.0


def n_outputs_of(kind: Kind, n_classes: int) -> int:
    """Return how many logits a kind takes: one for a yes or no, else one for each class or finding."""
    return 1 if kind == "binary" else n_classes


def loss_of(kind: Kind, *, smoothing: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Return loss(logits, labels) of shape (B,); unknown findings count for nothing."""

    def of_yes_or_no(logits: Tensor, labels: Tensor) -> Tensor:
        y = labels.reshape(len(labels), -1)
        is_known = (y != UNKNOWN).float()
        target = y.clamp(min=0).float() * (1 - smoothing) + smoothing / 2
        loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return (loss * is_known).sum(1) / is_known.sum(1).clamp(min=1)

    def of_one_of_many(logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)

    def of_grades(logits: Tensor, labels: Tensor) -> Tensor:
        shares = torch.softmax(logits, 1).cumsum(1)
        truth = functional.one_hot(labels, logits.shape[1]).float().cumsum(1)
        return of_one_of_many(logits, labels) + _ORDER_WEIGHT * ((shares - truth) ** 2).sum(1)

    if kind in {"binary", "multilabel"}:
        return of_yes_or_no
    return of_grades if kind == "ordinal" else of_one_of_many


def balance_weights(kind: Kind, labels: Labels) -> NDArray[np.float32] | None:
    """Return a weight for each image, mean 1, under which every class weighs the same; None for several findings."""
    if kind == "multilabel":
        return None
    counts = np.bincount(labels)
    weights = len(labels) / (np.count_nonzero(counts) * counts[labels])
    return np.asarray(weights, dtype=np.float32)
