"""What a model returns: a tensor, or tuples, lists and dicts of them, taken as one thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def apply(function: Callable[[Tensor], Any], value: Any) -> Any:
    """Return `value` with every tensor in it replaced by `function` of it; other leaves stay."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: apply(function, item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(apply(function, item) for item in value)
    return value


def concatenate(values: Sequence[Any]) -> Any:
    """Return batches of the same structure joined along their first dimension."""
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(list(values))
    if isinstance(first, dict):
        return {key: concatenate([value[key] for value in values]) for key in first}
    if isinstance(first, tuple | list):
        return type(first)(concatenate(items) for items in zip(*values, strict=True))
    raise ValueError(f"expected tensors, or tuples, lists and dicts of them, got {type(first).__name__}")


def to_device(value: Any, device: torch.device) -> Any:
    """Return `value` with its tensors on `device`."""
    return apply(lambda tensor: tensor.to(device, non_blocking=True), value)


def to_float32(value: Any) -> Any:
    """Return `value` with half-precision tensors widened, as autocast leaves them."""
    narrow = (torch.float16, torch.bfloat16)
    return apply(lambda tensor: tensor.float() if tensor.dtype in narrow else tensor, value)
