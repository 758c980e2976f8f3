"""The secret key of the tokens: from the environment or from a file that only its owner reads, never a config."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from quatrain.core.config import settings
from quatrain.core.errors import UsageError
from quatrain.core.objects import write_whole
from quatrain.fintech.data.base32 import base32

# The key itself, as hex digits.
KEY_VARIABLE = "QUATRAIN_PAN_KEY"
# Where the key file lies, if not in the folder of this machine's keys.
FILE_VARIABLE = "QUATRAIN_PAN_KEY_FILE"
_FILE = "pan.key"
# A key as long as the hash's output: NIST SP 800-107, section 5.3.4.
_KEY_BYTES = 32
_FORM = re.compile(rf"[0-9a-fA-F]{{{2 * _KEY_BYTES}}}")
_MODE = 0o600
_OTHERS = 0o077
# Characters of a key's id: enough to notice another key, nothing to find this one by.
_ID_LENGTH = 6
_MAKE = "`quatrain fintech data keygen` makes one"


@dataclass(frozen=True, kw_only=True)
class PanKey:
    """A secret of 32 bytes, which no text shows."""

    secret: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """What says which key made a token."""
        return base32([hmac.digest(self.secret, b"quatrain pan key id", hashlib.sha256)], length=_ID_LENGTH)[0]


def find_key(environ: Mapping[str, str] | None = None) -> PanKey | None:
    """Return this machine's key, or None when it has none; raises UsageError for one that cannot be used."""
    environ = os.environ if environ is None else environ
    text = environ.get(KEY_VARIABLE)
    if text:
        return _parse(text, where=KEY_VARIABLE)
    file = key_file(environ)
    if not file.exists() and not environ.get(FILE_VARIABLE):
        return None
    return _parse(_read(file), where=str(file))


def need_key(what_for: str) -> PanKey:
    """Return this machine's key; raises UsageError that says how to get one."""
    key = find_key()
    if key is None:
        raise UsageError(
            f"{what_for} needs the key of its tokens: expected {KEY_VARIABLE}, or the file that {FILE_VARIABLE} names, "
            f"or {key_file()}, and none is there; {_MAKE}, or copy the one that other machines use"
        )
    return key


def make_key(file: Path) -> PanKey:
    """Write a new random key to `file`, which must not exist; only its owner may read it."""
    key = PanKey(secret=secrets.token_bytes(_KEY_BYTES))
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(file, key.secret.hex().encode() + b"\n", replace=False, mode=_MODE)
    except FileExistsError as error:
        raise UsageError(
            f"{file} is there already, and a new key would give every card another token; to rotate, move it away first"
        ) from error
    except OSError as error:
        raise UsageError(f"cannot write the key {file}: {error.strerror}; name another file") from error
    return key


def key_file(environ: Mapping[str, str] | None = None) -> Path:
    """Return where the key file lies, or would."""
    environ = os.environ if environ is None else environ
    named = environ.get(FILE_VARIABLE)
    return Path(named).expanduser() if named else settings(environ=environ).keys_dir / _FILE


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            content = stream.read(4 * _KEY_BYTES)
    except OSError as error:
        raise UsageError(f"cannot read the key {file}: {error.strerror}; {_MAKE}") from error
    if mode & _OTHERS:
        raise UsageError(f"the key {file} can be read by other users (mode {mode & 0o777:03o}); run `chmod 600 {file}`")
    return content.decode("ascii", errors="replace")


def _parse(text: str, *, where: str) -> PanKey:
    if _FORM.fullmatch(text.strip()) is None:
        # The text may be a key with a slip in it, so none of it is shown.
        raise UsageError(
            f"{where} must hold {2 * _KEY_BYTES} hex digits, got {len(text.strip())} characters that are not; {_MAKE}"
        )
    return PanKey(secret=bytes.fromhex(text.strip()))
