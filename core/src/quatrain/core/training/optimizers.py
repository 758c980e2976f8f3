"""The optimiser: AdamW as one fused kernel, its learning rate, clipping, and its state as plain tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from quatrain.core.training.config import FitConfig


def adamw(model: nn.Module, config: FitConfig) -> Optimizer:
    """Return AdamW over the trainable weights; only matrices and kernels decay."""
    trainable = [tensor for tensor in model.parameters() if tensor.requires_grad]
    if not trainable:
        raise ValueError("the model has no weight with requires_grad; there is nothing to train")
    groups = [
        {"params": [tensor for tensor in trainable if tensor.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [tensor for tensor in trainable if tensor.ndim <= 1], "weight_decay": 0.0},
    ]
    # One group where two would do the same: each group is a kernel launch of its own.
    used = [group for group in groups if group["params"]] if config.weight_decay else [{"params": trainable}]
    return AdamW(used, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)


def remember_peaks(optimizer: Optimizer) -> None:
    """Note each group's learning rate as the peak that the schedule scales."""
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])


def scale_learning_rate(optimizer: Optimizer, factor: float) -> None:
    """Set each group's learning rate to `factor` of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def clip_gradients(weights: Sequence[Tensor], clip_norm: float) -> None:
    """Scale the gradients together so that their norm is at most `clip_norm`."""
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    if gradients[0].device.type != "cpu":
        total = nn.utils.get_total_norm(gradients)
    else:
        # On a CPU, reading numbers is no wait: a third of get_total_norm's time for a small model.
        norm = math.hypot(*[part.item() for part in torch._foreach_norm(gradients)])
        if norm <= clip_norm:
            return
        total = torch.tensor(norm, dtype=torch.float64)
    nn.utils.clip_grads_with_norm_(weights, clip_norm, total)


def pack(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the optimiser's state as tensors named "index.key" and the rest as JSON values."""
    tensors: dict[str, Tensor] = {}
    rest: dict[str, Any] = {}
    for index, entries in optimizer.state_dict()["state"].items():
        for key, value in entries.items():
            (tensors if isinstance(value, Tensor) else rest)[f"{index}.{key}"] = value
    return tensors, rest


def unpack(optimizer: Optimizer, tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> None:
    """Give the optimiser a packed state; its settings stay the ones it was built with."""
    state: dict[int, dict[str, Any]] = {}
    for name, value in [*tensors.items(), *rest.items()]:
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
