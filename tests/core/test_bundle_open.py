"""Opening: any byte that is not the one that was sealed, and any file too many or too few, is refused."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quatrain.core.bundle.manifest import BundleError
from quatrain.core.bundle.open import Bundle, open_bundle
from quatrain.core.config import settings
from quatrain.core.trust import signing

Seal = Callable[..., Bundle]

_SEALED = ["model.onnx", "golden.npz", "CARD.md", "weights.safetensors"]


def _reseal(folder: Path, **changes: Any) -> None:
    """Sign the manifest again with this machine's key, after changing keys of it."""
    file = folder / "manifest.json"
    document = json.loads(file.read_bytes()) | changes
    file.write_text(json.dumps(document), encoding="utf-8")
    _sign(folder)


def _sign(folder: Path) -> None:
    content = (folder / "manifest.json").read_bytes()
    (folder / "signature.json").write_bytes(signing.sign(content, keys_dir=settings().keys_dir))


def _flip(file: Path, offset: int) -> None:
    content = bytearray(file.read_bytes())
    content[offset] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", _SEALED)
def test_a_flipped_byte_is_refused(seal_doubling: Seal, name: str) -> None:
    """The message names the file, both digests and the way out."""
    folder = seal_doubling().path
    _flip(folder / name, 7)
    with pytest.raises(BundleError, match=rf"{name} in .*expected sha256 .*, got .*; copy the bundle again"):
        open_bundle(folder)


def test_a_flipped_byte_in_the_manifest_is_refused(seal_doubling: Seal) -> None:
    """No byte of the manifest may differ from what was signed."""
    folder = seal_doubling().path
    for offset in range(0, (folder / "manifest.json").stat().st_size, 97):
        _flip(folder / "manifest.json", offset)
        with pytest.raises(BundleError, match="the signature does not hold"):
            open_bundle(folder)
        _flip(folder / "manifest.json", offset)


def test_a_flipped_byte_in_the_signature_is_refused(seal_doubling: Seal) -> None:
    """No byte of the signature may differ either."""
    folder = seal_doubling().path
    for offset in range((folder / "signature.json").stat().st_size - 1):
        _flip(folder / "signature.json", offset)
        with pytest.raises(BundleError, match="signature"):
            open_bundle(folder)
        _flip(folder / "signature.json", offset)


@pytest.mark.parametrize("name", _SEALED)
def test_a_cut_file_is_refused(seal_doubling: Seal, name: str) -> None:
    """A copy that stopped early is told by its size."""
    folder = seal_doubling().path
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1])
    with pytest.raises(BundleError, match=rf"{name} in .*(expected {len(content)} bytes, got|expected sha256)"):
        open_bundle(folder)


@pytest.mark.parametrize("name", ["manifest.json", "signature.json", *_SEALED])
def test_a_missing_file_is_named(seal_doubling: Seal, name: str) -> None:
    """The message names what is missing."""
    folder = seal_doubling().path
    (folder / name).unlink()
    with pytest.raises(BundleError, match=rf"{name} is missing"):
        open_bundle(folder)


def test_a_file_from_another_bundle_is_refused(seal_doubling: Seal, tmp_path: Path) -> None:
    """Two valid bundles do not mix."""
    folder = seal_doubling().path
    other = seal_doubling(tmp_path / "other", card="# Doubles the input\n").path
    shutil.copy(other / "CARD.md", folder / "CARD.md")
    with pytest.raises(BundleError, match=r"CARD\.md in .* is not the file that was sealed"):
        open_bundle(folder)


def test_a_signature_from_another_bundle_is_refused(seal_doubling: Seal, tmp_path: Path) -> None:
    """A signature holds for one manifest only."""
    folder = seal_doubling().path
    other = seal_doubling(tmp_path / "other", card="# Other\n").path
    shutil.copy(other / "signature.json", folder / "signature.json")
    with pytest.raises(BundleError, match="the signature does not hold"):
        open_bundle(folder)


