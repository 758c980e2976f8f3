"""ONNX's operators that move values about, in torch; sizes and axes are plain integers."""

from __future__ import annotations

import torch
from torch import Tensor


def reshape(x: Tensor, shape: list[int], *, allowzero: int = 0) -> Tensor:
    """Return x in another shape, where 0 means the size that was there."""
    if allowzero:
        return x.reshape(shape)
    return x.reshape([x.shape[place] if type(size) is int and size == 0 else size for place, size in enumerate(shape)])


def expand(x: Tensor, shape: list[int]) -> Tensor:
    """Return x repeated to the shape that it and `shape` broadcast to."""
    wider = [1] * (len(shape) - x.ndim) + list(x.shape)
    target = [1] * (x.ndim - len(shape)) + list(shape)
    return x.expand([own if type(size) is int and size == 1 else size for own, size in zip(wider, target, strict=True)])


def transpose(x: Tensor, *, perm: list[int] | None = None) -> Tensor:
    """Return x with its axes in another order."""
    return x.permute(perm if perm is not None else list(reversed(range(x.ndim))))


def flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    """Return x as a matrix."""
    at = axis % x.ndim if axis < 0 else axis
    if at == 0:
        return x.reshape(1, -1)
    return x.flatten(0, at - 1).flatten(1) if at < x.ndim else x.reshape(-1, 1)


def squeeze(x: Tensor, axes: list[int] | None = None) -> Tensor:
    """Return x without axes of one."""
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def unsqueeze(x: Tensor, axes: list[int]) -> Tensor:
    """Return x with axes of one."""
    n = x.ndim + len(axes)
    for axis in sorted(axis % n for axis in axes):
        x = x.unsqueeze(axis)
    return x


def concat(*parts: Tensor, axis: int) -> Tensor:
    """Return the parts one after the other along an axis."""
    return torch.cat(parts, axis)


def split(
    x: Tensor, sizes: list[int] | None = None, *, axis: int = 0, num_outputs: int | None = None
) -> tuple[Tensor, ...]:
    """Return x in parts along an axis."""
    if sizes is not None:
        return torch.split(x, sizes, axis)
    if num_outputs is None:
        raise ValueError("neither sizes nor num_outputs")
    each = -(-x.shape[axis] // num_outputs)
    return torch.split(x, each, axis)


def cut(
    x: Tensor, starts: list[int], ends: list[int], axes: list[int] | None = None, steps: list[int] | None = None
) -> Tensor:
    """Return part of x; raises ValueError for a negative step."""
    for place, axis in enumerate(axes if axes is not None else range(len(starts))):
        step = 1 if steps is None else steps[place]
        if step < 1:
            raise ValueError(f"a step of {step}")
        index: list[slice] = [slice(None)] * (axis % x.ndim)
        x = x[(*index, slice(starts[place], ends[place], step))]
    return x


def gather(x: Tensor, places: Tensor | int | list[int], *, axis: int = 0) -> Tensor:
    """Return the slices of x at places along an axis; a negative place counts from the end."""
    at = axis % x.ndim
    if isinstance(places, int):
        return x.select(at, places)
    index: tuple[slice | Tensor | list[int], ...] = (*[slice(None)] * at, places)
    return x[index]


def gather_elements(x: Tensor, places: Tensor, *, axis: int = 0) -> Tensor:
    """Return one value of x for each place."""
    return torch.gather(x, axis, torch.where(places < 0, places + x.shape[axis], places))


def tile(x: Tensor, repeats: list[int]) -> Tensor:
    """Return x repeated along each axis."""
    return x.repeat(repeats)


def constant_of_shape(shape: list[int], *, value: Tensor | None = None) -> Tensor:
    """Return a tensor full of one value, float32 0 without one."""
    if value is None:
        return torch.zeros(shape)
    return torch.full(shape, value.item(), dtype=value.dtype)


def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Return channels moved into blocks of pixels."""
    n, c, h, w = x.shape
    inner = c // blocksize**2
    if mode == "CRD":
        parts = x.reshape(n, inner, blocksize, blocksize, h, w).permute(0, 1, 4, 2, 5, 3)
    else:
        parts = x.reshape(n, blocksize, blocksize, inner, h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, inner, h * blocksize, w * blocksize)


def trilu(x: Tensor, k: int | None = None, *, upper: int = 1) -> Tensor:
    """Return the upper or lower triangle."""
    return torch.triu(x, k or 0) if upper else torch.tril(x, k or 0)
