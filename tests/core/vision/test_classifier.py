"""The baseline task: what is trained is what is sealed, and what is sealed can be compressed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from quatrain.core.errors import BadDataError
from quatrain.core.inference import load_model
from quatrain.core.training.config import FitConfig
from quatrain.core.training.seeds import seed_everything
from quatrain.core.vision import classifier
from quatrain.core.vision.augmentation import Augment, Augmentation
from quatrain.core.vision.backbone import Backbone
from quatrain.core.vision.backbones import load_backbone
from quatrain.core.vision.classifier import ClassifierConfig, LabelledImages, TrainedClassifier, train_classifier
from quatrain.core.vision.network import TrainedPart
from quatrain.core.vision.preprocess import IMAGENET, Preprocess

QUICK = FitConfig(epochs=20, batch_size=32, learning_rate=5e-3, drop_last=True, device="cpu")
ONE_EPOCH = QUICK.model_copy(update={"epochs": 1})
TINY = "tiny"


class Tiny(Backbone):
    """Two convolutions, so that training and exporting take little."""

    def __init__(self) -> None:
        super().__init__(channels=(8, 16), strides=(2, 4), n_features=16, normalisation=IMAGENET, size_hw=(16, 16))
        layers = [self.block(3, 8), self.block(8, 16)]
        self.layers = nn.ModuleList(layers)

    @staticmethod
    def block(n_in: int, n_out: int) -> nn.Module:
        """Return a convolution that halves the image."""
        conv = nn.Conv2d(n_in, n_out, 3, stride=2, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(n_out), nn.ReLU())

    def maps(self, images: torch.Tensor, stages: tuple[int, ...]) -> list[torch.Tensor]:
        """Return the maps of these stages."""
        first = self.layers[0](images)
        return [(first, self.layers[1](first))[stage] for stage in stages]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the embedding, (B, 16)."""
        return self.maps(images, (1,))[0].mean((2, 3))


@pytest.fixture(scope="module", autouse=True)
def _tiny_backbone() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            classifier,
            "load_backbone",
            lambda name, **options: Tiny() if name == TINY else load_backbone(name, **options),
        )
        yield


def digits(first: int, last: int) -> LabelledImages:
    """Return some of scikit-learn's digits, uint8 (n, 8, 8), even 0 and odd 1."""
    data = load_digits()
    return LabelledImages(np.uint8(data.images[first:last] * (255 / 16)), data.target[first:last] % 2)


