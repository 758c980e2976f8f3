"""Backbones: published weights give published answers, and every one of them goes into a graph."""

from __future__ import annotations

import copy
import importlib.util
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image
from torch import nn
from torch.nn import functional

from quatrain.core.errors import MissingExtraError, UsageError, UserError
from quatrain.core.export import torch_model
from quatrain.core.inference import open_session
from quatrain.core.vision import efficientnet
from quatrain.core.vision.backbones import NAMES, imagenet_head, load_backbone, load_in_order

# ImageNet's classes (ILSVRC 2012, in the order of their WordNet numbers).
PALACE, DAISY = 698, 985
# Parameters of the whole networks with a layer for 1000 classes, as published (million).
PARAMETERS = {
    "efficientnet_lite0": 4.652,
    "efficientnet_lite1": 5.417,
    "efficientnet_lite2": 6.092,
    "resnet18": 11.690,
    "resnet50": 25.557,
}


def middle_square(name: str) -> torch.Tensor:
    """Return the middle of a photograph that comes with scikit-learn, uint8 (1, side, side, 3)."""
    photo = load_sample_image(name)
    height, width, _ = photo.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return torch.from_numpy(photo[top : top + side, left : left + side].copy())[None]


@pytest.mark.parametrize(
    ("name", "file", "expected"),
    [
        ("efficientnet_lite0", "china.jpg", PALACE),
        ("efficientnet_lite0", "flower.jpg", DAISY),
        ("efficientnet_lite1", "china.jpg", PALACE),
        ("efficientnet_lite1", "flower.jpg", DAISY),
        ("efficientnet_lite2", "china.jpg", PALACE),
    ],
)
def test_published_weights_name_a_photograph(name: str, file: str, expected: int) -> None:
    """With other padding or normalisation the answer moves; the class is what the picture shows."""
    backbone = load_backbone(name)
    with torch.inference_mode():
        logits = imagenet_head(name)(backbone(backbone.preprocess()(middle_square(file))))
    assert int(logits.argmax()) == expected


@pytest.mark.parametrize("name", NAMES)
def test_networks_are_as_large_as_published(name: str) -> None:
    """Parameters are counted with the layer for 1000 classes, to a thousand."""
    backbone = load_backbone(name, pretrained=False)
    n_parameters = sum(parameter.numel() for parameter in backbone.parameters()) + 1000 * (backbone.n_features + 1)
    assert n_parameters / 1e6 == pytest.approx(PARAMETERS[name], abs=0.001)


