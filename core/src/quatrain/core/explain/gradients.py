"""Integrated gradients and Grad-CAM of a torch module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

# Rows of the path that go through the module at once; memory, not the result, depends on it.
_PATH_ROWS = 64
# Dimensions of a batch of maps, and channels of a colour image.
_IMAGES, _COLOURS = 4, 3


@dataclass(frozen=True)
class Attribution:
    """What each input value adds to one output of its row, and how far the sum is from the whole difference."""

    # The shape of the inputs, float32.
    values: Tensor
    # Per row: outputs(inputs) - outputs(baseline) - sum of values; 0 for an exact integral.
    gap: Tensor


def integrated_gradients(
    module: Callable[[Tensor], Tensor],
    inputs: Tensor,
    *,
    target: int | None = None,
    baseline: Tensor | None = None,
    steps: int = 64,
) -> Attribution:
    """Return integrated gradients (Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", ICML 2017).

    `inputs` are float (B, ...), the module's outputs (B,) or (B, classes), of which `target` is
    explained. `baseline` is what says nothing, by default zeros. The integral is a Gauss-Legendre
    sum of so many steps: where `gap` is not small beside the outputs, take more.
    """
    if not inputs.dtype.is_floating_point:
        raise ValueError(f"inputs must be floating point, for a gradient to exist, got {inputs.dtype}")
    start = torch.zeros_like(inputs) if baseline is None else baseline.expand_as(inputs)
    places, weights = _gauss_legendre(steps)
    total = torch.zeros_like(inputs)
    for place, weight in zip(places, weights, strict=True):
        for first in range(0, len(inputs), _PATH_ROWS):
            rows = slice(first, first + _PATH_ROWS)
            point = start[rows] + place * (inputs[rows] - start[rows])
            total[rows] += weight * _gradient(module, point, target)
    values = total * (inputs - start)
    with torch.no_grad():
        difference = _picked(module(inputs), target) - _picked(module(start), target)
    return Attribution(values, difference - values.flatten(1).sum(1))


def grad_cam(module: nn.Module, layer: nn.Module, inputs: Tensor, *, target: int | None = None) -> Tensor:
    """Return where the module looked, (B, H, W) in [0, 1] at the inputs' size.

    Grad-CAM (Selvaraju et al., ICCV 2017). `layer` is the module's last convolution, or a block of
    it that gives (B, C, h, w). A row whose map has nothing above zero is all zero.
    """
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        # Of pixels and frozen weights nothing has a gradient; the map's own is all that is asked for.
        kept.append(output if output.requires_grad else output.detach().requires_grad_())
        return kept[-1]

    handle = layer.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            outputs = _picked(module(inputs), target)
            if not kept or kept[0].ndim != _IMAGES:
                shape = tuple(kept[0].shape) if kept else "nothing"
                raise ValueError(f"the layer must give maps of shape (B, C, h, w) in a forward pass, got {shape}")
            (gradient,) = torch.autograd.grad(outputs.sum(), kept[0])
    finally:
        handle.remove()
    weights = gradient.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
    found = functional.relu((weights * kept[0].detach()).sum(1, keepdim=True))
    has_colours_last = inputs.ndim == _IMAGES and inputs.shape[-1] == _COLOURS
    size = inputs.shape[1:3] if has_colours_last else inputs.shape[-2:]
    found = functional.interpolate(found, tuple(size), mode="bilinear", align_corners=False)[:, 0]
    highest = found.amax((1, 2), keepdim=True)
    return torch.where(highest > 0, found / highest.clamp_min(torch.finfo(found.dtype).tiny), 0.0)


def _gradient(module: Callable[[Tensor], Tensor], point: Tensor, target: int | None) -> Tensor:
    with torch.enable_grad():
        point = point.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(_picked(module(point), target).sum(), point)
    return gradient


def _picked(outputs: Tensor, target: int | None) -> Tensor:
    """Return one number for each row."""
    if outputs.ndim == 1:
        return outputs
    if target is None or outputs.ndim != 2:  # noqa: PLR2004 - batch, classes
        raise ValueError(f"outputs of shape {tuple(outputs.shape)} need the target class to explain")
    return outputs[:, target]


def _gauss_legendre(steps: int) -> tuple[list[float], list[float]]:
    """Return places and weights on [0, 1]."""
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    places, weights = np.polynomial.legendre.leggauss(steps)
    return ((places + 1) / 2).tolist(), (weights / 2).tolist()
