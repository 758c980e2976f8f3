"""The ONNX operators that torch can run, by name, with which of their inputs must be plain numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from quatrain.core.backends import torch_layers as layers
from quatrain.core.backends import torch_layout as layout

# ONNX's numbers of element types (onnx.proto, TensorProto.DataType).
DTYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64,
    9: torch.bool, 10: torch.float16, 11: torch.float64, 12: torch.uint16, 13: torch.uint32, 14: torch.uint64,
    16: torch.bfloat16,
}  # fmt: skip


@dataclass(frozen=True)
class Operator:
    """An ONNX operator as a function of tensors.

    `plain` are the places of inputs that are Python numbers or lists, `scalar` those that are one where
    they are a constant number, and else a tensor: compilers cannot look into an index that is a tensor.
    """

    function: Any
    plain: frozenset[int] = frozenset()
    scalar: frozenset[int] = frozenset()


def cast(x: Tensor, *, to: int, saturate: int = 1) -> Tensor:
    """Return x in another type."""
    del saturate  # of float8 types only
    return x.to(DTYPES[to])


def divide(a: Tensor, b: Tensor) -> Tensor:
    """Return a / b, cut towards zero for integers."""
    return a / b if a.dtype.is_floating_point else torch.div(a, b, rounding_mode="trunc")


def clip(x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    """Return x between the bounds."""
    return x if low is None and high is None else torch.clamp(x, low, high)


def power(x: Tensor, exponent: Tensor) -> Tensor:
    """Return x to the exponent, in the type of x."""
    return torch.pow(x, exponent).to(x.dtype)


def softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """Return exponents that add up to one."""
    return torch.softmax(x, axis)


def log_softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """Return the logarithm of softmax."""
    return torch.log_softmax(x, axis)


def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """Return alpha x + beta cut to [0, 1]."""
    return torch.clamp(alpha * x + beta, 0, 1)


def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    """Return x, alpha x below zero."""
    return functional.leaky_relu(x, alpha)


def elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Return x, alpha (exp x - 1) below zero."""
    return functional.elu(x, alpha)


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """Return x, slope x below zero."""
    return torch.where(x < 0, slope * x, x)


def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """Return x times the normal distribution at x."""
    return functional.gelu(x, approximate=approximate)


