"""ONNX's layers in torch: products, convolutions, pools, norms and resizing, with ONNX's own attribute names.

Defaults are those of ONNX operator set 18 (https://onnx.ai/onnx/operators). What is not covered
raises ValueError, which the conversion turns into a refusal by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_CONVOLUTIONS = {3: functional.conv1d, 4: functional.conv2d, 5: functional.conv3d}
_TRANSPOSED = {3: functional.conv_transpose1d, 4: functional.conv_transpose2d, 5: functional.conv_transpose3d}
_MAX_POOLS = {3: functional.max_pool1d, 4: functional.max_pool2d, 5: functional.max_pool3d}
_MEAN_POOLS: dict[int, Callable[..., Tensor]] = {
    3: functional.avg_pool1d,
    4: functional.avg_pool2d,
    5: functional.avg_pool3d,
}
_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803 - ONNX's name
    transB: int = 0,  # noqa: N803 - ONNX's name
) -> Tensor:
    """Return alpha a b + beta c."""
    if transB and not transA and alpha == beta == 1 and (c is None or c.ndim == 1):
        return functional.linear(a, b, c)
    product = alpha * ((a.T if transA else a) @ (b.T if transB else b))
    return product if c is None else product + beta * c


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,  # noqa: ARG001 - the weight says it
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Return the convolution."""
    n = x.ndim - 2
    x, padding = _padded(x, pads, auto_pad, value=0.0)
    return _CONVOLUTIONS[x.ndim](x, weight, bias, strides or [1] * n, padding, dilations or [1] * n, group)


def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,  # noqa: ARG001 - the weight says it
    output_padding: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Return the transposed convolution."""
    n = x.ndim - 2
    before, after = _sides(pads or [0] * 2 * n, auto_pad)
    if before != after:
        raise ValueError("pads that differ between the sides")
    extra = output_padding or [0] * n
    call: Any = _TRANSPOSED[x.ndim]
    result: Tensor = call(x, weight, bias, strides or [1] * n, before, extra, group, dilations or [1] * n)
    return result


def max_pool(
    x: Tensor,
    *,
    kernel_shape: list[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: list[int] | None = None,
    pads: list[int] | None = None,
    storage_order: int = 0,  # noqa: ARG001 - of indices, which are not given
    strides: list[int] | None = None,
) -> Tensor:
    """Return the largest values of windows."""
    n = x.ndim - 2
    x, padding = _padded(x, pads, auto_pad, value=-torch.inf)
    call: Any = _MAX_POOLS[x.ndim]
    result: Tensor = call(x, kernel_shape, strides or [1] * n, padding, dilations or [1] * n, bool(ceil_mode))
    return result


def average_pool(
    x: Tensor,
    *,
    kernel_shape: list[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Return the means of windows."""
    n = x.ndim - 2
    before, after = _sides(pads or [0] * 2 * n, auto_pad)
    if before != after:
        raise ValueError("pads that differ between the sides")
    stride = strides or [1] * n
    return _MEAN_POOLS[x.ndim](x, kernel_shape, stride, before, bool(ceil_mode), bool(count_include_pad))


def global_average_pool(x: Tensor) -> Tensor:
    """Return the mean of each channel."""
    return x.mean(tuple(range(2, x.ndim)), keepdim=True)


def global_max_pool(x: Tensor) -> Tensor:
    """Return the largest value of each channel."""
    return x.amax(tuple(range(2, x.ndim)), keepdim=True)


def batch_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,  # noqa: ARG001 - of training
    training_mode: int = 0,
) -> Tensor:
    """Return x normalised by the running statistics."""
    if training_mode:
        raise ValueError("training_mode")
    return functional.batch_norm(x, mean, var, scale, bias, training=False, eps=epsilon)


def layer_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,  # noqa: ARG001 - the precision inside, float32 in torch, too
) -> Tensor:
    """Return x normalised over its last axes."""
    return functional.layer_norm(x, list(x.shape)[axis:], scale, bias, epsilon)


