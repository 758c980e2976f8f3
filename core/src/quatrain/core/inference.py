"""A sealed model that answers: load_model(name).predict(x), without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from quatrain.core import hardware
from quatrain.core.bundle.manifest import MANIFEST, RESTORE, BundleError, Manifest
from quatrain.core.bundle.open import Bundle, open_bundle
from quatrain.core.errors import UsageError, UserError, did_you_mean
from quatrain.core.inputs import InvalidInputError, check_inputs, place_of

if TYPE_CHECKING:
    from onnxruntime import InferenceSession  # type: ignore[import-untyped]  # ships no types

    from quatrain.core.store import Store

__all__ = [
    "InvalidInputError",
    "InvalidOutputError",
    "Model",
    "Prediction",
    "largest_difference",
    "load_model",
    "open_session",
]

Backend = Literal["auto", "onnxruntime"]

# ONNX Runtime's own severities; its messages also come as exceptions, so stderr need not repeat them.
_FATAL_ONLY = 4
# ONNX Runtime's names of the types that a manifest may name.
_ONNX_TYPES = {"float32": "float", "float64": "double"}


class Session(Protocol):
    """What runs a graph: ONNX Runtime's InferenceSession, or what can stand in for it."""

    def get_inputs(self) -> Sequence[Any]:
        """Return the graph's inputs, each with name and type."""

    def get_outputs(self) -> Sequence[Any]:
        """Return the graph's outputs, each with name and type."""

    def run(self, output_names: Sequence[str] | None, arrays: Mapping[str, NDArray[Any]], /) -> list[NDArray[Any]]:
        """Return the named outputs for these inputs, all outputs for None."""


class Opener(Protocol):
    """What opens a graph, as `open_session` does."""

    def __call__(self, onnx: bytes, *, threads: int | None = None) -> Session:
        """Return a session on the graph."""


class InvalidOutputError(UserError):
    """A model that answered a valid input with NaN or infinity."""


@dataclass(frozen=True)
class Prediction:
    """A model's answer: `prediction["probability"]` is that output, its first dimension the input's rows."""

    outputs: Mapping[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self.outputs:
            raise KeyError(f"no output {name!r}{did_you_mean(name, self.outputs)}")
        return self.outputs[name]


class Model:
    """A loaded model; `predict` may be called from several threads at once."""

    def __init__(self, bundle: Bundle, session: Session, *, reference: str, backend: str) -> None:
        self.manifest: Manifest = bundle.manifest
        # SHA-256 of the bundle's manifest, which holds the digests of all its files.
        self.digest = bundle.digest
        # What to call it on a screen, such as "fintech/fraud:3" or the bundle's path.
        self.reference = reference
        self.backend = backend
        self._session = session
        self._output_names = [spec.name for spec in bundle.manifest.outputs]

    def predict(self, x: NDArray[Any] | Mapping[str, NDArray[Any]]) -> Prediction:
        """Return the outputs for a batch: an array for a one-input model, or arrays by input name.

        Raises InvalidInputError unless dtype, shape, range and finiteness are what the manifest
        says, InvalidOutputError when the answer is not finite.
        """
        arrays = check_inputs(self.manifest.inputs, x)
        answers = self._session.run(self._output_names, arrays)
        outputs = dict(zip(self._output_names, answers, strict=True))
        self._require_finite(outputs)
        return Prediction(outputs)

    def _require_finite(self, outputs: Mapping[str, NDArray[Any]]) -> None:
        for spec in self.manifest.outputs:
            array = outputs[spec.name]
            if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
                where = place_of(spec, array, ~np.isfinite(array))
                raise InvalidOutputError(
                    f"{self.reference} gives no number for {spec.name}: {where}; "
                    "look for extreme values in that input row, or narrow the model's input range and seal it again"
                )


def load_model(
    model: str | Path,
    *,
    backend: Backend = "auto",
    store: Store | None = None,
    threads: int | None = None,
    opener: Opener | None = None,
) -> Model:
    """Return the model behind a bundle's path or a store reference, after it reproduced its golden outputs.

    "fintech/fraud", "fintech/fraud:3" and "fintech/fraud@prod" are looked up in `store`, by default
    the configured one; a Path, and a text that is a bundle on disk or starts with . / or ~, is
    opened as it is. `threads` None follows CPU affinity and the cgroup's quota. `opener` takes the
    place of `open_session` for what runs a graph faster; it is held to the golden outputs as well.
    Raises BundleError for a bundle that is damaged or does not give its golden outputs here.
    """
    if backend not in get_args(Backend):
        raise UsageError(f"unknown backend {backend!r}{did_you_mean(backend, get_args(Backend))}")
    bundle, reference = _find(model, store)
    session = _session_of(bundle, reference, threads, opener or open_session)
    loaded = Model(bundle, session, reference=reference, backend="onnxruntime")
    _require_golden(loaded, bundle)
    return loaded


def open_session(onnx: bytes, *, threads: int | None = None) -> InferenceSession:
    """Return an ONNX Runtime session on the CPU; `threads` None follows affinity and the cgroup's quota."""
    import onnxruntime

    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or hardware.cpu_limit()
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    # Workers that spin between calls burn a core each while a batch job reads its next file.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


def largest_difference(actual: NDArray[Any], expected: NDArray[Any]) -> tuple[float, int]:
    """Return the largest absolute difference and its row; NaN or infinity on one side only differs by infinity."""
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(actual.astype(np.float64) - expected.astype(np.float64)))
    difference = np.where(np.isnan(difference), np.inf, difference)
    if difference.size == 0:
        return 0.0, 0
    place = int(difference.argmax())
    row = int(np.unravel_index(place, difference.shape)[0]) if difference.ndim else 0
    return float(difference.flat[place]), row


