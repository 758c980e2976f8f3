"""How a loss becomes one number, whatever the number of processes.

A loss is a callable (outputs, targets) -> Tensor. It returns one value per sample, of shape (B,)
or (B, ...) which is averaged to (B,), or a scalar, taken as the mean over the batch. Per-sample
values are the better choice: sample weights need them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

Loss = Callable[[Any, Any], Tensor]


def per_sample(values: Tensor, *, n: int) -> Tensor:
    """Return losses of shape (n,): a scalar counts once for each sample."""
    if values.ndim == 0:
        return values.expand(n)
    if len(values) != n:
        raise ValueError(
            f"the loss must return a scalar or {n} values for {n} samples, got shape {tuple(values.shape)}"
        )
    return values.reshape(n, -1).mean(1)


def batch_loss(values: Tensor, *, weight: Tensor | None, n: int, n_global: int) -> Tensor:
    """Return the scalar to differentiate: its sum over the processes is the global batch's mean loss.

    `n` of the batch's `n_global` samples lie in this process. Weights multiply the losses and do
    not change the divisor, so a batch of rare samples weighs more than one of common ones; give
    them a mean of 1.
    """
    if weight is None and n == n_global:
        return values if values.ndim == 0 else values.mean()
    if weight is not None and values.ndim == 0:
        raise ValueError('sample weights need a loss per sample; return it with reduction="none"')
    losses = per_sample(values, n=n)
    total = losses.sum() if weight is None else (losses * weight.reshape(n)).sum()
    return total / n_global
