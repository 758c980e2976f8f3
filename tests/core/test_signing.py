"""Signatures: one key per machine, made once, kept private, and checked against an oracle."""

from __future__ import annotations

import base64
import json
import logging
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quatrain.core.trust import signing
from quatrain.core.trust.signing import PublicKey, SignatureError

_MESSAGE = b'{"name": "fintech/fraud"}'


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Return a folder for keys that does not exist yet."""
    return tmp_path / "keys"


def _document(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_a_signature_holds_for_its_message_only(keys: Path) -> None:
    """One changed byte breaks it."""
    document = signing.sign(_MESSAGE, keys_dir=keys)
    assert signing.verify(_MESSAGE, document, keys_dir=keys, signers="known") == signing.own_key(keys)
    with pytest.raises(SignatureError, match="the signature does not hold"):
        signing.verify(_MESSAGE + b" ", document, keys_dir=keys, signers="any")


def test_a_published_signature_verifies(keys: Path) -> None:
    """RFC 8032 section 7.1, test 3, is the oracle."""
    key = bytes.fromhex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")
    signature = bytes.fromhex(
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
    )
    document = _document(
        algorithm="ed25519", public_key=PublicKey(key).text, signature=base64.b64encode(signature).decode()
    )
    assert signing.verify(b"\xaf\x82", document, keys_dir=keys, signers="any").raw == key


def test_the_private_key_is_private(keys: Path) -> None:
    """Only the owner reads the key and the folder around it."""
    signing.sign(_MESSAGE, keys_dir=keys)
    assert stat.S_IMODE((keys / "signing.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert sorted(path.name for path in keys.iterdir()) == ["signing.pem", "signing.pub"]


def test_a_key_that_others_can_read_is_reported(keys: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A copied key often has lost its mode."""
    signing.sign(_MESSAGE, keys_dir=keys)
    (keys / "signing.pem").chmod(0o644)
    with caplog.at_level(logging.WARNING):
        signing.sign(_MESSAGE, keys_dir=keys)
    assert "can be read by other users; run `chmod 600" in caplog.text


def test_the_key_is_made_once(keys: Path) -> None:
    """Later signatures, and a lost public half, come from the same key."""
    signing.sign(_MESSAGE, keys_dir=keys)
    first = signing.own_key(keys)
    (keys / "signing.pub").unlink()
    signing.sign(_MESSAGE, keys_dir=keys)
    assert signing.own_key(keys) == first


