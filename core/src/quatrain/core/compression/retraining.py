"""Training a module between steps: on labels, or on labels and what a teacher says of the same rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from quatrain.core.compression.artifact import digest_of
from quatrain.core.compression.hints import Hint, hinted
from quatrain.core.training import seeds
from quatrain.core.training.config import FitConfig
from quatrain.core.training.evaluate import predict
from quatrain.core.training.fit import fit
from quatrain.core.training.result import FitResult

Method = Literal["kd", "dist", "feature"]
# Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015: softened probabilities, and
# their share of the loss.
TEMPERATURE = 4.0
TEACHER_SHARE = 0.9
# Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022: weight of either relation.
DIST_WEIGHT = 2.0
# Weight of the distance from a teacher's features, which is a share of their mean square.
HINT_WEIGHT = 2.0


def itself(module: nn.Module) -> nn.Module:
    """Return the module: what is trained where it gives logits as it is."""
    return module


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingRows:
    """Rows to train on, never held-back ones: inputs, targets, settings, and which part of a module gives logits.

    Targets are class numbers (n,) for logits (n, classes), or 0 and 1 for logits (n,) or (n, 1).
    """

    inputs: Tensor
    targets: Tensor
    config: FitConfig
    # A bundle's module ends in a softmax or more; training needs the part before, such as `module.classifier`.
    logits: Callable[[nn.Module], nn.Module] = field(default=itself)

    def settings(self) -> dict[str, Any]:
        """Return what decides the outcome."""
        rows = {"inputs": self.inputs.numpy(force=True), "targets": self.targets.numpy(force=True)}
        return {"rows": digest_of(rows), "n_rows": len(self.inputs), "config": self.config.model_dump(mode="json")}

    def train(self, module: nn.Module) -> FitResult:
        """Train the module in place on the labels."""
        targets = self.targets[:, None].float()
        return fit(self.logits(module), (self.inputs, targets), loss=label_loss, config=self.config)

    def loss(self, module: nn.Module, *, n_rows: int = 512) -> float:
        """Return the mean label loss of the module on rows spread evenly over these, up to `n_rows`."""
        step = max(1, len(self.inputs) // n_rows)
        inputs, targets = self.inputs[::step], self.targets[::step, None].float()
        logits = predict(self.logits(module), inputs, batch_size=self.config.batch_size)
        return float(label_loss(logits, targets.cpu()).mean())

    def distil(
        self, student: nn.Module, teacher: nn.Module, *, method: Method, hints: Sequence[Hint] = ()
    ) -> FitResult:
        """Train the student in place on the labels and on the teacher's logits of the same rows.

        "feature" adds `hints` to "kd": layers of the student that shall give what the teacher's give.
        """
        told = self._logits_of(teacher)
        targets = torch.cat([self.targets[:, None].float(), told], dim=1)  # (n, 1 + classes)
        if method == "feature":
            seeds.seed_everything(self.config.seed)  # projections begin at random
            with hinted(student, teacher, hints, logits=self.logits, example=self.inputs[:2]) as taught:
                return fit(taught, (self.inputs, targets), loss=hint_loss, config=self.config)
        loss = kd_loss if method == "kd" else dist_loss
        return fit(self.logits(student), (self.inputs, targets), loss=loss, config=self.config)

    def _logits_of(self, teacher: nn.Module) -> Tensor:
        part = self.logits(teacher).eval()
        device = next(part.parameters()).device
        with torch.no_grad():
            parts = [part(rows.to(device)).cpu() for rows in torch.split(self.inputs, self.config.batch_size)]
        return torch.cat(parts).reshape(len(self.inputs), -1)


def label_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of each row, (B,); the first column of `targets` is the label."""
    label = targets[:, 0]
    if logits.ndim == 1 or logits.shape[1] == 1:
        return functional.binary_cross_entropy_with_logits(logits.reshape(-1), label, reduction="none")
    return functional.cross_entropy(logits, label.long(), reduction="none")


def kd_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return label loss and the divergence from the teacher's softened probabilities, (B,).

    The columns after the label are the teacher's logits. Its gradients fall with the square of the
    temperature, which multiplies it back.
    """
    student, teacher = _two_sided(logits) / TEMPERATURE, _two_sided(targets[:, 1:]) / TEMPERATURE
    divergence = functional.kl_div(
        student.log_softmax(1), teacher.log_softmax(1), reduction="none", log_target=True
    ).sum(1)
    return (1 - TEACHER_SHARE) * label_loss(logits, targets) + TEACHER_SHARE * TEMPERATURE**2 * divergence


def dist_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return label loss and how far the student's relations are from the teacher's, (B,).

    A relation is Pearson's correlation: of classes within a row, and of rows within a class.
    """
    student, teacher = _two_sided(logits).softmax(1), _two_sided(targets[:, 1:]).softmax(1)
    of_classes = 1 - _correlation(student, teacher)  # (B,)
    of_rows = (1 - _correlation(student.T, teacher.T)).mean()
    return label_loss(logits, targets) + DIST_WEIGHT * (of_classes + of_rows)


def hint_loss(answers: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
    """Return `kd_loss` of the logits and the distance from the teacher's features, (B,)."""
    logits, hints = answers
    return kd_loss(logits, targets) + HINT_WEIGHT * hints


def _two_sided(logits: Tensor) -> Tensor:
    """Return logits (B, classes); one logit is that of the second of two."""
    column = logits.reshape(len(logits), -1)
    return torch.cat([torch.zeros_like(column), column], dim=1) if column.shape[1] == 1 else column


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return Pearson's correlation of the rows of two matrices."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return functional.cosine_similarity(a, b, dim=1, eps=1e-8)