@pytest.mark.parametrize("name", NAMES)
def test_maps_have_the_sizes_that_are_said(name: str) -> None:
    """`channels` and `strides` are what a caller plans with."""
    backbone = load_backbone(name, pretrained=False)
    with torch.inference_mode():
        maps = backbone.features(torch.zeros(1, 3, 96, 64))
    expected = [
        (1, n, 96 // stride, 64 // stride) for n, stride in zip(backbone.channels, backbone.strides, strict=True)
    ]
    assert [tuple(found.shape) for found in maps] == expected


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18", "resnet50"])
def test_chosen_stages_are_those_of_all(name: str) -> None:
    """Asking for fewer stages changes none of them."""
    torch.manual_seed(0)
    backbone = load_backbone(name, pretrained=False)
    images = torch.randn(2, 3, 65, 70)
    with torch.inference_mode():
        every = backbone.features(images)
        for stages in [(0,), (1, 3), (2,), (4,)]:
            for stage, found in zip(stages, backbone.features(images, stages), strict=True):
                torch.testing.assert_close(found, every[stage])


def test_what_comes_after_the_last_stage_is_not_computed() -> None:
    """A layer that would fail is never reached."""
    backbone = load_backbone("efficientnet_lite0", pretrained=False)
    backbone.blocks[3] = nn.Linear(1, 1)
    with torch.inference_mode():
        assert len(backbone.features(torch.zeros(1, 3, 64, 64), (1, 2))) == 2


@pytest.mark.parametrize("stages", [(), (2, 1), (1, 1), (-1,), (5,)])
def test_stages_that_are_not_there_are_told(stages: tuple[int, ...]) -> None:
    """Stages rise and exist."""
    with pytest.raises(ValueError, match="stages must rise from 0 to 4"):
        load_backbone("resnet18", pretrained=False).features(torch.zeros(1, 3, 32, 32), stages)


@pytest.mark.parametrize("size", [7, 8, 9, 13])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_convolutions_pad_as_tensorflow_does(size: int, kernel: int, stride: int) -> None:
    """The oracle pads by TensorFlow's own rule, pixel by pixel."""
    conv = efficientnet._SameConv(2, 3, kernel, stride=stride)
    images = torch.randn(1, 2, size, size)
    # TensorFlow's guide: out = ceil(in / stride), and of an odd number of added pixels the far side has one more.
    n_out = -(-size // stride)
    added = max((n_out - 1) * stride + kernel - size, 0)
    padded = torch.zeros(1, 2, size + added, size + added)
    padded[:, :, added // 2 : added // 2 + size, added // 2 : added // 2 + size] = images
    expected = functional.conv2d(padded, conv.weight, stride=stride)
    assert expected.shape[2] == n_out
    torch.testing.assert_close(conv(images), expected)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18"])
def test_pixels_to_embedding_is_one_graph(name: str) -> None:
    """ONNX Runtime gives the module's embedding of images of another size than the example's."""
    torch.manual_seed(0)
    backbone = load_backbone(name, pretrained=name != "resnet18")
    model = nn.Sequential(backbone.preprocess((64, 64)), backbone)
    dynamic = {"pixels": {1: "height", 2: "width"}}
    example = {"pixels": torch.zeros(2, 40, 50, 3, dtype=torch.uint8)}
    graph = torch_model(model, example, output_names=["embedding"], dynamic=dynamic)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 90, 70, 3)).astype(np.uint8)
    (actual,) = open_session(graph).run(None, {"pixels": pixels})
    with torch.inference_mode():
        expected = model(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-3)


def test_weights_of_another_network_are_refused() -> None:
    """Order decides nothing unless every shape agrees."""
    weights = load_backbone("resnet18", pretrained=False).state_dict()
    with pytest.raises(UserError, match="expected 318 tensors in order, got 120; number 6 is"):
        load_in_order(load_backbone("resnet50", pretrained=False), weights)


def test_a_name_that_nobody_knows_is_told() -> None:
    """The nearest name is offered."""
    with pytest.raises(UsageError, match="did you mean 'resnet18'"):
        load_backbone("resnet-18")


def test_weights_that_no_package_holds_are_told() -> None:
    """A random network is never passed off as a trained one."""
    with pytest.raises(UserError, match="take pretrained=False"):
        load_backbone("resnet18")


class FromTimm(nn.Module):
    """A model as timm gives it."""

    feature_info = ({"num_chs": 4, "reduction": 2}, {"num_chs": 6, "reduction": 4})
    num_features = 6
    head_hidden_size = 6

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 2, stride=2), nn.Conv2d(4, 6, 2, stride=2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the embedding."""
        return self.second(self.first(images)).mean((2, 3))

    def forward_intermediates(
        self, images: torch.Tensor, *, indices: list[int], intermediates_only: bool
    ) -> list[torch.Tensor]:
        """Return maps by stage."""
        assert intermediates_only
        maps = [self.first(images), self.second(self.first(images))]
        return [maps[index] for index in indices]


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return a stand-in for timm, with one model of which there are no weights here."""

    def create_model(name: str, *, pretrained: bool, num_classes: int) -> nn.Module:
        assert num_classes == 0
        if pretrained:
            raise OSError("no network")
        return nn.Linear(1, 1) if name == "old" else FromTimm()

    package, data = ModuleType("timm"), ModuleType("timm.data")
    package.is_model = lambda name: name in {"small", "old"}
    package.create_model = create_model
    data.resolve_model_data_config = lambda _: {
        "mean": (0.5, 0.25, 0.2),
        "std": (0.5, 0.5, 0.1),
        "input_size": (3, 32, 48),
    }
    monkeypatch.setitem(sys.modules, "timm", package)
    monkeypatch.setitem(sys.modules, "timm.data", data)
    return package


@pytest.mark.usefixtures("timm")
def test_timm_models_stand_behind_the_same_names() -> None:
    """Sizes, normalisation, embedding and maps are those of the model."""
    backbone = load_backbone("timm:small", pretrained=False)
    assert (backbone.channels, backbone.strides, backbone.n_features) == ((4, 6), (2, 4), 6)
    assert backbone.size_hw == (32, 48)
    assert backbone.normalisation.mean == pytest.approx((127.5, 63.75, 51.0))
    images = torch.rand(2, 3, 32, 48)
    with torch.inference_mode():
        assert [tuple(found.shape) for found in backbone.features(images)] == [(2, 4, 16, 24), (2, 6, 8, 12)]
        assert tuple(backbone(images).shape) == (2, 6)
        torch.testing.assert_close(copy.deepcopy(backbone)(images), backbone(images))


@pytest.mark.usefixtures("timm")
def test_timm_models_that_are_not_there_are_told() -> None:
    """No such model, no weights, no maps."""
    with pytest.raises(UsageError, match="timm has no model called 'none'"):
        load_backbone("timm:none")
    with pytest.raises(UserError, match="timm gave no weights of small: no network; take pretrained=False"):
        load_backbone("timm:small")
    with pytest.raises(UserError, match="no maps by stage of old"):
        load_backbone("timm:old", pretrained=False)


@pytest.mark.skipif(importlib.util.find_spec("timm") is not None, reason="timm is installed")
def test_timm_says_how_to_install_it() -> None:
    """The message is the command."""
    with pytest.raises(MissingExtraError, match="pip install 'timm'"):
        load_backbone("timm:vit_small_patch14_dinov2")
