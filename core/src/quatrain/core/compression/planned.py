"""The steps that a plan can name, with their options as text or TOML gives them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, field_validator, model_validator

from quatrain.core.compression.artifact import Step
from quatrain.core.compression.measures import Arrays
from quatrain.core.config import Config
from quatrain.core.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from quatrain.core.compression.retraining import TrainingRows

MaterialT = TypeVar("MaterialT")


@dataclass(frozen=True, kw_only=True)
class Materials:
    """What the steps of a plan work with; an app gives those that it has."""

    # Inputs by name, some hundred rows of the training part.
    calibration: Arrays | None = None
    training: TrainingRows | None = None
    # Layers that keep their width: those that give the logits.
    keep: tuple[str, ...] = ()
    # What a student learns from: a module built as the bundle's was, of any width.
    teacher: nn.Module | None = None
    # score(module) on training rows, larger is better: ranks layers for pruning.
    score: Callable[[nn.Module], float] | None = None


class Planned(Config, ABC):
    """One step of a plan: its options, and how it becomes a step."""

    # The option that may come without its name, as .5 in "prune:0.5".
    main: ClassVar[str | None] = None
    example: ClassVar[str]

    @abstractmethod
    def build(self, materials: Materials) -> Step:
        """Return the step; raises UsageError where materials that it needs are missing."""

    @classmethod
    def usage(cls) -> str:
        """Return its options by name, and an example."""
        options = ", ".join(cls.model_fields) or "no options"
        return f"{options}; such as {cls.example}"


def _split(value: Any) -> Any:
    """Return "a+b" as a list, anything else as it is."""
    return value.split("+") if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]


class PlannedPrune(Planned):
    """Structured pruning by this share, in rounds of training."""

    main: ClassVar[str | None] = "ratio"
    example: ClassVar[str] = "prune:0.5:rounds=2"

    ratio: float = Field(gt=0, lt=1)
    rounds: int = Field(default=1, ge=1)
    round_to: int = Field(default=8, ge=1)
    by_sensitivity: bool = False

    def build(self, materials: Materials) -> Step:
        """Return the step."""
        from quatrain.core.compression.prune import Prune

        training = _needed(materials.training, "prune", "rows to train on between rounds")
        return Prune(training=training, keep=materials.keep, score=materials.score, **self.model_dump())


class PlannedDistill(Planned):
    """Lessons from a teacher."""

    main: ClassVar[str | None] = "method"
    example: ClassVar[str] = "distill:dist"

    method: Literal["kd", "dist", "feature"] = "kd"
    # Layers of these names, the same in both modules.
    hints: Names = ()

    @model_validator(mode="after")
    def _has_hints_for_features(self) -> Self:
        if (self.method == "feature") != bool(self.hints):
            raise ValueError("hints go with method feature, which needs one layer or more")
        return self

    def build(self, materials: Materials) -> Step:
        """Return the step."""
        from quatrain.core.compression.distill import Distill

        training = _needed(materials.training, "distill", "rows to train on")
        teacher = _needed(materials.teacher, "distill", "a teacher")
        return Distill(
            teacher=teacher, training=training, method=self.method, hints=tuple((name, name) for name in self.hints)
        )


class PlannedInt8(Planned):
    """Static quantization."""

    main: ClassVar[str | None] = "method"
    example: ClassVar[str] = "int8:minmax:operators=MatMul+Gemm:mixed=4"

    method: Literal["auto", "minmax", "percentile", "entropy"] = "auto"
    operators: Names | None = None
    keep_float: Names = ()
    mixed: int = Field(default=0, ge=0)
    # Training for int8 as the last resort.
    qat: bool = False

    def build(self, materials: Materials) -> Step:
        """Return the step."""
        from quatrain.core.compression.quantize import Int8

        options = self.model_dump(exclude={"qat"})
        calibration = _needed(materials.calibration, "int8", "calibration rows")
        training = _needed(materials.training, "int8 with qat", "rows to train on") if self.qat else None
        return Int8(calibration=calibration, qat=training, **options)


class PlannedDynamicInt8(Planned):
    """Quantization whose activations are scaled as they come."""

    example: ClassVar[str] = "dynamic-int8"

    operators: Names | None = None
    keep_float: Names = ()

    def build(self, materials: Materials) -> Step:
        """Return the step."""
        from quatrain.core.compression.quantize import MATMUL_ONLY, DynamicInt8

        del materials
        return DynamicInt8(operators=self.operators or MATMUL_ONLY, keep_float=self.keep_float)


class PlannedNncf(Planned):
    """Static quantization by NNCF."""

    main: ClassVar[str | None] = "model_type"
    example: ClassVar[str] = "nncf-int8:transformer"

    model_type: Literal["transformer"] | None = None
    fast_bias_correction: bool = True
    keep_float: Names = ()

    def build(self, materials: Materials) -> Step:
        """Return the step."""
        from quatrain.core.compression.nncf_int8 import NncfInt8

        return NncfInt8(
            calibration=_needed(materials.calibration, "nncf-int8", "calibration rows"), **self.model_dump()
        )


class PlannedWeightOnly(Planned):
    """Weights of large products in few bits."""

    main: ClassVar[str | None] = "bits"
    example: ClassVar[str] = "weight-only:4:block_size=32"

    bits: Literal[4, 8] = 8
    block_size: int = Field(default=32, ge=16)
    least_values: int = Field(default=4096, ge=1)
    keep_float: Names = ()
    activations: Literal["float32", "int8"] = "float32"

    @field_validator("bits", mode="before")
    @classmethod
    def _as_number(cls, value: Any) -> Any:
        return int(value) if isinstance(value, str) and value.isdecimal() else value

    def build(self, materials: Materials) -> Step:
        """Return the step."""
        from quatrain.core.compression.weight_only import WeightOnly

        del materials
        return WeightOnly(**self.model_dump())


class PlannedHalf(Planned):
    """Weights stored in sixteen bits."""

    main: ClassVar[str | None] = "kind"
    example: ClassVar[str] = "half:bfloat16"

    kind: Literal["float16", "bfloat16"] = "float16"

    def build(self, materials: Materials) -> Step:
        """Return the step."""
        from quatrain.core.compression.half import HalfPrecision

        del materials
        return HalfPrecision(kind=self.kind)


class PlannedTrim(Planned):
    """The first boosted trees only."""

    main: ClassVar[str | None] = "keep"
    example: ClassVar[str] = "trim-trees:0.5"

    # A number of trees, or below 1 the share of them.
    keep: float = Field(gt=0)

    @field_validator("keep")
    @classmethod
    def _is_whole(cls, value: float) -> float:
        if value >= 1 and value != int(value):
            raise ValueError("input should be a whole number of trees, or a share below 1")
        return value

    def build(self, materials: Materials) -> Step:
        """Return the step."""
        from quatrain.core.compression.trim import TrimTrees

        del materials
        return TrimTrees(keep=self.keep)


# Every step by the name that a plan calls it.
KINDS: dict[str, type[Planned]] = {
    "distill": PlannedDistill,
    "dynamic-int8": PlannedDynamicInt8,
    "half": PlannedHalf,
    "int8": PlannedInt8,
    "nncf-int8": PlannedNncf,
    "prune": PlannedPrune,
    "trim-trees": PlannedTrim,
    "weight-only": PlannedWeightOnly,
}


def _needed(material: MaterialT | None, step: str, what: str) -> MaterialT:
    if material is None:
        raise UsageError(f"{step} needs {what}, which there are none of for this model; leave it out of the plan")
    return material
