"""Attributions with closed forms: they add up, and a map lights up where the model looked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quatrain.core.explain.gradients import grad_cam, integrated_gradients

X = torch.tensor([[1.0, 2.0, -3.0], [0.5, -1.0, 4.0]])


def test_a_linear_models_attributions_are_its_terms() -> None:
    """Weight times distance from the baseline, exactly, whatever the number of steps."""
    weights, baseline = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1.0, 1.0, 1.0])
    found = integrated_gradients(lambda x: x @ weights, X, baseline=baseline, steps=1)
    torch.testing.assert_close(found.values, weights * (X - baseline))
    torch.testing.assert_close(found.gap, torch.zeros(2), atol=1e-6, rtol=0)


def test_a_product_is_shared_evenly() -> None:
    """x1 x2 from zero: half to each, by symmetry; two steps are exact for a quadratic."""
    found = integrated_gradients(lambda x: x[:, 0] * x[:, 1], X, steps=2)
    half = X[:, 0] * X[:, 1] / 2
    torch.testing.assert_close(found.values, torch.stack([half, half, torch.zeros(2)], 1))


def test_attributions_of_a_network_add_up_to_its_difference() -> None:
    """Completeness: the gap vanishes with the steps; an input without influence gets nothing."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2), nn.Softmax(1)).double()
    with torch.no_grad():
        network[0].weight[:, 1] = 0
    rows = torch.randn(100, 3, dtype=torch.float64)
    coarse, fine = (integrated_gradients(network, rows, target=1, steps=steps) for steps in (3, 64))
    assert fine.gap.abs().max() < 1e-9 < coarse.gap.abs().max()
    difference = network(rows)[:, 1] - network(torch.zeros(1, 3, dtype=torch.float64))[:, 1]
    torch.testing.assert_close(fine.values.sum(1), difference.detach(), atol=1e-9, rtol=0)
    assert fine.values[:, 1].abs().max() == 0


def test_pixels_and_missing_targets_are_refused() -> None:
    """A gradient needs real numbers, and one number to explain."""
    with pytest.raises(ValueError, match=r"floating point, for a gradient to exist, got torch\.uint8"):
        integrated_gradients(lambda x: x.sum(1), torch.zeros(1, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"shape \(2, 3\) need the target class"):
        integrated_gradients(lambda x: x, X)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        integrated_gradients(lambda x: x.sum(1), X, steps=0)


class Looks(nn.Module):
    """One convolution of 1x1, the mean of each channel, and one weight for each channel and class."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1, bias=False)
        self.head = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1))
            self.head.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 2.0]]))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, 2) of grey images (B, H, W)."""
        logits: Tensor = self.head(self.conv(images.float()[:, None]).mean((2, 3)))
        return logits


def test_a_map_is_the_weighted_sum_of_the_layers_channels() -> None:
    """Class 0 looks at bright pixels; class 1 at dark ones, of which there are none: its map is empty."""
    images = torch.zeros(2, 8, 8, dtype=torch.uint8)
    images[0, 2:4, 5:7], images[1, 6, 1] = 200, 100
    model = Looks()
    maps = grad_cam(model, model.conv, images, target=0)
    assert maps.shape == (2, 8, 8)
    torch.testing.assert_close(maps[0], images[0] / 200)
    torch.testing.assert_close(maps[1], images[1] / 100)
    assert grad_cam(model, model.conv, images, target=1).abs().max() == 0


def test_a_map_of_a_strided_layer_has_the_images_size() -> None:
    """And points to the right corner; frozen weights and a module in evaluation are no obstacle."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.requires_grad_(requires_grad=False).eval()
    with torch.no_grad():
        network[0].weight.abs_()
    images = torch.zeros(1, 3, 16, 12)
    images[:, :, 12:, 9:] = 1
    found = grad_cam(network, network[0], images, target=0)[0]
    assert found.shape == (16, 12)
    row, column = np.unravel_index(int(found.argmax()), (16, 12))
    assert row >= 11
    assert column >= 8


def test_a_layer_without_maps_is_refused() -> None:
    """And no hook is left on it."""
    model = Looks()
    with pytest.raises(ValueError, match=r"must give maps of shape \(B, C, h, w\) in a forward pass, got \(1, 2\)"):
        grad_cam(model, model.head, torch.zeros(1, 4, 4), target=0)
    assert not model.head._forward_hooks
