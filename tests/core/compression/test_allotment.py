"""Widths by sensitivity: work counted as ONNX Runtime counts it, and what uneven pruning saves."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.compression.allotment import Curve, Group, Work, allot, groups_of, rounded, work_of
from quatrain.core.compression.artifact import Artifact
from quatrain.core.compression.kernels import cost_of
from quatrain.core.compression.prune import Prune
from quatrain.core.compression.retraining import TrainingRows
from quatrain.core.export import torch_model
from quatrain.core.training.config import FitConfig


def test_a_residual_sum_is_one_group_and_norms_without_weights_are_passed_over() -> None:
    """What is added must be equally wide; every other layer is a group of its own."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(1, 16, 3, padding=1)
            self.norm = nn.BatchNorm2d(16, affine=False)
            self.inner = nn.Conv2d(16, 24, 3, padding=1)
            self.outer = nn.Conv2d(24, 16, 3, padding=1)
            self.head = nn.Linear(16, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.norm(self.stem(x))
            return self.head((x + self.outer(torch.relu(self.inner(x)))).mean((2, 3)))

    groups = groups_of(Residual(), (torch.zeros(2, 1, 6, 6),), ("head",))
    assert sorted(sorted(group.names) for group in groups) == [["inner"], ["outer", "stem"]]


@pytest.mark.parametrize("widths", [(16, 8), (4, 12)])
def test_the_work_of_narrower_groups_is_what_runs_in_the_narrower_network(widths: tuple[int, int]) -> None:
    """Depthwise layers shrink once, flattened maps as much as their channels: against a network built that wide."""

    def build(first: int, second: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, first, 3),
            nn.Conv2d(first, first, 3, groups=first),
            nn.ReLU(),
            nn.Conv2d(first, second, 1),
            nn.Flatten(),
            nn.Linear(second * 16, 5),
        )

    example = (torch.zeros(2, 1, 8, 8),)
    wide = build(16, 24)
    groups = sorted(groups_of(wide, example, ("5",)), key=lambda group: group.width)
    assert [group.width for group in groups] == [16, 24]
    expected = cost_of(
        torch_model(build(*widths), {"x": example[0]}, output_names=["y"]), {"x": np.zeros((1, 1, 8, 8), np.float32)}
    )
    assert work_of(wide, example, groups).at(widths) == pytest.approx(expected.macs)


def test_channels_that_cost_nothing_go_before_those_that_do() -> None:
    """Two groups of like work, one of which the loss does not miss down to a quarter."""
    groups = [Group(["a"], 32), Group(["b"], 32)]
    work = Work(groups, {"a": 1000.0, "b": 1000.0}, frozenset())
    needed = Curve([32, 24, 16, 8], [0, 1, 2, 3])
    spare = Curve([32, 24, 16, 8], [0, 0, 0, 5])
    assert allot(work, [needed, spare], target=1500, round_to=8) == [32, 16]
    assert allot(work, [spare, needed], target=1500, round_to=8) == [16, 32]
    assert allot(work, [needed, spare], target=1000, round_to=8) == [16, 16]
    assert allot(work, [needed, spare], target=0, round_to=8) == [8, 8]


def test_widths_are_multiples_between_one_and_all() -> None:
    """The nearest, as kernels like them."""
    assert [rounded(20, kept, 8) for kept in (1.0, 0.9, 0.5, 0.1)] == [20, 16, 8, 8]


class Vote(nn.Module):
    """A hidden layer that needs all its channels, and a wider one all of whose channels say the same."""

    def __init__(self, n: int) -> None:
        """Make the layers: `n` inputs, one unit each for its sign, then sums that all say the same."""
        super().__init__()
        self.first, self.second, self.head = nn.Linear(n, 2 * n), nn.Linear(2 * n, 8 * n), nn.Linear(8 * n, 2)
        rng = np.random.default_rng(0)
        weights = torch.from_numpy(rng.choice([-1.0, 1.0], n).astype(np.float32))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            self.first.weight[:n] = torch.eye(n)
            self.first.weight[n:] = -torch.eye(n)
            # relu(x) - relu(-x) is x: every pair of units carries the vote, up to its own scale.
            for unit in range(8 * n):
                sign = 1.0 if unit % 2 else -1.0
                self.second.weight[unit, :n] = sign * weights
                self.second.weight[unit, n:] = -sign * weights
                self.head.weight[1, unit] = 0.1 * sign
                self.head.weight[0, unit] = -0.1 * sign

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (B, 2)."""
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))))


@pytest.fixture(scope="module")
def pruned() -> Callable[..., tuple[float, float]]:
    """Return a function that prunes the network without mending it: accuracy and work that are left."""
    n = 32
    x = torch.randn(1000, n, generator=torch.Generator().manual_seed(0))
    network = Vote(n)
    with torch.no_grad():
        labels = network(x).argmax(1)
    # A learning rate of all but nothing: what is measured is the pruning.
    config = FitConfig(epochs=1, batch_size=500, learning_rate=1e-12, weight_decay=0, device="cpu")
    step = Prune(ratio=0.5, training=TrainingRows(inputs=x, targets=labels, config=config), keep=("head",))

    def prune(**changes: object) -> tuple[float, float]:
        spec = TensorSpec(name="x", dtype="float32", shape=("batch", n))
        given = Artifact(b"", (spec,), (TensorSpec(name="y", dtype="float32", shape=("batch", 2)),),
                         {"x": x[:8].numpy()}, copy.deepcopy(network))  # fmt: skip
        after = replace(step, **changes).apply(given)
        assert after.module is not None
        with torch.no_grad():
            right = (after.module(x).argmax(1) == labels).float().mean().item()
        return right, cost_of(after.onnx, {"x": x[:1].numpy()}).macs

    return prune


def test_sensitivity_beats_uniform_pruning_where_one_layer_matters(
    pruned: Callable[..., tuple[float, float]],
) -> None:
    """At no more work, the layer whose channels all matter is spared; its opposite as score is worse than either."""
    uniform, work = pruned()
    spared, spared_work = pruned(by_sensitivity=True)
    assert spared_work <= work
    assert spared == 1.0
    assert uniform < 0.9

    def reverse(module: nn.Module) -> float:
        return float(module.get_submodule("second").weight.shape[0])

    backwards, backwards_work = pruned(score=reverse)
    assert backwards_work <= work
    assert backwards <= uniform + 0.02
