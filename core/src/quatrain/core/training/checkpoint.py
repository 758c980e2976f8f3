"""A checkpoint: one safetensors file whose header carries the rest as JSON, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from quatrain.core.errors import UserError
from quatrain.core.files import sync

FILE = "checkpoint.safetensors"
_SCHEMA_VERSION = "1"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Tensors by dotted name, and JSON values."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names start with "prefix.", without it."""
        start = prefix + "."
        return {name.removeprefix(start): value for name, value in self.tensors.items() if name.startswith(start)}


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint so that a kill at any moment leaves the old file or the new one."""
    part = path.with_name(path.name + ".part")
    header = {"schema_version": _SCHEMA_VERSION, "facts": json.dumps(checkpoint.facts)}
    save_file(_separate(checkpoint.tensors), part, metadata=header)
    sync(part)
    part.replace(path)
    sync(path.parent)


def load(path: Path) -> Checkpoint:
    """Return what a checkpoint file holds; UserError if it is none or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is not a readable checkpoint ({error}); delete it to start over") from error
    if header.get("schema_version") != _SCHEMA_VERSION:
        found = header.get("schema_version", "none")
        raise UserError(f"{path} has checkpoint version {found}, expected {_SCHEMA_VERSION}; delete it to start over")
    return Checkpoint(tensors=tensors, facts=json.loads(header["facts"]))


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return CPU tensors that share no memory, which safetensors refuses (tied weights do)."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage().data_ptr()
        separate[name] = plain.clone() if storage in seen else plain
        seen.add(storage)
    return separate
