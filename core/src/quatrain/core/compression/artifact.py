"""What goes from step to step, and what a step is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.compression.gate import Promise
from quatrain.core.compression.measures import Arrays

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Artifact:
    """A model between two steps: its graph, and its module where steps work on one."""

    onnx: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    # Inputs that stand for real ones, a few rows of each.
    rows: Arrays = field(default_factory=dict)
    module: nn.Module | None = None
    # What a reader of the report should know, such as the calibration method that was chosen.
    notes: tuple[str, ...] = ()


class Step(Protocol):
    """One step of a plan."""

    @property
    def name(self) -> str:
        """What the report calls it."""

    @property
    def promise(self) -> Promise:
        """What it must show besides keeping the metric."""

    def settings(self) -> Mapping[str, Any]:
        """Return what decides the outcome, as JSON takes it: a finished step with the same is not redone."""

    def apply(self, before: Artifact) -> Artifact:
        """Return what the step makes of `before`; raises RefusedError where it can make nothing."""

    def fallbacks(self, before: Artifact) -> Iterable[Step]:
        """Return milder forms, in the order to try them, for when numbers of this one are too coarse."""


def digest_of(arrays: Arrays) -> str:
    """Return the SHA-256 of arrays by name: dtype, shape and bytes."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