@pytest.mark.parametrize("name", ["payload.pkl", ".DS_Store", "model.onnx.data"])
def test_an_added_file_is_refused(seal_doubling: Seal, name: str) -> None:
    """Nothing lies in a bundle that the manifest does not vouch for."""
    folder = seal_doubling().path
    (folder / name).write_bytes(b"hello")
    with pytest.raises(BundleError, match=rf"holds '{name}', which is not part of a bundle.*remove it"):
        open_bundle(folder)


def test_weights_that_the_manifest_does_not_list_are_refused(seal_doubling: Seal) -> None:
    """A known name is not enough."""
    folder = seal_doubling(weights=None).path
    (folder / "weights.safetensors").write_bytes(b"hello")
    with pytest.raises(BundleError, match=r"holds weights\.safetensors, which its manifest does not list; remove it"):
        open_bundle(folder)


def test_a_link_is_refused_even_to_the_same_bytes(seal_doubling: Seal, tmp_path: Path) -> None:
    """What a link points to can change after it was checked."""
    folder = seal_doubling().path
    (folder / "model.onnx").rename(tmp_path / "model.onnx")
    (folder / "model.onnx").symlink_to(tmp_path / "model.onnx")
    with pytest.raises(BundleError, match=r"model\.onnx in .* is a link; expected a plain file"):
        open_bundle(folder)


@pytest.mark.parametrize(("make", "kind"), [(Path.mkdir, "folder"), (os.mkfifo, "special file")])
def test_only_plain_files_are_read(seal_doubling: Seal, make: Callable[[Path], None], kind: str) -> None:
    """A pipe does not hang the reader."""
    folder = seal_doubling().path
    (folder / "CARD.md").unlink()
    make(folder / "CARD.md")
    with pytest.raises(BundleError, match=rf"CARD\.md in .* is a {kind}; expected a plain file"):
        open_bundle(folder)


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "sub/model.onnx", "model.onnx.data", ""])
def test_a_path_in_the_manifest_is_refused(seal_doubling: Seal, name: str) -> None:
    """Even a properly signed manifest cannot point out of its folder."""
    folder = seal_doubling().path
    files = json.loads((folder / "manifest.json").read_bytes())["files"]
    _reseal(folder, files=files | {name: {"sha256": "0" * 64, "size": 1}})
    with pytest.raises(BundleError, match=rf"files lists '{name}'; a bundle holds only model\.onnx"):
        open_bundle(folder)


def test_external_data_is_refused_under_a_valid_signature(seal_doubling: Seal) -> None:
    """Signing does not make a reference to another file safe."""
    from onnx import ModelProto, TensorProto

    folder = seal_doubling().path
    model = ModelProto.FromString((folder / "model.onnx").read_bytes())
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    content = model.SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    files = json.loads((folder / "manifest.json").read_bytes())["files"]
    files["model.onnx"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    _reseal(folder, files=files)
    with pytest.raises(BundleError, match=r"model\.onnx in .* keeps the data of tensor 'two' in another file"):
        open_bundle(folder)


def test_sealing_refuses_external_data(seal_doubling: Seal) -> None:
    """An export that wrote a second file is caught before it is signed."""
    from onnx import ModelProto, TensorProto

    model = ModelProto()
    model.graph.initializer.add(name="w", data_location=TensorProto.EXTERNAL)
    with pytest.raises(BundleError, match=r"tensor 'w' in another file.*external_data=False"):
        seal_doubling(onnx=model.SerializeToString())


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff\xfe", "manifest.json in .* is not JSON"),
        (b"{", "manifest.json in .* is not JSON"),
        (b"[" * 100_000, "manifest.json in .* is not JSON"),
        (b"[1]", "must be a JSON object, got list"),
        (b"{}", "has schema version None; this Quatrain reads version 1"),
        (b'{"schema_version": 2}', "schema version 2.*install the Quatrain that sealed it"),
        (b'{"schema_version": 1, "name": "fintech/fraud"}', "is not valid: task: Field required"),
    ],
)
def test_a_manifest_that_is_not_one_is_explained(seal_doubling: Seal, content: bytes, problem: str) -> None:
    """Signed nonsense is still nonsense."""
    folder = seal_doubling().path
    (folder / "manifest.json").write_bytes(content)
    _sign(folder)
    with pytest.raises(BundleError, match=problem):
        open_bundle(folder)


