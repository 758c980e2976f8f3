"""Distillation: a student learns from a teacher's logits, and is kept only where that helped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quatrain.core.compression.artifact import Artifact, Step, digest_of
from quatrain.core.compression.gate import Promise
from quatrain.core.compression.modules import exported, require_module, weights_of

if TYPE_CHECKING:
    from torch import nn

    from quatrain.core.compression.hints import Hint
    from quatrain.core.compression.retraining import Method, TrainingRows


@dataclass(frozen=True, kw_only=True, eq=False)
class Distill:
    """Train the model on labels and on what `teacher` says of the same rows.

    "kd" is the divergence of softened probabilities, "dist" the correlation of relations, which a
    much stronger teacher suits better; "feature" is "kd" with `hints`, pairs of a student's layer and
    the teacher's whose output it shall give. The teacher is a module built as the student was, of any width.
    It sees rows as they are: where the student's are augmented, name layers after the pooling.
    """

    teacher: nn.Module
    training: TrainingRows
    method: Method = "kd"
    hints: tuple[Hint, ...] = ()

    promise = Promise(gain=True)

    def __post_init__(self) -> None:
        """Refuse hints that nobody takes, and a lesson from features without any."""
        if (self.method == "feature") != bool(self.hints):
            raise ValueError(f"hints go with method feature and it needs one or more, got {self.method}, {self.hints}")

    @property
    def name(self) -> str:
        """What the report calls it."""
        return f"distill {self.method}"

    def settings(self) -> Mapping[str, Any]:
        """Return what decides the outcome."""
        return {
            "step": "distill",
            "method": self.method,
            "hints": self.hints,
            "teacher": digest_of(weights_of(self.teacher)),
            "training": self.training.settings(),
        }

    def fallbacks(self, before: Artifact) -> Iterable[Step]:
        """Return nothing: the student before stays."""
        del before
        return ()

    def apply(self, before: Artifact) -> Artifact:
        """Return the student after its lessons."""
        student = require_module(before)
        self.training.distil(student, self.teacher, method=self.method, hints=self.hints)
        return exported(before, student, notes=())
