"""What a backend is: a function that opens a graph, and the session that answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from quatrain.core.bundle.manifest import BundleError
from quatrain.core.errors import UserError

Arrays = Mapping[str, NDArray[Any]]


class BackendError(UserError):
    """A backend that cannot run here, or not this graph; the text names the backend and the reason."""


class GoldenError(BundleError):
    """A backend that runs the graph and gives other numbers than were sealed."""


@dataclass(frozen=True)
class Port:
    """One input or output of a graph; `type` as ONNX Runtime spells it, such as "tensor(float)"."""

    name: str
    type: str


class Session(Protocol):
    """What runs a graph: ONNX Runtime's InferenceSession, or what can stand in for it.

    `run` may be called from several threads at once, and what it returns stays as it is.
    """

    def get_inputs(self) -> Sequence[Any]:
        """Return the graph's inputs, each with name and type."""

    def get_outputs(self) -> Sequence[Any]:
        """Return the graph's outputs, each with name and type."""

    def run(self, output_names: Sequence[str] | None, arrays: Arrays, /) -> list[NDArray[Any]]:
        """Return the named outputs for these inputs, all outputs for None."""


class Opener(Protocol):
    """What opens a graph, as `open_session` does."""

    def __call__(self, onnx: bytes, *, threads: int | None = None) -> Session:
        """Return a session on the graph; raises BackendError for a graph that it does not take."""
