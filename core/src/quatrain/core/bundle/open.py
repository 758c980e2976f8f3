"""Opening a sealed model: every byte is checked against its digest and signature before it is used."""

from __future__ import annotations

import hashlib
import os
import secrets
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from quatrain.core.bundle import manifest as manifests
from quatrain.core.bundle.manifest import (
    CARD,
    GOLDEN,
    MANIFEST,
    MODEL,
    REQUIRED_FILES,
    RESTORE,
    SIGNATURE,
    WEIGHTS,
    BundleError,
    Manifest,
)
from quatrain.core.bundle.source import ZIP_LIMIT, Source, open_source
from quatrain.core.bundle.wire import require_self_contained
from quatrain.core.config import settings
from quatrain.core.errors import require
from quatrain.core.trust import signing

if TYPE_CHECKING:
    from quatrain.core.bundle.golden import Arrays

# A zip needs a date; with a fixed one the same bundle gives the same zip.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: `onnx` and `card` are the very bytes whose digests were checked."""

    path: Path
    manifest: Manifest
    # SHA-256 of manifest.json, which holds the digests of all other files.
    digest: str
    # Fingerprint of the key that signed it.
    signer: str
    onnx: bytes = field(repr=False)
    card: str = field(repr=False)
    _golden: bytes = field(repr=False)

    def golden(self) -> tuple[Arrays, Arrays]:
        """Return (inputs, outputs) that every backend must reproduce; finite and as the manifest says."""
        from quatrain.core.bundle import golden

        inputs, outputs = golden.from_bytes(self._golden, where=str(self.path))
        sizes: dict[str, int] = {}
        try:
            golden.require_matching(self.manifest.inputs, inputs, sizes)
            golden.require_matching(self.manifest.outputs, outputs, sizes)
        except ValueError as error:
            raise BundleError(f"{GOLDEN} in {self.path} contradicts the manifest: {error}; {RESTORE}") from error
        return inputs, outputs

    def weights(self) -> Arrays:
        """Return the torch model's weights by name; they are read and checked again now."""
        if WEIGHTS not in self.manifest.files:
            raise BundleError(f"{self.path} holds no {WEIGHTS}; only models trained with torch have them")
        safetensors = require("safetensors.numpy", package="quatrain-core[train]")
        with open_source(self.path) as source:
            content = source.read(WEIGHTS)
        _require_digest(WEIGHTS, hashlib.sha256(content).hexdigest(), self.manifest, self.path)
        arrays: Arrays = safetensors.load(content)
        return arrays


def open_bundle(path: Path | str) -> Bundle:
    """Return the bundle at `path`, a folder or .qtn zip; raises BundleError unless all of it holds."""
    path = Path(path)
    with open_source(path) as source:
        manifest_bytes = _read_required(source, MANIFEST)
        signer = _verify_signature(source, manifest_bytes)
        manifest = manifests.from_bytes(manifest_bytes, where=path)
        _require_same_files(source, manifest)
        contents = {name: _read_verified(source, name, manifest) for name in REQUIRED_FILES}
        if WEIGHTS in manifest.files:
            _require_digest(WEIGHTS, source.sha256(WEIGHTS), manifest, path)
    require_self_contained(contents[MODEL], where=f"{MODEL} in {path}")
    return Bundle(
        path=path,
        manifest=manifest,
        digest=hashlib.sha256(manifest_bytes).hexdigest(),
        signer=signer,
        onnx=contents[MODEL],
        card=_decode_card(contents[CARD], path),
        _golden=contents[GOLDEN],
    )


def pack(bundle: Bundle, target: Path) -> Path:
    """Return `target`, now a .qtn zip of the bundle with the same digest; written whole or not at all."""
    with open_source(bundle.path) as source:
        if sum(source.sizes.values()) > ZIP_LIMIT:
            raise BundleError(f"{bundle.path} has over {ZIP_LIMIT} bytes, more than a .qtn holds; keep it as a folder")
        contents = {name: source.read(name) for name in sorted(source.sizes)}
    if hashlib.sha256(contents[MANIFEST]).hexdigest() != bundle.digest:
        raise BundleError(f"{bundle.path} has changed since it was opened; open it again")
    temporary = target.with_name(f".{target.name}-{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as stream:
            _write_zip(stream, contents)
            stream.flush()
            os.fsync(stream.fileno())
        open_bundle(temporary)
        temporary.replace(target)
    except OSError as error:
        raise BundleError(f"cannot write {target}: {error.strerror}; free space, or choose another path") from error
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _write_zip(stream: BinaryIO, contents: Mapping[str, bytes]) -> None:
    # Stored, not deflated: weights do not compress, and an honest zip then never looks like a bomb.
    with zipfile.ZipFile(stream, "w", compression=zipfile.ZIP_STORED) as archive:
        for name, content in contents.items():
            member = zipfile.ZipInfo(name, date_time=_ZIP_DATE)
            member.external_attr = 0o100644 << 16
            archive.writestr(member, content)


def _read_required(source: Source, name: str) -> bytes:
    if name not in source.sizes:
        fix = "run the app's `train` command to make one" if name == MANIFEST else RESTORE
        raise BundleError(f"{source.path} is not a bundle: {name} is missing; {fix}")
    return source.read(name)


def _verify_signature(source: Source, manifest_bytes: bytes) -> str:
    if SIGNATURE not in source.sizes:
        raise BundleError(f"{source.path} is not signed: {SIGNATURE} is missing; {RESTORE}")
    current = settings()
    try:
        key = signing.verify(manifest_bytes, source.read(SIGNATURE), keys_dir=current.keys_dir, signers=current.signers)
    except signing.SignatureError as error:
        raise BundleError(f"{MANIFEST} in {source.path}: {error}") from error
    return key.fingerprint


def _require_same_files(source: Source, manifest: Manifest) -> None:
    expected = {MANIFEST, SIGNATURE, *manifest.files}
    for name in sorted(expected - set(source.sizes)):
        raise BundleError(f"{name} is missing from {source.path}, though the manifest lists it; {RESTORE}")
    for name in sorted(set(source.sizes) - expected):
        raise BundleError(f"{source.path} holds {name}, which its manifest does not list; remove it")


def _read_verified(source: Source, name: str, manifest: Manifest) -> bytes:
    size = manifest.files[name].size
    if source.sizes[name] != size:
        raise BundleError(
            f"{name} in {source.path} is not the file that was sealed: "
            f"expected {size} bytes, got {source.sizes[name]}; {RESTORE}"
        )
    content = source.read(name)
    _require_digest(name, hashlib.sha256(content).hexdigest(), manifest, source.path)
    return content


def _require_digest(name: str, digest: str, manifest: Manifest, path: Path) -> None:
    expected = manifest.files[name].sha256
    if digest != expected:
        raise BundleError(
            f"{name} in {path} is not the file that was sealed: "
            f"expected sha256 {expected[:12]}…, got {digest[:12]}…; {RESTORE}"
        )


def _decode_card(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{CARD} in {path} must be UTF-8 text: {error}; {RESTORE}") from error
