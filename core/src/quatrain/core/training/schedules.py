"""Learning-rate schedules as closed forms of the step, so that a resume needs no state for them."""

from __future__ import annotations

import math

from quatrain.core.training.config import Schedule

# torch.optim.lr_scheduler.OneCycleLR's defaults: the start is peak / 25, the end that start / 10 000.
_ONE_CYCLE_START = 1 / 25
_ONE_CYCLE_END = _ONE_CYCLE_START / 1e4


def factor(schedule: Schedule, *, step: int, total: int, warmup_fraction: float) -> float:
    """Return the share of the peak learning rate to use in `step`, counted from 0 to `total` - 1."""
    if schedule == "one_cycle":
        return _one_cycle(step, total=total, top=warmup_fraction * total - 1)
    warmup = round(warmup_fraction * total)
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    return _cosine((step - warmup) / (total - warmup), start=1.0, end=0.0)


def _one_cycle(step: int, *, total: int, top: float) -> float:
    """Smith and Topin (2018), arXiv:1708.07120, in torch's two-phase cosine form."""
    if step <= top:
        return _cosine(step / top if top else 1.0, start=_ONE_CYCLE_START, end=1.0)
    return _cosine((step - top) / (total - 1 - top), start=1.0, end=_ONE_CYCLE_END)


def _cosine(progress: float, *, start: float, end: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