def trained(path: Path, **changes: Any) -> TrainedClassifier:
    """Return a classifier of even and odd digits; keywords replace settings."""
    settings: dict[str, Any] = {
        "backbone": TINY,
        "pretrained": False,
        "augmentation": Augmentation(flip=0),
        "fit": QUICK,
    }
    return train_classifier(
        digits(0, 400),
        digits(400, 600),
        test=digits(600, 800),
        classes=("even", "odd"),
        path=path,
        name="vision/digits",
        config=ClassifierConfig(**(settings | changes)),
        about="Digits of 8 x 8 pixels.",
    )


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> TrainedClassifier:
    """Return a network trained from scratch."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("scratch")
        patch.setenv("QUATRAIN_CORE__HOME", str(folder / "home"))
        return trained(folder / "bundle")


def test_sealed_model_answers_as_the_module_does(scratch: TrainedClassifier) -> None:
    """Raw pixels go in, calibrated probabilities come out."""
    held = digits(600, 800)
    answers = load_model(scratch.bundle.path).predict(held.pixels)
    with torch.inference_mode():
        expected = scratch.module(torch.from_numpy(held.pixels)).numpy()
    np.testing.assert_allclose(answers["probability"], expected, atol=1e-4)
    np.testing.assert_allclose(answers["probability"].sum(axis=1), 1, atol=1e-5)


def test_digits_are_learned_and_measured(scratch: TrainedClassifier) -> None:
    """The manifest's figures are those of the sealed model's own answers."""
    held = digits(600, 800)
    named = load_model(scratch.bundle.path).predict(held.pixels)["probability"].argmax(axis=1)
    assert scratch.test is not None
    assert scratch.test.values["acc"] == pytest.approx((named == held.labels).mean())
    assert scratch.test.values["acc"] >= 0.85
    metrics = scratch.bundle.manifest.metrics
    assert set(metrics) == {"valid", "test"}
    assert metrics["test"] == scratch.test.values
    low, high = scratch.bundle.manifest.intervals["test"]["acc"]
    assert low <= scratch.test.values["acc"] <= high
    assert "| test | 200 |" in scratch.bundle.card
    assert "Digits of 8 x 8 pixels." in scratch.bundle.card


def test_temperature_is_fitted_and_in_the_graph(scratch: TrainedClassifier) -> None:
    """No other temperature near it gives the validation labels a smaller log loss."""
    held = digits(400, 600)
    with torch.inference_mode():
        logits = scratch.module.logits(torch.from_numpy(held.pixels))
    fitted = float(scratch.module.temperature)
    assert fitted == pytest.approx(scratch.bundle.manifest.training["temperature"])
    labels = torch.from_numpy(held.labels)
    losses = [float(nn.functional.cross_entropy(logits / (fitted * factor), labels)) for factor in (1, 0.9, 1.1)]
    assert losses[0] == min(losses)


def test_training_part_trains_the_module_it_is_given(scratch: TrainedClassifier) -> None:
    """What `compress` retrains with shares its weights with the module, and augments only in training."""
    part = scratch.training.logits(scratch.module)
    pixels = scratch.training.inputs[:4]
    part.eval()
    with torch.inference_mode():
        torch.testing.assert_close(part(pixels), scratch.module.logits(pixels))
    own = {parameter.data_ptr() for parameter in scratch.module.parameters()}
    assert {parameter.data_ptr() for parameter in part.parameters()} == own


def test_head_alone_leaves_the_backbone_as_published(tmp_path: Path) -> None:
    """How bright an image is even random features show; the one probability is that of the second class."""
    train, valid = (
        LabelledImages(part.pixels, (part.pixels.mean((1, 2)) > 78).astype(np.int64))
        for part in (digits(0, 400), digits(400, 600))
    )
    settings = ClassifierConfig(backbone=TINY, pretrained=False, tuned="head", link="sigmoid", fit=QUICK)
    path = tmp_path / "bundle"
    made = train_classifier(train, valid, classes=("dark", "bright"), path=path, name="vision/digits", config=settings)
    seed_everything(QUICK.seed)
    for name, tensor in Tiny().state_dict().items():
        torch.testing.assert_close(made.module.backbone.state_dict()[name], tensor, rtol=0, atol=0)
    assert made.valid.values["auc"] > 0.8
    answers = load_model(path).predict(valid.pixels)["probability"]
    assert answers.shape == (200,)
    assert answers[valid.labels == 1].mean() > answers[valid.labels == 0].mean()


def test_any_size_and_sixteen_bits_are_taken_where_they_were_trained(tmp_path: Path) -> None:
    """The graph resizes what comes, and a detector's depth reaches it."""
    deep = [
        LabelledImages(part.pixels.astype(np.uint16) * 257, part.labels) for part in (digits(0, 64), digits(64, 96))
    ]
    settings = ClassifierConfig(backbone=TINY, pretrained=False, any_size=True, fit=ONE_EPOCH)
    made = train_classifier(
        *deep, classes=("even", "odd"), path=tmp_path / "any", name="vision/digits", config=settings
    )
    model = load_model(made.bundle.path)
    rng = np.random.default_rng(0)
    for shape in [(1, 8, 8), (3, 40, 21)]:
        assert model.predict(rng.integers(0, 65536, shape).astype(np.uint16))["probability"].shape == (shape[0], 2)


def test_sixteen_bits_are_the_same_image() -> None:
    """White is white in either depth."""
    pixels = torch.from_numpy(digits(0, 4).pixels)
    eight, sixteen = Preprocess((16, 16), IMAGENET), Preprocess((16, 16), IMAGENET.of_16_bits())
    torch.testing.assert_close(sixteen(pixels.to(torch.int32) * 257), eight(pixels), atol=1e-4, rtol=0)


