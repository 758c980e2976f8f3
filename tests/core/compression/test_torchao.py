"""Modules whose weights torchao holds in few bits: rounded as by hand, really changed, and the original left alone."""

from __future__ import annotations

import copy
import sys
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import nn

from quatrain.core.compression.gate import RefusedError
from quatrain.core.compression.torchao_weights import torchao_weight_only
from quatrain.core.errors import MissingExtraError

pytestmark = pytest.mark.skipif(find_spec("torchao") is None, reason="quatrain-core[torchao] is not installed")


@pytest.fixture
def module() -> nn.Module:
    """Return two large linear layers and a small one."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 3)).eval()


@pytest.mark.parametrize(("bits", "group_size"), [(8, 128), (4, 32)])
def test_weights_are_rounded_to_so_many_levels_of_their_group(module: nn.Module, bits: Any, group_size: int) -> None:
    """At most 2^bits levels, none further than half a step from the weight, and the layer computes with these."""
    changed = torchao_weight_only(module, bits=bits, group_size=group_size)
    rounded, weights = changed[0].weight.dequantize(), module[0].weight.detach()
    for row in (0, 31, 63):
        for start in range(0, 128, group_size):
            part = slice(start, start + group_size)
            step = weights[row, part].abs().max() / (2 ** (bits - 1) - 1)
            assert (rounded[row, part] - weights[row, part]).abs().max() <= 0.5001 * step
            assert len(rounded[row, part].unique()) <= 2**bits
    x = torch.randn(16, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = nn.functional.linear(x, rounded, module[0].bias)
        torch.testing.assert_close(changed[0](x), expected, atol=1e-4, rtol=1e-4)


def test_large_layers_change_and_nothing_else_does(module: nn.Module) -> None:
    """The small head keeps its numbers, and the module that was given keeps all of them."""
    before = copy.deepcopy(module.state_dict())
    changed = torchao_weight_only(module, bits=8)
    kinds = [type(layer.weight.data).__name__ for layer in changed if isinstance(layer, nn.Linear)]
    assert kinds[0] == kinds[1] != "Tensor"
    assert kinds[2] == "Tensor"
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_a_module_without_large_layers_is_refused(module: nn.Module) -> None:
    """Torchao itself would give it back unchanged, without a word."""
    with pytest.raises(RefusedError, match="no linear layer has 100000 weights or more"):
        torchao_weight_only(module, bits=8, least_values=100_000)
    with pytest.raises(RefusedError, match="in rows of a multiple of 48"):
        torchao_weight_only(module, bits=4, group_size=48)


def test_layers_that_torchao_leaves_alone_are_refused(module: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has given back models with nothing quantised before: the layers are looked at afterwards."""
    import torchao.quantization

    monkeypatch.setattr(torchao.quantization, "quantize_", lambda *_, **__: None)
    with pytest.raises(RefusedError, match="torchao left 2 of 2 layers as they were: 0, 2"):
        torchao_weight_only(module, bits=8)


def test_without_the_extra_the_command_that_installs_it_is_said(
    module: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torchao is wanted where modules run on a GPU."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchao"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchao", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'quatrain-core\[torchao\]'"):
        torchao_weight_only(module, bits=8)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("bits", [4, 8])
def test_on_cuda_the_weights_take_the_bits_they_say(bits: Any) -> None:
    """Packed two to a byte in four bits, and close to the module in bfloat16."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 1024)).eval().cuda().bfloat16()
    x = torch.randn(16, 1024, device="cuda", dtype=torch.bfloat16)
    before = torch.cuda.memory_allocated()
    changed = torchao_weight_only(module, bits=bits)
    added = torch.cuda.memory_allocated() - before
    assert added < 2 * 1024 * 1024 * bits / 8 * 1.2
    with torch.no_grad():
        reference, answers = module(x).float(), changed(x).float()
    noise = (reference - answers).square().sum() / reference.square().sum()
    assert noise < (0.05 if bits == 4 else 0.001)