def _find(model: str | Path, store: Store | None) -> tuple[Bundle, str]:
    if isinstance(model, Path) or _is_path(model):
        return open_bundle(Path(model).expanduser()), str(model)
    from quatrain.core.store import Store

    store = store or Store()
    reference = store.find(model).reference
    return store.open(reference), reference


def _is_path(model: str) -> bool:
    return model.startswith((".", "/", "~")) or model.endswith(".qtn") or (Path(model) / MANIFEST).is_file()


def _session_of(bundle: Bundle, reference: str, threads: int | None, opener: Opener) -> Session:
    try:
        session = opener(bundle.onnx, threads=threads)
    except _runtime_errors() as error:
        raise BundleError(f"ONNX Runtime cannot load the graph of {reference}: {_first_line(error)}") from error
    for kind, specs, nodes in (
        ("input", bundle.manifest.inputs, session.get_inputs()),
        ("output", bundle.manifest.outputs, session.get_outputs()),
    ):
        declared = {spec.name: f"tensor({_ONNX_TYPES.get(spec.dtype, spec.dtype)})" for spec in specs}
        actual = {node.name: node.type for node in nodes}
        if declared != {name: actual.get(name) for name in (declared if kind == "output" else actual)}:
            raise BundleError(f"the graph of {reference} has {kind}s {actual}, its manifest says {declared}; {RESTORE}")
    return session


def _require_golden(model: Model, bundle: Bundle) -> None:
    inputs, expected = bundle.golden()
    try:
        prediction = model.predict(inputs)
    except _golden_errors() as error:
        raise BundleError(f"{model.reference} cannot run its golden inputs here: {_first_line(error)}") from error
    for name, wanted in expected.items():
        actual = prediction[name]
        if actual.shape != wanted.shape:
            raise BundleError(f"golden {name} of {model.reference} has shape {actual.shape}, expected {wanted.shape}")
        difference, row = largest_difference(actual, wanted)
        if difference > model.manifest.golden_atol:
            raise BundleError(
                f"{model.reference} does not reproduce its golden outputs here: {name} differs by {difference:.3g} "
                f"at row {row}, at most {model.manifest.golden_atol:g} is allowed; "
                "do not use it on this machine: run `quatrain doctor`, then seal it again where it is trained"
            )


def _golden_errors() -> tuple[type[Exception], ...]:
    return (InvalidInputError, InvalidOutputError, *_runtime_errors())


def _runtime_errors() -> tuple[type[Exception], ...]:
    """Return ONNX Runtime's exceptions, which have no base class of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # type: ignore[import-untyped]  # ships no types

    return tuple(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
