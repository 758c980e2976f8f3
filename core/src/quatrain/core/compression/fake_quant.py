"""Modules that round as an int8 graph does, in float: uint8 inputs, int8 weights per channel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_weights, parametrize

from quatrain.core.compression.gate import RefusedError
from quatrain.core.compression.measures import Arrays

# Layers whose products run in integers.
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
# Weights take -127 to 127, so that zero is in the middle; inputs 0 to 255.
_WEIGHT_MOST, _INPUT_MOST = 127, 255
_LEAST_SCALE = 1e-12
# Folding changes the order of sums, no more.
_FOLDING_TOLERANCE = 1e-3
_BATCH = 64


class RoundedWeight(nn.Module):
    """Weights rounded channel by channel to int8, by the scale that their largest magnitude has now."""

    def forward(self, weight: Tensor) -> Tensor:
        """Return the rounded weights, of the same shape; the gradient is that of the weights."""
        scale = weight.detach().abs().flatten(1).amax(1).clamp_min(_LEAST_SCALE) / _WEIGHT_MOST
        scale = scale.reshape(-1, *[1] * (weight.ndim - 1))
        rounded = torch.round(weight / scale).clamp(-_WEIGHT_MOST, _WEIGHT_MOST) * scale
        return weight + (rounded - weight).detach()


def rounded_input(x: Tensor, low: float, high: float) -> Tensor:
    """Return numbers on the 256 levels from `low` to `high`, of which one is zero; no gradient beyond them."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / _INPUT_MOST, _LEAST_SCALE)
    zero = round(-low / scale)
    held = x.clamp(-zero * scale, (_INPUT_MOST - zero) * scale)
    return held + (torch.round(held / scale) * scale - held).detach()


def layers_of(module: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that are rounded, by name."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, _LAYERS)}


def ranges_of(module: nn.Module, rows: Arrays) -> dict[str, tuple[float, float]]:
    """Return the least and the largest number that each layer reads on these rows."""
    ranges: dict[str, tuple[float, float]] = {}
    names = {layer: name for name, layer in layers_of(module).items()}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        low, high = ranges.get(names[layer], (0.0, 0.0))
        ranges[names[layer]] = (min(low, float(inputs[0].min())), max(high, float(inputs[0].max())))

    hooks = [layer.register_forward_pre_hook(note) for layer in names]
    try:
        _run(module, rows)
    finally:
        for hook in hooks:
            hook.remove()
    if not ranges:
        raise RefusedError("there is nothing to train for int8: the module has no convolution or linear layer")
    return ranges


@contextmanager
def rounding(module: nn.Module, ranges: Mapping[str, tuple[float, float]]) -> Iterator[None]:
    """Round what each layer reads and its weights inside the block; after it, trained weights are left unrounded."""
    layers = {name: module.get_submodule(name) for name in ranges}
    hooks = [layer.register_forward_pre_hook(_rounding_input(ranges[name])) for name, layer in layers.items()]
    for layer in layers.values():
        parametrize.register_parametrization(layer, "weight", RoundedWeight())
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer in layers.values():
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)


def fold_batch_norms(module: nn.Module, rows: Arrays) -> int:
    """Fold each batch normalisation into the convolution that it alone reads, in place; return how many were.

    Raises RefusedError where that changed what the module gives.
    """
    before = _run(module, rows)
    pairs = _convolutions_before_norms(module, rows)
    for convolution, norm in pairs:
        layer, normed = module.get_submodule(convolution), module.get_submodule(norm)
        assert isinstance(layer, _CONVOLUTIONS)  # noqa: S101 - that is how pairs are found
        assert isinstance(normed, nn.modules.batchnorm._BatchNorm)  # noqa: S101 - the same
        assert normed.running_mean is not None  # noqa: S101 - the same
        assert normed.running_var is not None  # noqa: S101 - the same
        layer.weight, layer.bias = fuse_conv_bn_weights(
            layer.weight,
            layer.bias,
            normed.running_mean,
            normed.running_var,
            normed.eps,
            normed.weight,
            normed.bias,
        )
        owner, _, leaf = norm.rpartition(".")
        setattr(module.get_submodule(owner), leaf, nn.Identity())
    scale = max(1.0, float(before.abs().max()))
    if not torch.allclose(before, _run(module, rows), rtol=0, atol=_FOLDING_TOLERANCE * scale):
        raise RefusedError(
            "batch normalisation cannot be folded into the convolutions before it: something else reads these; "
            "keep the sensitive nodes in float instead"
        )
    return len(pairs)


def _convolutions_before_norms(module: nn.Module, rows: Arrays) -> list[tuple[str, str]]:
    """Return (convolution, norm) for every norm whose input is a convolution's very output."""
    given: dict[int, str] = {}
    alive: list[Tensor] = []
    pairs = []
    hooks = []
    for name, layer in module.named_modules():
        if isinstance(layer, _CONVOLUTIONS):

            def note(_: nn.Module, __: object, output: Tensor, name: str = name) -> None:
                alive.append(output)  # an address is not given to another tensor while this one lives
                given[id(output)] = name

            hooks.append(layer.register_forward_hook(note))
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None:

            def match(_: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
                if id(inputs[0]) in given:
                    pairs.append((given[id(inputs[0])], name))

            hooks.append(layer.register_forward_pre_hook(match))
    try:
        _run(module, {name: array[:2] for name, array in rows.items()})
    finally:
        for hook in hooks:
            hook.remove()
    return pairs


def _rounding_input(limits: tuple[float, float]) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    def rounded(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (rounded_input(inputs[0], *limits), *inputs[1:])

    return rounded


def _run(module: nn.Module, rows: Arrays) -> Tensor:
    """Return the module's first output for all rows, in evaluation mode."""
    module.eval()
    n_rows = len(next(iter(rows.values())))
    parts = []
    with torch.no_grad():
        for start in range(0, n_rows, _BATCH):
            batch = [torch.from_numpy(np.ascontiguousarray(array[start : start + _BATCH])) for array in rows.values()]
            answer = module(*batch)
            parts.append(answer[0] if isinstance(answer, tuple) else answer)
    return torch.cat(parts)
