"""The gate before a session may serve: the graph of the manifest, and the golden outputs reproduced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.backends.onnx_runtime import runtime_errors
from quatrain.core.backends.protocol import Arrays, BackendError, GoldenError, Opener, Session
from quatrain.core.backends.registry import DEFAULT
from quatrain.core.bundle.manifest import RESTORE, BundleError, Manifest
from quatrain.core.bundle.open import Bundle
from quatrain.core.errors import UserError
from quatrain.core.inputs import InvalidInputError, check_inputs, place_of

# ONNX Runtime's names of the types that a manifest may name.
_ONNX_TYPES = {"float32": "float", "float64": "double"}
_TITLES = {DEFAULT: "ONNX Runtime"}


class InvalidOutputError(UserError):
    """A model that answered a valid input with NaN or infinity."""


def verified_session(
    bundle: Bundle, opener: Opener, *, backend: str, reference: str, threads: int | None = None
) -> Session:
    """Return a session on the bundle's graph that has reproduced the golden outputs.

    Raises GoldenError where it gives other numbers, BundleError for a graph that is not the manifest's or that
    does not run, BackendError for one that only this backend does not take.
    """
    try:
        session = opener(bundle.onnx, threads=threads)
    except runtime_errors() as error:
        title = _TITLES.get(backend, backend)
        raise BundleError(f"{title} cannot load the graph of {reference}: {first_line(error)}") from error
    _require_ports(session, bundle.manifest, reference)
    require_golden(session, bundle, backend=backend, reference=reference)
    return session


def answer(
    session: Session, manifest: Manifest, x: NDArray[Any] | Mapping[str, NDArray[Any]], *, reference: str
) -> dict[str, NDArray[Any]]:
    """Return the outputs by name for a batch that is what the manifest says.

    Raises InvalidInputError for any other batch, InvalidOutputError when the answer is not finite.
    """
    return answer_checked(session, manifest, check_inputs(manifest.inputs, x), reference=reference)


def answer_checked(session: Session, manifest: Manifest, arrays: Arrays, *, reference: str) -> dict[str, NDArray[Any]]:
    """Return the outputs by name for arrays that `check_inputs` gave; raises InvalidOutputError."""
    names = [spec.name for spec in manifest.outputs]
    outputs = dict(zip(names, session.run(names, arrays), strict=True))
    for spec in manifest.outputs:
        array = outputs[spec.name]
        if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
            where = place_of(spec, array, ~np.isfinite(array))
            raise InvalidOutputError(
                f"{reference} gives no number for {spec.name}: {where}; "
                "look for extreme values in that input row, or narrow the model's input range and seal it again"
            )
    return outputs


def require_golden(session: Session, bundle: Bundle, *, backend: str, reference: str) -> None:
    """Raise GoldenError unless the session gives the golden outputs within the tolerance that was sealed."""
    inputs, expected = bundle.golden()
    try:
        outputs = answer(session, bundle.manifest, inputs, reference=reference)
    except _failures() as error:
        raise BundleError(f"{reference} cannot run its golden inputs here: {first_line(error)}") from error
    on = "" if backend == DEFAULT else f" with the backend {backend}"
    fix = "choose another backend" if on else "run `quatrain doctor`, then seal it again where it is trained"
    for name, wanted in expected.items():
        actual = outputs[name]
        if actual.shape != wanted.shape:
            raise GoldenError(f"golden {name} of {reference} has shape {actual.shape}{on}, expected {wanted.shape}")
        difference, row = largest_difference(actual, wanted)
        if difference > bundle.manifest.golden_atol:
            allowed = f"at most {bundle.manifest.golden_atol:g} is allowed"
            raise GoldenError(
                f"{reference} does not reproduce its golden outputs here{on}: {name} differs by {difference:.3g} "
                f"at row {row}, {allowed}; do not use it on this machine: {fix}"
            )


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


def first_line(error: Exception) -> str:
    """Return the first line of what an exception says."""
    return str(error).strip().partition("\n")[0]


def _failures() -> tuple[type[Exception], ...]:
    return (InvalidInputError, InvalidOutputError, BackendError, *runtime_errors())


def _require_ports(session: Session, manifest: Manifest, reference: str) -> None:
    for kind, specs, nodes in (
        ("input", manifest.inputs, session.get_inputs()),
        ("output", manifest.outputs, session.get_outputs()),
    ):
        declared = {spec.name: f"tensor({_ONNX_TYPES.get(spec.dtype, spec.dtype)})" for spec in specs}
        actual = {node.name: node.type for node in nodes}
        if declared != {name: actual.get(name) for name in (declared if kind == "output" else actual)}:
            raise BundleError(f"the graph of {reference} has {kind}s {actual}, its manifest says {declared}; {RESTORE}")
