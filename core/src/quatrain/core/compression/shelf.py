"""Finished steps of a plan on the disk, so that a killed plan goes on where it was."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from quatrain.core.compression.gate import Measured
from quatrain.core.config import Config
from quatrain.core.files import sync

# The artifact of a finished step: its graph, and where it has a module the weights of that.
MODEL, WEIGHTS = "model.onnx", "weights.safetensors"
_RECORD = "step.json"
# Characters of a digest that name a folder.
_SHORT = 24


class Finished(Config):
    """What a step gave: a graph that was measured, or the reason why it gave none."""

    name: str
    notes: tuple[str, ...] = ()
    refusal: str | None = None
    measured: Measured | None = None
    # Digest of each file beside the record.
    files: dict[str, str] = Field(default_factory=dict)
    seconds: float


class Shelf:
    """The finished steps in one folder, by everything that decided their outcome."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def key(self, chain: Sequence[Mapping[str, Any]], measuring: Mapping[str, Any]) -> str:
        """Return the name of the last step of `chain`, which began with one bundle and is measured one way."""
        decided = {"chain": list(chain), "measuring": dict(measuring), "onnxruntime": version("onnxruntime")}
        return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:_SHORT]

    def find(self, key: str) -> tuple[Finished, dict[str, bytes]] | None:
        """Return the step and its files by name, or None where it is not there whole."""
        folder = self._folder / key
        try:
            finished = Finished.model_validate_json((folder / _RECORD).read_bytes())
            files = {name: (folder / name).read_bytes() for name in finished.files}
        except (OSError, ValidationError):
            return None
        is_whole = digests(files) == finished.files
        return (finished, files) if is_whole else None

    def keep(self, key: str, finished: Finished, files: Mapping[str, bytes]) -> None:
        """Put the step there, whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f".{key}-{secrets.token_hex(8)}"
        temporary.mkdir()
        try:
            (temporary / _RECORD).write_text(finished.model_dump_json(indent=2) + "\n", encoding="utf-8")
            for name, content in files.items():
                (temporary / name).write_bytes(content)
            for file in temporary.iterdir():
                sync(file)
            shutil.rmtree(self._folder / key, ignore_errors=True)
            temporary.rename(self._folder / key)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        sync(self._folder)


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the SHA-256 of each file by name."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
