"""Small trained models of handwritten digits, sealed, and what a plan needs beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import nn

from quatrain.core import export
from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.bundle.open import Bundle
from quatrain.core.bundle.seal import seal
from quatrain.core.compression.artifact import Artifact, Step
from quatrain.core.compression.gate import Gate, Promise
from quatrain.core.compression.measures import Evaluate, accuracy, held_back
from quatrain.core.compression.plan import CompressionResult, compress
from quatrain.core.inference import open_session

Run = Callable[..., CompressionResult]


@dataclass(frozen=True)
class Digits:
    """8 x 8 digits in [0, 1]: rows to train and calibrate on, and rows that are held back."""

    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]

    @property
    def calibration(self) -> dict[str, NDArray[np.float32]]:
        """Return 64 rows of the training part."""
        return {"image": self.x_train[:64]}


class SmallCnn(nn.Module):
    """Two convolutions with batch normalisation, and a head."""

    def __init__(self) -> None:
        """Make the layers."""
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
        )
        self.head = nn.Linear(32 * 16, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits (B, 10) of images (B, 1, 8, 8)."""
        return self.head(self.features(image).flatten(1))


class WithSoftmax(nn.Module):
    """A classifier that answers probabilities."""

    def __init__(self, classifier: nn.Module) -> None:
        """Keep the classifier."""
        super().__init__()
        self.classifier = classifier

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return probabilities (B, 10)."""
        return torch.softmax(self.classifier(image), dim=1)


def train(model: nn.Module, digits: Digits, *, n_epochs: int = 4) -> None:
    """Train on the training part, enough for well above nine digits in ten."""
    torch.manual_seed(0)
    x, y = torch.from_numpy(digits.x_train), torch.from_numpy(digits.y_train)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(n_epochs):
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    model.eval()


@pytest.fixture(scope="session")
def digits() -> Digits:
    """Return the digits that come with scikit-learn, split."""
    data = load_digits()
    x = (data.images[:, None] / 16).astype(np.float32)  # (n, 1, 8, 8)
    rows = np.random.default_rng(0).permutation(len(x))
    test, known = rows[:400], rows[400:]
    return Digits(x[known], data.target[known], x[test], data.target[test])


@pytest.fixture(scope="session")
def trained_cnn(digits: Digits) -> SmallCnn:
    """Return a trained network; tests that change it copy it first."""
    torch.manual_seed(0)
    model = SmallCnn()
    train(model, digits)
    return model


@pytest.fixture(scope="session")
def cnn_onnx(trained_cnn: SmallCnn, digits: Digits) -> bytes:
    """Return the network as a graph from `image` to `probability`."""
    example = {"image": torch.from_numpy(digits.x_train[:2])}
    return export.torch_model(WithSoftmax(trained_cnn), example, output_names=["probability"])


@pytest.fixture
def seal_digits(tmp_path: Path, digits: Digits) -> Callable[..., Bundle]:
    """Return a function that seals a graph from `image` to `probability`."""

    def make(onnx: bytes, **changes: Any) -> Bundle:
        golden = {"image": digits.x_train[:32]}
        answers = open_session(onnx, threads=1).run(["probability"], golden)
        arguments: dict[str, Any] = {
            "name": "industrial/digits",
            "task": "classification",
            "onnx": onnx,
            "inputs": [TensorSpec(name="image", dtype="float32", shape=("batch", 1, 8, 8), low=0, high=1)],
            "outputs": [TensorSpec(name="probability", dtype="float32", shape=("batch", 10), low=0, high=1)],
            "golden_inputs": golden,
            "golden_outputs": {"probability": answers[0]},
            "card": "# Digits\n",
            "decision": {"threshold": 0.5},
        }
        return seal(tmp_path / "parent", **(arguments | changes))

    return make


@pytest.fixture
def bundle(seal_digits: Callable[..., Bundle], cnn_onnx: bytes) -> Bundle:
    """Return the trained network, sealed."""
    return seal_digits(cnn_onnx)


@pytest.fixture(scope="session")
def evaluate(digits: Digits) -> Evaluate:
    """Return the evaluation on the held-back digits."""
    return held_back({"image": digits.x_test}, digits.y_test, output="probability")


@pytest.fixture
def gate() -> Gate:
    """Return a gate on accuracy that asks for no speed: the models here are too small to gain any."""
    return Gate(metric=accuracy, metric_name="acc", metric_drop=0.02, min_speedup=1e-3, n_resamples=200)


@dataclass(frozen=True)
class Unchanged:
    """A step that gives back what it was given."""

    name = "unchanged"
    promise = Promise()

    def settings(self) -> dict[str, object]:
        """Return that there is nothing to set."""
        return {"step": "unchanged"}

    def apply(self, before: Artifact) -> Artifact:
        """Return the artifact itself."""
        return before

    def fallbacks(self, before: Artifact) -> Iterable[Step]:
        """Return nothing."""
        del before
        return ()


@pytest.fixture
def run(bundle: Bundle, gate: Gate, evaluate: Evaluate, tmp_path: Path) -> Run:
    """Return a function that runs a plan of these steps on the sealed network."""

    def start(*steps: Step, gate: Gate = gate, bundle: Bundle = bundle, overwrite: bool = False) -> CompressionResult:
        return compress(bundle, steps, gate=gate, evaluate=evaluate, folder=tmp_path / "plan", overwrite=overwrite)

    return start
