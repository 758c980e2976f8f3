"""Weights that let a rare class count as much as a common one."""

from __future__ import annotations

import torch
from torch import Tensor


def class_weights(targets: Tensor, *, n_classes: int | None = None) -> Tensor:
    """Return float32 weights of shape (n_classes,), n / (k * count), as sklearn's "balanced".

    `targets` holds class numbers, or 0 and 1 as any dtype. k counts the classes that occur; one
    that does not gets 0. `class_weights(y)[y.long()]` are sample weights of mean 1, and for
    `BCEWithLogitsLoss`, pos_weight is `w[1] / w[0]`.
    """
    labels = targets.reshape(-1)
    if labels.numel() == 0:
        raise ValueError("class_weights expects at least one target, got none")
    if bool((labels != labels.long()).any()) or bool((labels < 0).any()):
        raise ValueError("class_weights expects class numbers 0, 1, 2, …, got a negative or broken number")
    counts = torch.bincount(labels.long().cpu(), minlength=n_classes or 0)
    if n_classes is not None and len(counts) > n_classes:
        raise ValueError(f"class_weights expects targets below n_classes={n_classes}, got {len(counts) - 1}")
    n_present = int((counts > 0).sum())
    balanced = labels.numel() / (n_present * counts.double())
    return torch.where(counts > 0, balanced, torch.zeros(())).float()