def test_one_seed_gives_one_model(tmp_path: Path, scratch: TrainedClassifier) -> None:
    """Seeding covers initial weights, order and augmentation."""
    assert trained(tmp_path / "again").bundle.onnx == scratch.bundle.onnx


@pytest.mark.parametrize(
    ("pixels", "labels", "reason"),
    [
        (np.zeros((3, 8, 8), np.uint8), np.array([0, 1, 2]), "0 to 1; row 2 has 2"),
        (np.zeros((3, 8, 8), np.uint8), np.array([0, -1, 1]), "row 1 has -1"),
        (np.zeros((3, 8, 8), np.uint8), np.array([0, 1]), r"got \(2,\) for 3"),
        (np.zeros((3, 8, 8), np.float32), np.array([0, 1, 1]), r"got float32 \(3, 8, 8\)"),
        (np.zeros((3, 3, 8, 8), np.uint8), np.array([0, 1, 1]), r"got uint8 \(3, 3, 8, 8\)"),
        (np.zeros((0, 8, 8), np.uint8), np.zeros(0, np.int64), "1 or more images"),
    ],
)
def test_images_and_labels_that_do_not_fit_are_told(
    pixels: np.ndarray, labels: np.ndarray, reason: str, tmp_path: Path
) -> None:
    """Before anything is trained, with the row."""
    with pytest.raises(BadDataError, match=reason):
        train_classifier(
            LabelledImages(pixels, labels), digits(0, 9), classes=("a", "b"), path=tmp_path / "x", name="vision/x"
        )


def test_frozen_norms_keep_their_running_values(scratch: TrainedClassifier) -> None:
    """Few images would move them far; the layers around are trained all the same."""
    part = TrainedPart(scratch.module, augmentation=None, frozen_norms=True)
    before = [layer.running_mean.clone() for layer in part.modules() if isinstance(layer, nn.BatchNorm2d)]
    part.train()
    assert part.training
    part(scratch.training.inputs[:8])
    after = [layer.running_mean for layer in part.modules() if isinstance(layer, nn.BatchNorm2d)]
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    loose = TrainedPart(scratch.module, augmentation=None, frozen_norms=False).train()
    assert any(layer.training for layer in loose.modules() if isinstance(layer, nn.BatchNorm2d))
    scratch.module.eval()


STILL = {"flip": 0, "upend": 0, "shift": 0, "rotation_degrees": 0, "zoom": 0, "brightness": 0, "contrast": 0}


@pytest.mark.parametrize(("name", "axis"), [("flip", 3), ("upend", 2)])
def test_mirrors_are_exact(name: str, axis: int) -> None:
    """A chance of 1 mirrors every image, of 0 none."""
    images = torch.rand(5, 3, 12, 20)
    for chance, expected in ((0.0, images), (1.0, images.flip(axis))):
        moved = Augment(Augmentation(**(STILL | {name: chance}))).train()(images)
        torch.testing.assert_close(moved, expected, atol=1e-4, rtol=0)


def test_a_turn_keeps_the_shapes_of_an_oblong_image() -> None:
    """A disc stays a disc: turned in pixels, not in shares of unlike sides."""
    y, x = torch.meshgrid(torch.arange(41) - 20.0, torch.arange(81) - 40.0, indexing="ij")
    disc = ((x**2 + y**2) < 12**2).float()[None, None].repeat(16, 1, 1, 1)
    torch.manual_seed(0)
    turned = Augment(Augmentation(**(STILL | {"rotation_degrees": 180.0}))).train()(disc)
    assert float((turned - disc).abs().mean()) < 0.01


def test_images_stay_as_they_are_in_evaluation() -> None:
    """Augmentation is of training alone, and draws anew for every image there."""
    images = torch.rand(1, 3, 16, 16).repeat(4, 1, 1, 1)
    augment = Augment(Augmentation())
    assert augment.eval()(images) is images
    moved = augment.train()(images)
    assert len({tuple(image.flatten().tolist()) for image in moved}) == 4
