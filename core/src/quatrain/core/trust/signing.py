"""Ed25519 signatures: this machine's key, the keys it trusts, and whether a signature holds."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from quatrain.core.errors import UserError
from quatrain.core.objects import write_whole

_LOG = logging.getLogger(__name__)
_ALGORITHM = "ed25519"
# Lengths in bytes, RFC 8032 section 5.1.
_KEY_BYTES = 32
_SIGNATURE_BYTES = 64
_PRIVATE = "signing.pem"
_PUBLIC = "signing.pub"
_TRUSTED = "trusted"
# Keys are their owner's alone to read.
_PRIVATE_MODE = 0o600


class SignatureError(UserError):
    """A signature that is missing, does not hold, or comes from a key that is not trusted."""


@dataclass(frozen=True)
class PublicKey:
    """The public half of a signing key; `text` is what people exchange."""

    raw: bytes

    @property
    def text(self) -> str:
        """The key as one line of base64."""
        return base64.b64encode(self.raw).decode()

    @property
    def fingerprint(self) -> str:
        """The first 128 bits of the key's SHA-256, in hex."""
        return hashlib.sha256(self.raw).hexdigest()[:32]


def sign(message: bytes, *, keys_dir: Path) -> bytes:
    """Return a JSON document with the signature of `message`; makes this machine's key on first use."""
    key = _own_private_key(keys_dir)
    public = PublicKey(key.public_key().public_bytes_raw())
    document = {
        "algorithm": _ALGORITHM,
        "public_key": public.text,
        "signature": base64.b64encode(key.sign(message)).decode(),
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def verify(message: bytes, document: bytes, *, keys_dir: Path, signers: str) -> PublicKey:
    """Return the key that signed `message`, or raise SignatureError.

    `signers` "known" asks for this machine's own key or a trusted one; "any" takes every valid
    signature and logs a warning when the key is unknown.
    """
    public, signature = _parse(document)
    try:
        Ed25519PublicKey.from_public_bytes(public.raw).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise SignatureError("the signature does not hold: what was signed has been changed since") from error
    if is_known(public, keys_dir=keys_dir):
        return public
    if signers == "known":
        raise SignatureError(
            f"signed by key {public.fingerprint}, which is neither this machine's nor trusted here; if you know "
            f"whose it is, run `quatrain models trust {public.text}`"
        )
    _LOG.warning("signed by a key that is not known here: %s", public.fingerprint)
    return public


def is_known(key: PublicKey, *, keys_dir: Path) -> bool:
    """Return whether `key` is this machine's own or a trusted one."""
    return key == own_key(keys_dir) or key in trusted_keys(keys_dir)


def own_key(keys_dir: Path) -> PublicKey | None:
    """Return this machine's public key, or None before the first seal."""
    return _read_key(keys_dir / _PUBLIC)


def trusted_keys(keys_dir: Path) -> list[PublicKey]:
    """Return the keys that `trust` was told about, by fingerprint."""
    keys = (_read_key(file) for file in sorted((keys_dir / _TRUSTED).glob("*.pub")))
    return [key for key in keys if key is not None]


def trust(key: PublicKey, *, keys_dir: Path) -> Path:
    """Return the file that now marks `key` as trusted on this machine."""
    folder = keys_dir / _TRUSTED
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = folder / f"{key.fingerprint}.pub"
        write_whole(file, key.text.encode() + b"\n", replace=True, mode=_PRIVATE_MODE)
    except OSError as error:
        raise SignatureError(f"cannot write to {folder}: {error.strerror}; make it writable") from error
    return file


def parse_key(text: str, *, where: str = "the key") -> PublicKey:
    """Return the public key in one line of base64; raises SignatureError."""
    raw = _decode(text.strip(), size=_KEY_BYTES)
    if raw is None:
        raise SignatureError(
            f"{where} must be an Ed25519 public key, 44 characters of base64, got {text.strip()[:60]!r}; "
            "`quatrain models trust` prints it on the machine that signs"
        )
    return PublicKey(raw)


def _read_key(file: Path) -> PublicKey | None:
    try:
        text = file.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SignatureError(f"cannot read the key {file}: {error.strerror}; make it readable to this user") from error
    return parse_key(text, where=str(file))


def _parse(document: bytes) -> tuple[PublicKey, bytes]:
    try:
        fields = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise SignatureError(f"the signature is not JSON: {error}") from error
    if not isinstance(fields, dict) or fields.get("algorithm") != _ALGORITHM:
        raise SignatureError(f"the signature must be a JSON object with algorithm {_ALGORITHM!r}")
    key = _decode(fields.get("public_key"), size=_KEY_BYTES)
    signature = _decode(fields.get("signature"), size=_SIGNATURE_BYTES)
    if key is None or signature is None:
        raise SignatureError("the signature must hold public_key (32 bytes) and signature (64 bytes) as base64")
    return PublicKey(key), signature


def _decode(text: object, *, size: int) -> bytes | None:
    if not isinstance(text, str):
        return None
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    # Several texts decode to the same bytes; only one of them is what `sign` writes.
    return raw if len(raw) == size and base64.b64encode(raw).decode() == text else None


def _own_private_key(keys_dir: Path) -> Ed25519PrivateKey:
    file = keys_dir / _PRIVATE
    try:
        if not file.exists():
            _create_key(keys_dir)
        key = _load_key(file)
        public = PublicKey(key.public_key().public_bytes_raw())
        line = public.text.encode() + b"\n"
        published = keys_dir / _PUBLIC
        if not published.is_file() or published.read_bytes() != line:
            write_whole(published, line, replace=True, mode=_PRIVATE_MODE)
    except OSError as error:
        raise SignatureError(
            f"cannot use the signing key in {keys_dir}: {error.strerror}; make the folder writable, "
            "or set QUATRAIN_CORE__HOME to another one"
        ) from error
    return key


def _load_key(file: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if file.stat().st_mode & 0o077:
        _LOG.warning("%s can be read by other users; run `chmod 600 %s`", file, file)
    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise SignatureError(
            f"{file} must hold an unencrypted Ed25519 private key in PEM: {error}; restore it, "
            "or move it away and a new key is made"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError(f"{file} must hold an Ed25519 private key, got {type(key).__name__}")
    return key


def _create_key(keys_dir: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    keys_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        write_whole(keys_dir / _PRIVATE, pem, replace=False, mode=_PRIVATE_MODE)
    except FileExistsError:
        return  # another process made the key first; its key is the one that counts
    _LOG.info("made the signing key %s", keys_dir / _PRIVATE)
