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

from pydantic import ValidationError

from quatrain.core.compression.gate import Measured
from quatrain.core.config import Config
from quatrain.core.files import sync

_RECORD, _MODEL = "step.json", "model.onnx"
# Characters of a digest that name a folder.
_SHORT = 24


class Finished(Config):
    """What a step gave: a graph that was measured, or the reason why it gave none."""

    name: str
    notes: tuple[str, ...] = ()
    refusal: str | None = None
    measured: Measured | None = None
    onnx_sha256: str | None = None
    seconds: float


class Shelf:
    """The finished steps in one folder, by everything that decided their outcome."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def key(self, chain: Sequence[Mapping[str, Any]], measuring: Mapping[str, Any]) -> str:
        """Return the name of the last step of `chain`, which began with one bundle and is measured one way."""
        decided = {"chain": list(chain), "measuring": dict(measuring), "onnxruntime": version("onnxruntime")}
        return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:_SHORT]

    def find(self, key: str) -> tuple[Finished, bytes | None] | None:
        """Return the step and its graph, or None where it is not there whole."""
        folder = self._folder / key
        try:
            finished = Finished.model_validate_json((folder / _RECORD).read_bytes())
            onnx = (folder / _MODEL).read_bytes() if finished.onnx_sha256 else None
        except (OSError, ValidationError):
            return None
        if onnx is not None and hashlib.sha256(onnx).hexdigest() != finished.onnx_sha256:
            return None
        return finished, onnx

    def keep(self, key: str, finished: Finished, onnx: bytes | None) -> None:
        """Put the step there, whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f".{key}-{secrets.token_hex(8)}"
        temporary.mkdir()
        try:
            (temporary / _RECORD).write_text(finished.model_dump_json(indent=2) + "\n", encoding="utf-8")
            if onnx is not None:
                (temporary / _MODEL).write_bytes(onnx)
            for file in temporary.iterdir():
                sync(file)
            shutil.rmtree(self._folder / key, ignore_errors=True)
            temporary.rename(self._folder / key)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        sync(self._folder)