def is_inf(x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    """Return where x is infinite."""
    return (torch.isposinf(x) & bool(detect_positive)) | (torch.isneginf(x) & bool(detect_negative))


def modulo(a: Tensor, b: Tensor, *, fmod: int = 0) -> Tensor:
    """Return the remainder, with the sign of b, or of a with fmod."""
    return torch.fmod(a, b) if fmod else torch.remainder(a, b)


def cumulative_sum(x: Tensor, axis: int | list[int], *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """Return running sums."""
    if exclusive or reverse:
        raise ValueError("exclusive or reverse")
    return torch.cumsum(x, axis[0] if isinstance(axis, list) else axis)


def einsum(*parts: Tensor, equation: str) -> Tensor:
    """Return the sum of products that the equation names."""
    return torch.einsum(equation, *parts)


def dropout(x: Tensor, ratio: object = None, training_mode: object = None, *, seed: int = 0) -> Tensor:
    """Return x: nothing is dropped after training."""
    del ratio, seed
    if training_mode:
        raise ValueError("training_mode")
    return x


def variadic(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """Return a function of two tensors as one of many."""

    def apply(*parts: Tensor) -> Tensor:
        return functools.reduce(function, parts)

    return apply


def mean_of(*parts: Tensor) -> Tensor:
    """Return the mean of tensors."""
    return functools.reduce(torch.add, parts) / len(parts)


def reduction(function: Any) -> Callable[..., Tensor]:
    """Return a torch reduction with ONNX's axes: an attribute up to operator set 17, then an input."""

    def apply(
        x: Tensor, given: list[int] | None = None, *, axes: list[int] | None = None, keepdims: int = 1,
        noop_with_empty_axes: int = 0,
    ) -> Tensor:  # fmt: skip
        named = given if given is not None else axes
        if not named and noop_with_empty_axes:
            return x
        result: Tensor = function(x, named or list(range(x.ndim)), bool(keepdims))
        return result

    return apply


def place_of_extreme(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return argmax or argmin with ONNX's attributes."""

    def apply(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
        if select_last_index:
            raise ValueError("select_last_index")
        return function(x, axis, bool(keepdims))

    return apply


def _prod(x: Tensor, axes: list[int], keepdim: bool) -> Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keepdim)
    return x


_FIRST, _SECOND = frozenset({0}), frozenset({1})
OPERATORS: dict[str, Operator] = {
    **{
        name: Operator(function)
        for name, function in {
            "Abs": torch.abs, "Acos": torch.acos, "Asin": torch.asin, "Atan": torch.atan, "Ceil": torch.ceil,
            "Cos": torch.cos, "Cosh": torch.cosh, "Erf": torch.erf, "Exp": torch.exp, "Floor": torch.floor,
            "HardSwish": functional.hardswish, "Identity": torch.Tensor.contiguous, "IsNaN": torch.isnan,
            "Log": torch.log, "Mish": functional.mish, "Neg": torch.neg, "Not": torch.logical_not,
            "Reciprocal": torch.reciprocal, "Relu": torch.relu, "Round": torch.round, "Sigmoid": torch.sigmoid,
            "Sign": torch.sign, "Sin": torch.sin, "Sinh": torch.sinh, "Softplus": functional.softplus,
            "Softsign": functional.softsign, "Sqrt": torch.sqrt, "Tan": torch.tan, "Tanh": torch.tanh,
            "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": divide, "MatMul": torch.matmul,
            "Pow": power, "Mod": modulo, "And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor,
            "Equal": torch.eq, "Greater": torch.gt, "GreaterOrEqual": torch.ge, "Less": torch.lt,
            "LessOrEqual": torch.le, "Where": torch.where, "PRelu": prelu,
            "Max": variadic(torch.maximum), "Min": variadic(torch.minimum), "Sum": variadic(torch.add), "Mean": mean_of,
            "Cast": cast, "Softmax": softmax, "LogSoftmax": log_softmax, "HardSigmoid": hard_sigmoid,
            "LeakyRelu": leaky_relu, "Elu": elu, "Gelu": gelu, "IsInf": is_inf, "Einsum": einsum,
            "ArgMax": place_of_extreme(torch.argmax), "ArgMin": place_of_extreme(torch.argmin),
            "Gemm": layers.gemm, "Conv": layers.conv, "ConvTranspose": layers.conv_transpose,
            "MaxPool": layers.max_pool, "AveragePool": layers.average_pool,
            "GlobalAveragePool": layers.global_average_pool, "GlobalMaxPool": layers.global_max_pool,
            "BatchNormalization": layers.batch_normalization, "LayerNormalization": layers.layer_normalization,
            "InstanceNormalization": layers.instance_normalization, "GroupNormalization": layers.group_normalization,
            "Transpose": layout.transpose, "Flatten": layout.flatten, "Concat": layout.concat,
            "GatherElements": layout.gather_elements, "DepthToSpace": layout.depth_to_space,
        }.items()
    },
    **{
        name: Operator(reduction(function), _SECOND)
        for name, function in {
            "ReduceMean": torch.mean, "ReduceSum": torch.sum, "ReduceMax": torch.amax, "ReduceMin": torch.amin,
            "ReduceProd": _prod, "ReduceLogSumExp": torch.logsumexp,
            "ReduceL1": lambda x, axes, keepdim: x.abs().sum(axes, keepdim),
            "ReduceL2": lambda x, axes, keepdim: x.square().sum(axes, keepdim).sqrt(),
            "ReduceSumSquare": lambda x, axes, keepdim: x.square().sum(axes, keepdim),
        }.items()
    },
    "Clip": Operator(clip, frozenset({1, 2})),
    "ConstantOfShape": Operator(layout.constant_of_shape, _FIRST),
    "CumSum": Operator(cumulative_sum, _SECOND),
    "Dropout": Operator(dropout, frozenset({1, 2})),
    "Expand": Operator(layout.expand, _SECOND),
    "Gather": Operator(layout.gather, scalar=_SECOND),
    "Pad": Operator(layers.pad, frozenset({1, 2, 3})),
    "Reshape": Operator(layout.reshape, _SECOND),
    "Resize": Operator(layers.resize, frozenset({1, 2, 3})),
    "Slice": Operator(layout.cut, frozenset({1, 2, 3, 4})),
    "Split": Operator(layout.split, _SECOND),
    "Squeeze": Operator(layout.squeeze, _SECOND),
    "Tile": Operator(layout.tile, _SECOND),
    "Trilu": Operator(layout.trilu, _SECOND),
    "Unsqueeze": Operator(layout.unsqueeze, _SECOND),
}  # fmt: skip
