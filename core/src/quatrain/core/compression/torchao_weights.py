"""Weights of a torch module in eight or four bits, for backends that run the module rather than its graph."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal

from quatrain.core.compression.gate import RefusedError
from quatrain.core.errors import require

if TYPE_CHECKING:
    from torch import nn

_EXTRA = "quatrain-core[torchao]"
# Smaller layers wait for nothing: unpacking would cost more than it saves.
_LEAST_VALUES = 4096


def torchao_weight_only(
    module: nn.Module, *, bits: Literal[4, 8], group_size: int = 32, least_values: int = _LEAST_VALUES
) -> nn.Module:
    """Return a copy in evaluation mode whose large linear layers hold `bits`-bit weights; activations stay as they are.

    Eight bits have one scale for each output, four bits one for `group_size` weights. On CUDA four
    bits are packed two to a byte and the layers must be bfloat16; elsewhere each takes a byte.
    Nothing is sealed: a bundle keeps its graph, and a backend applies this after loading. Raises
    RefusedError where a layer that was asked for did not change, or there is none.
    """
    require("torchao", package=_EXTRA)
    ao = require("torchao.quantization", package=_EXTRA)
    from torch import nn

    changed = copy.deepcopy(module).eval()
    asked = [
        name
        for name, layer in changed.named_modules()
        if isinstance(layer, nn.Linear) and layer.weight.numel() >= least_values and _fits(layer, bits, group_size)
    ]
    if not asked:
        raise RefusedError(
            f"there is nothing to store in {bits} bits: no linear layer has {least_values} weights or more"
            + (f" in rows of a multiple of {group_size}" if bits == 4 else "")  # noqa: PLR2004 - four bits go in groups
        )
    before = {name: type(changed.get_submodule(name).weight.data) for name in asked}
    wanted = frozenset(asked)
    ao.quantize_(changed, _config(ao, changed, bits, group_size), filter_fn=lambda _, name: name in wanted)
    same = [name for name in asked if type(changed.get_submodule(name).weight.data) is before[name]]
    if same:
        raise RefusedError(f"torchao left {len(same)} of {len(asked)} layers as they were: {', '.join(same)}")
    return changed


def _fits(layer: nn.Linear, bits: int, group_size: int) -> bool:
    return bits == 8 or layer.in_features % group_size == 0  # noqa: PLR2004 - eight bits have one scale a row


def _config(ao: Any, module: nn.Module, bits: int, group_size: int) -> Any:
    import torch

    if bits == 8:  # noqa: PLR2004 - see above
        return ao.Int8WeightOnlyConfig(set_inductor_config=False)
    if next(module.parameters()).device.type == "cuda":
        return ao.Int4WeightOnlyConfig(
            group_size=group_size, int4_packing_format="tile_packed_to_4d", set_inductor_config=False
        )
    four_bits = torch.int4  # type: ignore[attr-defined]  # torch's stubs know the larger ones only
    return ao.IntxWeightOnlyConfig(weight_dtype=four_bits, granularity=ao.PerGroup(group_size))
