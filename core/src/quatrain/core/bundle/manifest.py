"""What a bundle says about itself: signature of the model, metrics, provenance, file digests."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from os import PathLike
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator
from pydantic_core import to_jsonable_python

from quatrain.core.errors import UserError

# The one layout that this version writes and reads.
SCHEMA_VERSION = 1

MANIFEST = "manifest.json"
SIGNATURE = "signature.json"
MODEL = "model.onnx"
GOLDEN = "golden.npz"
CARD = "CARD.md"
WEIGHTS = "weights.safetensors"
# Every bundle holds these beside the manifest and its signature; weights are optional.
REQUIRED_FILES = (MODEL, GOLDEN, CARD)
ALLOWED_FILES = (*REQUIRED_FILES, WEIGHTS)

# Largest size of each file in bytes; protobuf, and so one-file ONNX, ends at 2 GiB.
FILE_LIMITS = {
    MANIFEST: 8 << 20,
    SIGNATURE: 64 << 10,
    MODEL: (2 << 30) - 1,
    GOLDEN: 256 << 20,
    CARD: 4 << 20,
    WEIGHTS: 32 << 30,
}

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}/[a-z0-9][a-z0-9_-]{0,63}")
_DIGEST = r"^[0-9a-f]{64}$"


class BundleError(UserError):
    """A bundle that is missing, damaged, not signed as required, or not a bundle at all."""


def check_name(name: str) -> str:
    """Return `name` if it is `app/model` in lower case, else raise ValueError; no path can hide in it."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            "expected a model name of the form app/model in lower-case letters, digits, - and _, "
            f"such as fintech/fraud, got {name!r}"
        )
    return name


def _check_time(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError(f"expected a time with its zone, such as 2026-01-31T02:00:00+00:00, got {text!r}")
    return text


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="constants")


class FileEntry(_Frozen):
    """What a file of the bundle must be, byte for byte."""

    sha256: str = Field(pattern=_DIGEST)
    size: int = Field(ge=0)


class TensorSpec(_Frozen):
    """One input or output of the model: dtype, shape, range, units and column names.

    A text in `shape` is a dynamic dimension: the same text means the same size everywhere.
    """

    name: str = Field(min_length=1, max_length=256)
    dtype: Literal[
        "bool", "float16", "float32", "float64",
        "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    ]  # fmt: skip
    shape: tuple[Annotated[int, Field(ge=1)] | Annotated[str, Field(min_length=1)], ...]
    low: float | None = None
    high: float | None = None
    units: str | None = None
    columns: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low of {self.name} must not be above high, got {self.low} and {self.high}")
        if self.columns and (len(self.shape) != 2 or self.shape[1] != len(self.columns)):  # noqa: PLR2004 - rows, columns
            raise ValueError(
                f"{self.name} names {len(self.columns)} columns, so its shape must be "
                f"(batch, {len(self.columns)}), got {self.shape}"
            )
        return self


class Manifest(_Frozen):
    """Everything a bundle says about itself; `files` binds it to the bytes beside it."""

    schema_version: Literal[1] = 1
    name: Annotated[str, AfterValidator(check_name)]
    task: str = Field(min_length=1)
    # ISO 8601, UTC.
    created: Annotated[str, AfterValidator(_check_time)]
    inputs: tuple[TensorSpec, ...] = Field(min_length=1)
    outputs: tuple[TensorSpec, ...] = Field(min_length=1)
    metrics: dict[str, dict[str, FiniteFloat]] = {}
    intervals: dict[str, dict[str, tuple[FiniteFloat, FiniteFloat]]] = {}
    training: dict[str, Any] = {}
    data: dict[str, Any] = {}
    decision: dict[str, Any] = {}
    # The digest of the bundle that this one was compressed or fine-tuned from.
    parent: Annotated[str, Field(pattern=_DIGEST)] | None = None
    # The report of the plan that compressed it: every step with its settings, measures and verdict.
    compression: dict[str, Any] = {}
    software: dict[str, str] = {}
    # Largest absolute difference from the golden outputs that a backend may show.
    golden_atol: float = Field(default=1e-4, ge=0)
    files: dict[str, FileEntry]

    @model_validator(mode="after")
    def _lists_what_a_bundle_holds(self) -> Self:
        for name in self.files:
            if name not in ALLOWED_FILES:
                raise ValueError(f"files lists {name!r}; a bundle holds only {', '.join(ALLOWED_FILES)}")
        for name in REQUIRED_FILES:
            if name not in self.files:
                raise ValueError(f"files does not list {name}, which every bundle must hold")
        for specs in (self.inputs, self.outputs):
            names = [spec.name for spec in specs]
            if len(set(names)) != len(names):
                raise ValueError(f"tensor names must differ, got {', '.join(names)}")
        return self


def to_bytes(manifest: Manifest) -> bytes:
    """Return the JSON that is hashed and signed; raises ValueError for what JSON cannot hold."""
    try:
        document = to_jsonable_python(manifest, inf_nan_mode="constants", fallback=_plain)
        text = json.dumps(document, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the manifest of {manifest.name} takes finite JSON values only: {error}") from error
    return text.encode() + b"\n"


def from_bytes(content: bytes, *, where: str | PathLike[str]) -> Manifest:
    """Return the manifest in `content`; raises BundleError that names the key and what came."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{MANIFEST} in {where} is not JSON: {error}; {RESTORE}") from error
    if not isinstance(document, Mapping):
        raise BundleError(f"{MANIFEST} in {where} must be a JSON object, got {type(document).__name__}; {RESTORE}")
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{MANIFEST} in {where} has schema version {version!r}; this Quatrain reads version {SCHEMA_VERSION}; "
            "install the Quatrain that sealed it, or train again with this one"
        )
    try:
        return Manifest.model_validate(document)
    except (ValidationError, RecursionError) as error:
        raise BundleError(f"{MANIFEST} in {where} is not valid: {_explain(error)}; {RESTORE}") from error


# What to do about bytes that are not those that were sealed.
RESTORE = "copy the bundle again from where it was sealed, or train again"


def _plain(value: object) -> object:
    """Return a numpy number or array as Python ones, without importing numpy."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")


def _explain(error: ValidationError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    lines = []
    for detail in error.errors(include_url=False):
        key = ".".join(str(part) for part in detail["loc"])
        message = detail["msg"].removeprefix("Value error, ")
        lines.append(f"{key}: {message}" if key else message)
    return "; ".join(lines)