def instance_normalization(x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    """Return x normalised over each channel of each row."""
    return functional.instance_norm(x, weight=scale, bias=bias, eps=epsilon)


def group_normalization(
    x: Tensor, scale: Tensor, bias: Tensor, *, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    """Return x normalised over groups of channels; scale and bias are per group in operator set 18."""
    del stash_type  # the precision inside, float32 in torch, too
    per_channel = x.shape[1] // scale.shape[0]
    scale, bias = scale.repeat_interleave(per_channel), bias.repeat_interleave(per_channel)
    return functional.group_norm(x, num_groups, scale, bias, epsilon)


def resize(
    x: Tensor,
    roi: object = None,
    scales: list[float] | None = None,
    sizes: list[int] | None = None,
    *,
    mode: str = "nearest",
    coordinate_transformation_mode: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
    antialias: int = 0,
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
) -> Tensor:
    """Return images (B, C, ...) of another size; raises ValueError for what torch would compute otherwise."""
    del roi, extrapolation_value  # read only by tf_crop_and_resize
    goal = sizes[2:] if sizes else _scaled(list(x.shape)[2:], (scales or [])[2:])
    by = coordinate_transformation_mode
    if keep_aspect_ratio_policy != "stretch" or cubic_coeff_a != -0.75:  # noqa: PLR2004 - torch's constant
        raise ValueError(f"policy {keep_aspect_ratio_policy}, cubic_coeff_a {cubic_coeff_a}")
    if mode == "nearest":
        return functional.interpolate(x, goal, mode=_nearest(list(x.shape)[2:], goal, by, nearest_mode))
    # torch leaves out what lies outside when it smooths, and repeats the edge when it does not.
    if (mode == "cubic" or antialias) and bool(exclude_outside) != bool(antialias):
        raise ValueError(f"exclude_outside {exclude_outside} with antialias {antialias}")
    if by not in ("half_pixel", "align_corners") and not (by == "pytorch_half_pixel" and 1 not in goal):
        raise ValueError(f"{mode} by {by}")
    smooth = _LINEAR[x.ndim] if mode == "linear" else "bicubic"
    return functional.interpolate(x, goal, mode=smooth, align_corners=by == "align_corners", antialias=bool(antialias))


def pad(
    x: Tensor,
    pads: list[int],
    value: float | None = None,
    axes: list[int] | None = None,
    *,
    mode: str = "constant",
) -> Tensor:
    """Return x with values before and after each axis."""
    kinds = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    both = [[0, 0] for _ in range(x.ndim)]
    named = [axis % x.ndim for axis in axes] if axes is not None else list(range(x.ndim))
    for place, axis in enumerate(named):
        both[axis] = [pads[place], pads[place + len(named)]]
    while both and both[0] == [0, 0] and mode != "constant":
        both = both[1:]
    flat = [side for pair in reversed(both) for side in pair]
    return (
        functional.pad(x, flat, kinds[mode], value or 0.0)
        if mode == "constant"
        else functional.pad(x, flat, kinds[mode])
    )


def _scaled(sizes: list[int], scales: list[float]) -> list[int]:
    exact = [size * scale for size, scale in zip(sizes, scales, strict=True)]
    if any(size != int(size) for size in exact):
        raise ValueError(f"scales {scales} of {sizes}, which give no whole pixels")
    return [int(size) for size in exact]


def _nearest(sizes: list[int], goal: list[int], by: str, rounding: str) -> str:
    """Return torch's name of what ONNX calls nearest."""
    if (by, rounding) == ("asymmetric", "floor"):
        return "nearest"
    # Where pixels are repeated a whole number of times, none lies half way between two.
    has_no_ties = all(large % small == 0 for small, large in zip(sizes, goal, strict=True))
    if by == "half_pixel" and (rounding == "round_prefer_ceil" or (rounding == "round_prefer_floor" and has_no_ties)):
        return "nearest-exact"
    raise ValueError(f"nearest by {by} and {rounding}")


def _padded(x: Tensor, pads: Sequence[int] | None, auto_pad: str, *, value: float) -> tuple[Tensor, list[int]]:
    """Return x and the padding that is left to the operator, which takes the same on both sides only."""
    before, after = _sides(pads or [0] * 2 * (x.ndim - 2), auto_pad)
    if before == after:
        return x, before
    flat = [side for pair in zip(reversed(before), reversed(after), strict=True) for side in pair]
    return functional.pad(x, flat, value=value), [0] * len(before)


def _sides(pads: Sequence[int], auto_pad: str) -> tuple[list[int], list[int]]:
    if auto_pad not in ("NOTSET", "VALID"):
        raise ValueError(f"auto_pad {auto_pad}")
    half = len(pads) // 2
    return list(pads[:half]), list(pads[half:])
