"""Multiply-accumulates against published counts and formulas, and the order in which times are taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from quatrain.core.compression.kernels import cost_of, cpu_milliseconds, median_ratio
from quatrain.core.export import finished, model_of, torch_model


def _convolution(*, n_in: int, n_out: int, kernel: int, groups: int, stride: int) -> bytes:
    """Return one convolution without bias or padding."""
    weights = np.zeros((n_out, n_in // groups, kernel, kernel), np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], group=groups, strides=[stride, stride])],
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", n_in, "height", "width"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", n_out, "h", "w_"])],
        [numpy_helper.from_array(weights, "w")],
    )
    return finished(model_of(graph))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        # 7 x 7 places of 3 x 3 x 4 products for each of 10 channels; the second is depthwise.
        ({"n_in": 4, "n_out": 10, "kernel": 3, "groups": 1, "stride": 1}, 49 * 9 * 4 * 10),
        ({"n_in": 4, "n_out": 4, "kernel": 3, "groups": 4, "stride": 1}, 49 * 9 * 4),
        ({"n_in": 4, "n_out": 10, "kernel": 1, "groups": 1, "stride": 2}, 25 * 4 * 10),
    ],
)
def test_a_convolution_multiplies_as_often_as_its_formula_says(shape: dict[str, int], expected: int) -> None:
    """Channels are not padded to the machine's vectors: ten count as ten."""
    assert cost_of(_convolution(**shape), {"x": np.zeros((3, 4, 9, 9), np.float32)}).macs == expected


@pytest.mark.slow
def test_resnet_18_has_its_published_cost() -> None:
    """1.82 thousand million at 224 pixels (torchvision's table of models: 1.81 GFLOPS by this count)."""
    from quatrain.core.vision.resnet import ResNet

    x = torch.zeros(2, 3, 224, 224)
    onnx = torch_model(nn.Sequential(ResNet("resnet18"), nn.Linear(512, 1000)), {"image": x}, output_names=["logits"])
    assert cost_of(onnx, {"image": x.numpy()}).macs == pytest.approx(1.82e9, rel=0.005)


def test_attention_counts_its_products_of_activations() -> None:
    """Scores and mixtures of 5 tokens of 8 numbers, beside 4 projections of 8 by 8."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            query, key, value = (part(x) for part in self.parts[:3])
            return self.parts[3](torch.softmax(query @ key.transpose(1, 2), dim=-1) @ value)

    onnx = torch_model(Attention(), {"x": torch.zeros(2, 5, 8)}, output_names=["y"])
    assert cost_of(onnx, {"x": np.zeros((1, 5, 8), np.float32)}).macs == 4 * 5 * 8 * 8 + 2 * 5 * 5 * 8


def test_sessions_take_turns_and_are_compared_within_a_round() -> None:
    """Each round asks every session, in one order, so that a busy minute weighs on all alike."""
    asked: list[str] = []

    class Named:
        """A session that notes that it was asked."""

        def __init__(self, name: str) -> None:
            self.name = name

        def run(self, names: None, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
            del names, inputs
            if asked[-1:] != [self.name]:
                asked.append(self.name)
            return []

    times = cpu_milliseconds({"a": Named("a"), "b": Named("b")}, {}, rounds=5)
    assert [len(rounds) for rounds in times.values()] == [5, 5]
    assert asked == ["a", "b"] * 6  # once to see how many calls a figure needs, then five rounds


def test_a_ratio_is_the_median_over_rounds() -> None:
    """One disturbed round does not count."""
    assert median_ratio([2, 8, 300], [1, 2, 3]) == 4
