"""Files and folders of labelled images: what is read, and what is refused with the reason."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from quatrain.core.errors import BadDataError, UsageError
from quatrain.healthcare.data.duplicates import find_duplicates
from quatrain.healthcare.data.folder import read_folder
from quatrain.healthcare.data.labelled import Part
from quatrain.healthcare.data.npz import read_npz

RNG = np.random.default_rng(0)


def pixels(*shape: int) -> np.ndarray:
    """Return random uint8 pixels."""
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, **arrays: Any) -> Path:
    """Write an .npz and return its path."""
    np.savez_compressed(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("name", "labels", "shape", "kind", "n_classes"),
    [
        ("x", [[0], [1], [1], [0]], (28, 28), "binary", 2),
        ("x", [[0], [2], [1], [0]], (64, 64, 3), "multiclass", 3),
        ("x", [[0, 1, 1], [0, 0, 0], [1, 1, 1], [0, 0, 1]], (28, 28), "multilabel", 3),
        ("retinamnist_64", [[0], [4], [1], [0]], (64, 64, 3), "ordinal", 5),
        ("pathmnist", [[0], [2], [1], [0]], (28, 28, 3), "multiclass", 9),
    ],
)
def test_kind_and_classes_come_from_name_or_labels(
    tmp_path: Path, *, name: str, labels: list[list[int]], shape: tuple[int, ...], kind: str, n_classes: int
) -> None:
    """Any set, any resolution, grey or colour; a test split alone is enough."""
    path = save(tmp_path / f"{name}.npz", test_images=pixels(4, *shape), test_labels=np.array(labels, np.uint8))
    found = read_npz(path)
    assert (found.kind, len(found.classes), list(found.parts)) == (kind, n_classes, ["test"])
    assert found.shape == shape
    assert found.part("test").labels.shape == ((4, 3) if kind == "multilabel" else (4,))


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    """Who asks for test in a file without it reads what there is."""
    path = save(tmp_path / "x.npz", train_images=pixels(4, 8, 8), train_labels=np.array([0, 1, 0, 1]))
    with pytest.raises(UsageError, match="no split 'test'; it has train"):
        read_npz(path).part("test")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": np.zeros(3)}, "holds a; expected train_images"),
        ({"train_images": np.zeros((2, 8, 8), np.uint8)}, "but no train_labels"),
        ({"train_images": np.zeros((2, 8, 8)), "train_labels": np.array([0, 1])}, "rescale them to 0..255"),
        ({"train_images": np.zeros((3, 8, 8), np.uint8), "train_labels": np.array([0, 1])}, "3 images and 2 labels"),
        ({"train_images": np.zeros((2, 8, 8), np.uint8), "train_labels": np.array([0.5, 1])}, "must be integers"),
        ({"train_images": np.zeros((2, 0, 8), np.uint8), "train_labels": np.array([0, 1])}, "without pixels"),
        ({"train_images": np.zeros((2, 8, 8), np.uint8), "train_labels": np.array([-3, 1])}, "labels 0 to 1"),
    ],
)
def test_what_is_no_set_is_refused_with_the_reason(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    """The message says what was expected and what came."""
    with pytest.raises(BadDataError, match=words):
        read_npz(save(tmp_path / "x.npz", **arrays))


def test_bombs_pickles_escapes_and_ruins_are_refused(tmp_path: Path) -> None:
    """Nothing is unpacked beyond the cap, run, or written elsewhere."""
    with pytest.raises(BadDataError, match="would unpack to"):
        read_npz(save(tmp_path / "bomb.npz", train_images=np.zeros((70000, 32, 32), np.uint8)))
    objects = np.array([{}, {}], dtype=object)
    np.savez(tmp_path / "object.npz", train_images=objects, train_labels=objects)
    with pytest.raises(BadDataError, match="of plain arrays, or is damaged"):
        read_npz(tmp_path / "object.npz")
    with zipfile.ZipFile(tmp_path / "escape.npz", "w") as archive:
        archive.writestr("../evil.npy", b"x")
    with pytest.raises(BadDataError, match="expected arrays only"):
        read_npz(tmp_path / "escape.npz")
    good = save(tmp_path / "good.npz", train_images=pixels(4, 8, 8), train_labels=np.array([0, 1, 0, 1]))
    (tmp_path / "cut.npz").write_bytes(good.read_bytes()[:200])
    with pytest.raises(BadDataError, match="is damaged"):
        read_npz(tmp_path / "cut.npz")


def test_a_folder_of_classes_keeps_patients_together(tmp_path: Path) -> None:
    """A patient's images lie in one split; an unreadable file is named and left out."""
    for label in ("normal", "pneumonia"):
        (tmp_path / label).mkdir()
        for patient in range(10):
            for view in range(2):
                Image.fromarray(pixels(20, 30)).save(tmp_path / label / f"{label[0]}{patient}_{view}.png")
    (tmp_path / "normal" / "n1_9.png").write_bytes(b"no image")
    found = read_folder(tmp_path, side=16)
    assert (found.kind, found.classes) == ("binary", ("normal", "pneumonia"))
    train, test = found.part("train"), found.part("test")
    assert len(train) + len(test) == 40
    assert not set(train.groups["patient"]) & set(test.groups["patient"])
    assert len(found.refused) == 1
    assert "n1_9.png" in found.refused[0]
    with pytest.raises(BadDataError, match="1 of 41 images cannot be read"):
        read_folder(tmp_path, side=16, max_bad_ratio=0.01)


def test_the_validation_split_is_drawn_by_class(tmp_path: Path) -> None:
    """Where a file has none, each class gives its share, and the same seed the same rows."""
    labels = np.repeat([0, 1], [80, 20])
    found = read_npz(save(tmp_path / "x.npz", train_images=pixels(100, 8, 8), train_labels=labels))
    first, again = (found.with_validation(share=0.1, seed=3) for _ in range(2))
    assert np.bincount(first.part("val").labels).tolist() == [8, 2]
    assert np.array_equal(first.part("val").images, again.part("val").images)
    assert len(first.part("train")) == 90


def test_copies_across_splits_are_found_whatever_was_done_to_them() -> None:
    """Exact, brighter, of other contrast and noisy copies are found; different pictures are not."""
    smooth = np.kron(pixels(40, 7, 7), np.ones((4, 4), np.uint8))
    copies = smooth[:4].astype(float)
    copies[1], copies[2] = copies[1] * 0.8 + 20, copies[2] * 0.6
    copies[3] += RNG.normal(0, 3, copies[3].shape)
    labels = np.zeros(40, np.int64)
    train = Part(images=smooth[:30], labels=labels[:30])
    test = Part(images=np.concatenate([copies.clip(0, 255).astype(np.uint8), smooth[30:]]), labels=labels[:14] + 1)
    found = find_duplicates({"train": train, "test": test})
    assert [(copy.row, copy.other_row) for copy in found] == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert [copy.is_exact for copy in found] == [True, False, False, False]
    assert not any(copy.has_same_label for copy in found)