def test_an_unknown_key_in_the_manifest_is_refused(seal_doubling: Seal) -> None:
    """A key that this version does not read could mean something to the one who wrote it."""
    folder = seal_doubling().path
    _reseal(folder, preprocessing="scale.pkl")
    with pytest.raises(BundleError, match="preprocessing: Extra inputs are not permitted"):
        open_bundle(folder)


def test_an_oversized_manifest_is_not_read(seal_doubling: Seal) -> None:
    """Sizes are capped before anything is read into memory."""
    folder = seal_doubling().path
    with (folder / "manifest.json").open("r+b") as stream:
        stream.truncate(1 << 30)
    with pytest.raises(BundleError, match=r"manifest\.json in .* has 1073741824 bytes, more than the 8388608 allowed"):
        open_bundle(folder)


def test_a_path_without_a_bundle_is_explained(tmp_path: Path) -> None:
    """Nothing there, an empty folder, and any other file are told apart."""
    with pytest.raises(BundleError, match=r"there is no such folder or \.qtn file"):
        open_bundle(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"manifest\.json is missing; run the app's `train` command"):
        open_bundle(tmp_path)
    (tmp_path / "model.pt").write_bytes(b"PK")
    with pytest.raises(BundleError, match=r"model\.pt is not a bundle: expected a \.qtn zip"):
        open_bundle(tmp_path / "model.pt")


def test_a_folder_of_other_things_is_not_a_bundle(tmp_path: Path) -> None:
    """A wrong path is told as such, not by the first odd thing in it."""
    (tmp_path / "some folder").mkdir()
    with pytest.raises(BundleError, match=r"is not a bundle: manifest\.json is missing"):
        open_bundle(tmp_path)


def test_an_unsigned_bundle_is_refused(seal_doubling: Seal) -> None:
    """No setting opens a bundle without a signature."""
    folder = seal_doubling().path
    (folder / "signature.json").unlink()
    with pytest.raises(BundleError, match=r"is not signed: signature\.json is missing"):
        open_bundle(folder)


def test_a_bundle_resealed_by_a_foreign_key_needs_trust(
    seal_doubling: Seal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With signers="known" a foreign key is refused until it is trusted; with "any" it is only reported."""
    folder = seal_doubling().path
    home = settings().home
    monkeypatch.setenv("QUATRAIN_CORE__HOME", str(tmp_path / "foreign"))
    _reseal(folder, task="theft")
    key = signing.own_key(settings().keys_dir)
    assert key is not None
    monkeypatch.setenv("QUATRAIN_CORE__HOME", str(home))

    with caplog.at_level(logging.WARNING):
        assert open_bundle(folder).signer == key.fingerprint
    assert key.fingerprint in caplog.text

    monkeypatch.setenv("QUATRAIN_CORE__SIGNERS", "known")
    with pytest.raises(BundleError, match=rf"signed by key {key.fingerprint}.*quatrain models trust"):
        open_bundle(folder)
    signing.trust(key, keys_dir=settings().keys_dir)
    assert open_bundle(folder).signer == key.fingerprint


def test_the_checked_bytes_are_the_ones_used(seal_doubling: Seal, doubling_onnx: bytes) -> None:
    """A file that changes after opening changes nothing; weights are checked again when read."""
    bundle = open_bundle(seal_doubling().path)
    for name in _SEALED:
        (bundle.path / name).write_bytes(b"\0" * (bundle.path / name).stat().st_size)
    assert bundle.onnx == doubling_onnx
    assert np.isfinite(bundle.golden()[0]["features"]).all()
    with pytest.raises(BundleError, match=r"weights\.safetensors in .* is not the file that was sealed"):
        bundle.weights()


def test_opening_imports_nothing_heavy(seal_doubling: Seal) -> None:
    """A command that opens a bundle does not pay for training or for a database."""
    code = (
        "import sys; from quatrain.core.bundle.open import open_bundle; open_bundle(sys.argv[1]).golden(); "
        "print(*{'onnx', 'torch', 'sqlalchemy', 'pyarrow', 'safetensors', 'fsspec', 'typer'} & set(sys.modules))"
    )
    folder = str(seal_doubling().path)
    result = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
