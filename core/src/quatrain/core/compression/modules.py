"""Torch modules between steps: exported behind a parity gate, and rebuilt from weights of other widths."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from quatrain.core.compression.artifact import Artifact
from quatrain.core.compression.gate import RefusedError
from quatrain.core.compression.measures import Array, Arrays
from quatrain.core.errors import UserError
from quatrain.core.export import check_parity, dynamic_sizes, torch_model

if TYPE_CHECKING:
    from torch import nn


def require_module(before: Artifact) -> nn.Module:
    """Return a copy of the artifact's module; raises RefusedError where it has none."""
    if before.module is None:
        raise RefusedError(
            "this step works on a torch module, and there is none here; pass module= to compress, and quantise last"
        )
    return copy.deepcopy(before.module)


def require_same_model(module: nn.Module, golden_inputs: Arrays, golden_outputs: Arrays, *, atol: float) -> None:
    """Raise UserError unless the module gives the bundle's golden outputs."""
    answers = _answers(module, golden_inputs, list(golden_outputs))
    for name, expected in golden_outputs.items():
        if answers[name].shape != expected.shape or not np.allclose(answers[name], expected, rtol=0, atol=atol):
            raise UserError(
                f"the module does not give the bundle's golden {name} within {atol:g}; pass the module that was "
                "exported into this bundle, with its weights, pre- and post-processing"
            )


def exported(before: Artifact, module: nn.Module, *, notes: tuple[str, ...]) -> Artifact:
    """Return the artifact of the module in evaluation mode; raises ParityError where its graph differs from it."""
    import torch

    module = module.cpu().eval()
    names = [spec.name for spec in before.outputs]
    rows = {name: np.ascontiguousarray(np.repeat(array, 2, axis=0)[:8]) for name, array in before.rows.items()}
    onnx = torch_model(
        module,
        {name: torch.from_numpy(array) for name, array in rows.items()},
        output_names=names,
        dynamic=dynamic_sizes(before.inputs),
    )
    check_parity(onnx, before.rows, _answers(module, before.rows, names))
    return replace(before, onnx=onnx, module=module, notes=notes)


def weights_of(module: nn.Module) -> dict[str, Array]:
    """Return the module's parameters and buffers by name."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in module.state_dict().items()}


def with_weights(module: nn.Module, weights: Mapping[str, Array]) -> nn.Module:
    """Return a copy of the module that holds `weights`, its layers as wide as these are.

    A pruned bundle's weights fit no freshly built module: this makes them fit.
    """
    import torch
    from torch import nn

    module = copy.deepcopy(module)
    for name, array in weights.items():
        owner_name, _, leaf = name.rpartition(".")
        owner = module.get_submodule(owner_name)
        tensor = torch.from_numpy(np.array(array))
        if leaf in owner._parameters:
            setattr(owner, leaf, nn.Parameter(tensor, requires_grad=getattr(owner, leaf).requires_grad))
        else:
            owner._buffers[leaf] = tensor
    for layer in module.modules():
        _fit_sizes(layer)
    module.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})
    return module


def _fit_sizes(layer: nn.Module) -> None:
    """Set the sizes that a layer remembers to those of its weights."""
    from torch import nn

    if isinstance(layer, nn.modules.conv._ConvNd):
        width, per_group = layer.weight.shape[:2]
        if layer.groups > 1 and per_group == 1:
            layer.groups = width
        layer.out_channels, layer.in_channels = width, per_group * layer.groups
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None:
        layer.num_features = len(layer.running_mean)


def _answers(module: nn.Module, inputs: Arrays, names: list[str]) -> dict[str, Any]:
    import torch

    with torch.no_grad():
        answers = module.cpu().eval()(*(torch.from_numpy(np.array(array)) for array in inputs.values()))
    arrays = answers if isinstance(answers, tuple) else (answers,)
    return {name: array.numpy() for name, array in zip(names, arrays, strict=True)}