def test_two_processes_make_one_key(keys: Path) -> None:
    """The first seals of two processes at once end with one key and two signatures that hold."""
    code = (
        "import sys; from pathlib import Path; from quatrain.core.trust import signing; sys.stdin.read(1); "
        "sys.stdout.buffer.write(signing.sign(b'm', keys_dir=Path(sys.argv[1])))"
    )
    workers = [
        subprocess.Popen([sys.executable, "-c", code, str(keys)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(b"g")
        worker.stdin.flush()
    documents = [worker.communicate()[0] for worker in workers]
    signers = {signing.verify(b"m", document, keys_dir=keys, signers="known") for document in documents}
    assert len(signers) == 1


def test_a_foreign_signature_needs_trust(keys: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Unknown, it is refused or reported; trusted, it passes in silence."""
    document = signing.sign(_MESSAGE, keys_dir=tmp_path / "foreign")
    foreign = signing.own_key(tmp_path / "foreign")
    assert foreign is not None
    with pytest.raises(SignatureError, match=r"neither this machine's nor trusted here.*quatrain models trust"):
        signing.verify(_MESSAGE, document, keys_dir=keys, signers="known")
    with caplog.at_level(logging.WARNING):
        signing.verify(_MESSAGE, document, keys_dir=keys, signers="any")
        assert foreign.fingerprint in caplog.text
        caplog.clear()
        signing.trust(foreign, keys_dir=keys)
        assert signing.trusted_keys(keys) == [foreign]
        assert signing.verify(_MESSAGE, document, keys_dir=keys, signers="known") == foreign
    assert not caplog.text


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (b"", "the signature is not JSON"),
        (b"\xff", "the signature is not JSON"),
        (b"[" * 100_000, "the signature is not JSON"),
        (b"[]", "must be a JSON object with algorithm 'ed25519'"),
        (_document(algorithm="none"), "must be a JSON object with algorithm 'ed25519'"),
        (_document(algorithm="ed25519"), "must hold public_key"),
        (_document(algorithm="ed25519", public_key=1, signature=2), "must hold public_key"),
        (_document(algorithm="ed25519", public_key="A" * 43 + "=", signature="é"), "must hold public_key"),
        (
            _document(algorithm="ed25519", public_key="A" * 43 + "=", signature="A" * 86 + "=="),
            "the signature does not hold",
        ),
    ],
)
def test_a_document_that_is_no_signature_is_explained(keys: Path, document: bytes, problem: str) -> None:
    """An empty, foreign or forged document is refused under every setting."""
    with pytest.raises(SignatureError, match=problem):
        signing.verify(_MESSAGE, document, keys_dir=keys, signers="any")


@given(document=st.binary(max_size=300))
def test_random_documents_are_refused(document: bytes) -> None:
    """Whatever bytes come, the outcome is a SignatureError."""
    with pytest.raises(SignatureError, match="the signature"):
        signing.verify(_MESSAGE, document, keys_dir=Path("nowhere"), signers="any")


@pytest.mark.parametrize("text", ["", "abc", "é" * 44, "A" * 44, "A" * 42 + "B="])
def test_a_text_that_is_no_key_is_explained(text: str) -> None:
    """The message shows the text and where to get the right one."""
    with pytest.raises(SignatureError, match=r"must be an Ed25519 public key, 44 characters.*quatrain models trust"):
        signing.parse_key(text)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "must hold an unencrypted Ed25519 private key in PEM.*restore it"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "must hold an unencrypted Ed25519"),
    ],
)
def test_a_damaged_private_key_is_explained(keys: Path, content: bytes, problem: str) -> None:
    """A damaged key is not silently replaced by a new one."""
    keys.mkdir()
    (keys / "signing.pem").write_bytes(content)
    (keys / "signing.pem").chmod(0o600)
    with pytest.raises(SignatureError, match=problem):
        signing.sign(_MESSAGE, keys_dir=keys)
    assert (keys / "signing.pem").read_bytes() == content


def test_a_key_of_another_kind_is_explained(keys: Path) -> None:
    """An elliptic-curve key of another kind is named."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    keys.mkdir()
    pem = X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (keys / "signing.pem").write_bytes(pem)
    (keys / "signing.pem").chmod(0o600)
    with pytest.raises(SignatureError, match="must hold an Ed25519 private key, got X25519PrivateKey"):
        signing.sign(_MESSAGE, keys_dir=keys)


def test_a_folder_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    """The message names the folder and the setting that moves it."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SignatureError, match=r"cannot use the signing key in .*set QUATRAIN_CORE__HOME"):
        signing.sign(_MESSAGE, keys_dir=tmp_path / "file" / "keys")
    with pytest.raises(SignatureError, match=r"cannot write to .*make it writable"):
        signing.trust(PublicKey(bytes(32)), keys_dir=tmp_path / "file")


def test_a_damaged_trusted_key_is_named(keys: Path, tmp_path: Path) -> None:
    """A half-written file in the trusted folder is not skipped in silence."""
    document = signing.sign(_MESSAGE, keys_dir=tmp_path / "foreign")
    (keys / "trusted").mkdir(parents=True)
    (keys / "trusted" / "bank.pub").write_bytes(b"half")
    with pytest.raises(SignatureError, match=r"bank\.pub must be an Ed25519 public key"):
        signing.verify(_MESSAGE, document, keys_dir=keys, signers="any")
