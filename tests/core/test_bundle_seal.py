"""Sealing: whole or not at all, and never something that contradicts itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quatrain.core.bundle import seal as sealing
from quatrain.core.bundle.manifest import BundleError, TensorSpec
from quatrain.core.bundle.open import Bundle, open_bundle

Seal = Callable[..., Bundle]


def _leftovers(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if entry.name.startswith(".doubling")]


def test_a_sealed_bundle_opens_as_it_was_sealed(seal_doubling: Seal, doubling_onnx: bytes) -> None:
    """Model, golden arrays, weights, card and metadata come back."""
    bundle = seal_doubling(
        metrics={"test": {"ap": np.float32(0.5)}},
        intervals={"test": {"ap": (0.25, 0.75)}},
        training={"epochs": 3, "out": Path("runs")},
        data={"counts": np.arange(2)},
        decision={"threshold": np.float64(0.25)},
    )
    again = open_bundle(bundle.path)
    assert again == bundle
    assert again.onnx == doubling_onnx
    assert again.card == "# Doubles its input\n"
    assert again.manifest.metrics == {"test": {"ap": 0.5}}
    assert again.manifest.intervals == {"test": {"ap": (0.25, 0.75)}}
    assert again.manifest.training == {"epochs": 3, "out": "runs"}
    assert again.manifest.data == {"counts": [0, 1]}
    assert again.manifest.decision == {"threshold": 0.25}
    inputs, outputs = again.golden()
    assert np.array_equal(outputs["doubled"], 2 * inputs["features"])
    assert again.weights()["two"].tolist() == [2.0]
    assert again.manifest.software["onnxruntime"]


def test_a_bundle_without_weights_says_so(seal_doubling: Seal) -> None:
    """A boosted tree has no torch weights."""
    bundle = seal_doubling(weights=None)
    with pytest.raises(BundleError, match=r"holds no weights\.safetensors"):
        bundle.weights()


def test_an_existing_bundle_is_replaced_only_when_asked(seal_doubling: Seal) -> None:
    """Sealing twice to one path needs overwrite."""
    seal_doubling(card="first")
    with pytest.raises(BundleError, match="exists already"):
        seal_doubling(card="second")
    assert seal_doubling(card="third", overwrite=True).card == "third"
    assert not _leftovers(seal_doubling(card="fourth", overwrite=True).path.parent)


def test_a_folder_that_is_no_bundle_is_never_replaced(seal_doubling: Seal, tmp_path: Path) -> None:
    """Overwrite does not mean "delete my holiday pictures"."""
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "beach.jpg").write_bytes(b"")
    with pytest.raises(BundleError, match="is not a bundle folder, so it is not overwritten"):
        seal_doubling(tmp_path / "pictures", overwrite=True)
    (tmp_path / "link").symlink_to(tmp_path / "pictures")
    with pytest.raises(BundleError, match="is not a bundle folder"):
        seal_doubling(tmp_path / "link", overwrite=True)
    assert (tmp_path / "pictures" / "beach.jpg").exists()


def test_an_empty_folder_is_as_good_as_none(seal_doubling: Seal, tmp_path: Path) -> None:
    """A folder made beforehand for the bundle is filled."""
    (tmp_path / "empty").mkdir()
    assert seal_doubling(tmp_path / "empty").path == tmp_path / "empty"


def test_a_seal_that_fails_midway_leaves_nothing(
    seal_doubling: Seal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk before the rename leaves neither a bundle nor its parts."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sealing, "sync", full)
    with pytest.raises(BundleError, match=r"cannot write .*doubling.*No space left on device"):
        seal_doubling()
    assert not (tmp_path / "doubling").exists()
    assert not _leftovers(tmp_path)


def test_a_replacement_that_fails_midway_keeps_the_old_bundle(
    seal_doubling: Seal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old bundle opens until the new one is complete."""
    seal_doubling(card="old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sealing, "sync", full)
    with pytest.raises(BundleError, match="No space left on device"):
        seal_doubling(card="new", overwrite=True)
    assert open_bundle(tmp_path / "doubling").card == "old"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"golden_outputs": {"doubled": np.full((3, 2), np.nan, np.float32)}}, "golden doubled must be finite"),
        ({"golden_inputs": {"features": np.zeros((3, 2))}}, "golden features must be float32, got float64"),
        ({"golden_inputs": {"features": np.zeros((2, 2), np.float32)}}, r"golden doubled must have shape .*'batch': 2"),
        (
            {"golden_inputs": {"features": np.zeros((3, 3), np.float32)}},
            r"must have shape \('batch', 2\), got \(3, 3\)",
        ),
        ({"golden_inputs": {"features": np.zeros((0, 2), np.float32)}}, "golden features must not be empty"),
        ({"golden_inputs": {}}, r"golden arrays must be \['features'\], got \[\]"),
        (
            {"outputs": [TensorSpec(name="doubled", dtype="float32", shape=("batch", 2), low=0, high=1)]},
            r"golden doubled must lie in \[0.0, 1.0\], got 0.0 to 10.0",
        ),
        ({"metrics": {"test": {"ap": float("nan")}}}, "metrics.test.ap"),
        ({"decision": {"threshold": float("inf")}}, "finite JSON values only"),
        ({"training": {"model": object()}}, "finite JSON values only.*object"),
        ({"name": "../fraud"}, "expected a model name of the form app/model"),
        ({"parent": "latest"}, "parent"),
        ({"golden_atol": -1.0}, "golden_atol"),
    ],
)
def test_what_contradicts_itself_is_not_sealed(
    seal_doubling: Seal, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    """A caller's bug is a ValueError that names the value, and nothing is written."""
    with pytest.raises(ValueError, match=problem):
        seal_doubling(**changes)
    assert not (tmp_path / "doubling").exists()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"low": 2.0, "high": 1.0}, "low of x must not be above high"),
        ({"shape": ("batch", 3), "columns": ("a", "b")}, r"x names 2 columns, so its shape must be \(batch, 2\)"),
        ({"shape": ("batch", 0)}, "shape"),
        ({"dtype": "object"}, "dtype"),
        ({"low": float("nan")}, "low"),
    ],
)
def test_a_tensor_spec_agrees_with_itself(fields: dict[str, Any], problem: str) -> None:
    """Range, shape and columns are checked when the spec is made."""
    with pytest.raises(ValueError, match=problem):
        TensorSpec(**({"name": "x", "dtype": "float32", "shape": ("batch", 2)} | fields))


def test_tensor_names_must_differ(seal_doubling: Seal) -> None:
    """Two outputs of one name could not be told apart."""
    spec = TensorSpec(name="doubled", dtype="float32", shape=("batch", 2))
    with pytest.raises(ValueError, match="tensor names must differ, got doubled, doubled"):
        seal_doubling(outputs=[spec, spec])


def test_the_manifest_is_readable_json(seal_doubling: Seal) -> None:
    """A person can read what a bundle claims without Quatrain."""
    document = json.loads((seal_doubling().path / "manifest.json").read_text(encoding="utf-8"))
    assert document["name"] == "fintech/fraud"
    assert document["inputs"][0]["columns"] == ["amount", "hour"]
    assert document["created"].endswith("+00:00")
