"""Training: a sealed graph that answers as the torch module, any kind of label, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.healthcare.conftest import Trained, blobs, small_config, write_blobs

from quatrain.core.errors import BadDataError, UsageError
from quatrain.core.inference import load_model
from quatrain.healthcare.decision import Decision
from quatrain.healthcare.models.augment import RadiographAugment
from quatrain.healthcare.models.losses import balance_weights, loss_of
from quatrain.healthcare.models.settings import MOVED, Intensity
from quatrain.healthcare.train.run import train
from quatrain.healthcare.train.sealing import golden_images


def test_the_sealed_model_learned_and_answers(trained: Trained) -> None:
    """On its own site it finds the spots; the manifest says what it is and that it is no doctor."""
    rows = {row.split: row for row in trained.result.rows}
    assert rows["val"].metrics["auc"] > 0.9
    assert rows["val"].metrics["coverage_0"] >= 0.88
    assert rows["val"].metrics["coverage_1"] >= 0.88
    low, high = rows["val"].intervals["auc"]
    assert low <= rows["val"].metrics["auc"] <= high
    model = load_model(trained.bundle)
    assert model.manifest.decision["note"] == "Not for diagnosis"
    assert "Not for diagnosis" in trained.result.bundle.card
    answers = model.predict(blobs(3, seed=9)[0])
    assert answers["probability"].shape == (3, 1)
    assert answers["embedding"].shape[0] == 3


def test_no_patient_is_in_the_bundle(trained: Trained) -> None:
    """Golden images are blends with noise: none is near a training or validation image."""
    golden = load_and_flatten(trained.result.bundle.golden()[0]["pixels"])
    real = load_and_flatten(np.concatenate([np.load(trained.data)[f"{split}_images"] for split in ("train", "val")]))
    nearest = np.abs(golden[:, None] - real).mean(2).min()
    among_real = np.sort(np.abs(real[:50, None] - real).mean(2), axis=1)[:, 1].mean()
    assert nearest > among_real
    assert np.array_equal(
        golden_images(np.load(trained.data)["val_images"]), golden_images(np.load(trained.data)["val_images"])
    )


def load_and_flatten(images: np.ndarray) -> np.ndarray:
    """Return rows of floats."""
    return images.reshape(len(images), -1).astype(float)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "shape", "n_classes"),
    [("multiclass", (16, 16, 3), 3), ("ordinal", (16, 16), 4), ("multilabel", (16, 16), 3)],
)
def test_every_kind_of_label_trains(tmp_path: Path, kind: str, shape: tuple[int, ...], n_classes: int) -> None:
    """Grey or colour, one class of many, grades, or several findings; without a validation split one is drawn."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (300, n_classes)) if kind == "multilabel" else rng.integers(0, n_classes, 300)
    bright = labels @ (np.arange(n_classes) + 1) if kind == "multilabel" else labels
    images = rng.normal(90, 20, (300, *shape))
    images[:, 4:10, 4:10] += 25.0 * bright.reshape(-1, *[1] * len(shape))
    arrays = {"images": images.clip(0, 255).astype(np.uint8), "labels": labels.astype(np.uint8)}
    parts = {f"{split}_{name}": value[rows] for name, value in arrays.items() for split, rows in SPLITS.items()}
    np.savez(tmp_path / "x.npz", **parts)
    result = train(small_config(tmp_path / "x.npz", kind=kind, out=tmp_path / "bundle"))
    test = next(row for row in result.rows if row.split == "test")
    assert test.metrics["auc"] > 0.6
    assert {"acc", "ece", "abstained"} <= set(test.metrics)
    assert ("kappa" in test.metrics) == (kind == "ordinal")
    decision = Decision.from_json(result.bundle.manifest.decision)
    assert len(decision.floors) == (n_classes if kind == "multilabel" else 1)


SPLITS = {"train": slice(0, 200), "test": slice(200, 300)}


def test_one_class_and_a_taken_path_are_refused(tmp_path: Path) -> None:
    """Before any training."""
    images, _ = blobs(20, seed=0)
    np.savez(tmp_path / "one.npz", train_images=images, train_labels=np.zeros(20, np.uint8))
    with pytest.raises(BadDataError, match="every training image is of one class"):
        train(small_config(tmp_path / "one.npz"))
    with pytest.raises(UsageError, match="exists already"):
        train(small_config(write_blobs(tmp_path / "b.npz"), out=tmp_path))


def test_augmentation_only_happens_in_training_and_keeps_the_range() -> None:
    """In evaluation images pass as they are; in training they differ, between 0 and 1, and are never mirrored."""
    torch.manual_seed(0)
    augment = RadiographAugment(MOVED, Intensity(cover=1.0))
    images = torch.zeros(64, 1, 20, 20)
    images[..., :6] = 1.0  # bright at the left
    assert torch.equal(augment.eval()(images), images)
    shown = augment.train()(images)
    assert float(shown.min()) >= 0
    assert float(shown.max()) <= 1
    left, right = shown[..., :10].mean((1, 2, 3)), shown[..., 10:].mean((1, 2, 3))
    assert float((left > right).float().mean()) > 0.95


def test_losses_ignore_what_is_unknown_and_prefer_near_grades() -> None:
    """-1 counts for nothing; a neighbouring grade costs less than a far one."""
    loss = loss_of("multilabel", smoothing=0.0)
    logits = torch.tensor([[2.0, -50.0], [2.0, 50.0]])
    known = loss(logits, torch.tensor([[1, -1], [1, -1]]))
    assert float(known[0]) == pytest.approx(float(known[1])) == pytest.approx(0.1269, abs=1e-4)
    grades = loss_of("ordinal", smoothing=0.0)
    near, far = grades(torch.tensor([[0.0, 5.0, 0.0, 0.0], [0.0, 0.0, 0.0, 5.0]]), torch.tensor([0, 0]))
    assert float(near) < float(far)
    weights = balance_weights("binary", np.array([0, 1, 1, 1]))
    assert weights is not None
    assert weights.tolist() == pytest.approx([2.0, 2 / 3, 2 / 3, 2 / 3])
