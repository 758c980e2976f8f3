"""The gate between steps: what was measured of an artifact, and every reason not to ship it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from quatrain.core.compression.measures import Array, Arrays, Metric, labels_of
from quatrain.core.config import Config
from quatrain.core.errors import UserError


class RefusedError(UserError):
    """Why a step gave nothing that could be measured."""


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What a step is worth nothing without, besides the metric that every step must keep."""

    # It computes the same model in other numbers: labels stay.
    same_model: bool = False
    # Products run in integer kernels.
    integers: bool = False
    # The graph's file is smaller than the one before.
    smaller: bool = False
    # The metric rises.
    gain: bool = False
    # Signal to noise of the outputs, against the step's own input, that numbers of this kind always reach.
    least_sqnr_db: float | None = None

    @property
    def changes_numbers(self) -> bool:
        """Whether it computes in other numbers than before, which kernels and batch sizes round differently."""
        return self.same_model or self.integers


# A file counts as smaller from this share of the one before on.
_SMALLER = 0.9


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What every step must keep, compared with the model that the plan began with.

    The whole interval of the metric's drop must stay within `metric_drop`: too few held-back rows to
    show that little was lost are a refusal, too. Speed is asked of the plan's last step.
    """

    # metric(targets, scores); larger is better.
    metric: Metric
    metric_name: str
    metric_drop: float = 0.01
    # CPU time of the first model over the artifact's, one thread, batches of `batch_size`.
    min_speedup: float = 1.0
    # Share of rows that keep their label where a step changes numbers' precision only.
    min_agreement: float = 0.995
    # Signal to noise of the outputs, against the step's own input, where a step changes precision only.
    min_sqnr_db: float | None = None
    # What may differ between machines and batch sizes, as a share of the range of the golden outputs.
    max_spread: float = 0.05
    label: Callable[[Arrays], Array | None] = labels_of
    batch_size: int = 1
    n_resamples: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse budgets that mean nothing."""
        if self.metric_drop < 0 or self.min_speedup <= 0 or not 0 <= self.min_agreement <= 1:
            raise ValueError(
                f"expected metric_drop >= 0, min_speedup > 0 and min_agreement in [0, 1], got {self.metric_drop}, "
                f"{self.min_speedup} and {self.min_agreement}"
            )
        if self.batch_size < 1 or self.n_resamples < 1:
            raise ValueError(f"expected a batch and resamples of 1 or more, got {self.batch_size}, {self.n_resamples}")


class Measured(Config):
    """What was measured of one artifact; `before` is the model that the plan began with."""

    metric_before: float
    metric_after: float
    # metric_before - metric_after with a paired bootstrap interval of 95 %.
    drop: float
    drop_low: float
    drop_high: float
    # The metric minus that of the step's own input.
    step_gain: float
    # Size of the graph's file, and of the step's own input.
    n_bytes: int
    step_bytes: int
    # Multiply-accumulates for one row, the share of them in integer kernels, and how many such kernels ran.
    macs: int
    integer_share: float
    integer_kernels: int
    # CPU milliseconds per call, one thread; the ratio is the median over interleaved rounds.
    milliseconds: float
    speedup: float
    # Against the step's own input, over golden and held-back rows; None where outputs name no label.
    agreement: float | None
    sqnr_db: float
    # Where a number came out for NaN or infinity though the model before gave none.
    swallows: str | None
    # Largest absolute difference of its own outputs between batch sizes, and between fused and plain kernels.
    batch_spread: float
    kernel_spread: float
    # From the lowest to the highest golden output.
    output_range: float


def reasons_against(measured: Measured, gate: Gate, promise: Promise, *, is_last: bool) -> list[str]:
    """Return every reason not to ship the artifact; none means that it is accepted."""
    reasons = []
    if promise.gain and measured.step_gain <= 0:
        reasons.append(f"it did not help: {gate.metric_name} changes by {measured.step_gain:+.4f}; leave it out")
    if promise.integers and measured.integer_kernels == 0:
        reasons.append(
            "nothing was quantised: no integer kernel ran; the graph has no convolution or matrix product that this "
            "step covers, so leave the step out or name other operators"
        )
    if promise.smaller and measured.n_bytes > _SMALLER * measured.step_bytes:
        reasons.append(
            f"nothing got smaller: the graph takes {measured.n_bytes} bytes after {measured.step_bytes}, at most "
            f"{_SMALLER:.0%} of it is asked; its weights are few or small already, so leave the step out"
        )
    if measured.swallows is not None:
        reasons.append(f"it answers what is no number: {measured.swallows}; keep the guard in the graph")
    if measured.drop_high > gate.metric_drop:
        is_shown = measured.drop > gate.metric_drop
        reasons.append(
            f"{gate.metric_name} falls by {measured.drop:.4f} (interval {measured.drop_low:.4f} to "
            f"{measured.drop_high:.4f}), at most {gate.metric_drop:g} is allowed; "
            + ("compress less" if is_shown else "hold back more rows to show that less is lost, or compress less")
        )
    reasons += _precision_reasons(measured, gate, promise)
    if is_last and measured.speedup < gate.min_speedup:
        reasons.append(
            f"the plan ends at {measured.speedup:.2f}x the first model's speed, {gate.min_speedup:g}x is asked"
        )
    return reasons


def is_too_coarse(measured: Measured, gate: Gate, promise: Promise) -> bool:
    """Return whether a milder form could help: what fails is how close the answers are."""
    return measured.drop_high > gate.metric_drop or bool(_precision_reasons(measured, gate, promise))


def _precision_reasons(measured: Measured, gate: Gate, promise: Promise) -> list[str]:
    reasons = []
    if promise.same_model:
        reasons += _closeness_reasons(measured, gate, promise)
    spread = max(measured.batch_spread, measured.kernel_spread)
    if promise.changes_numbers and spread > gate.max_spread * measured.output_range:
        reasons.append(
            f"its answers differ by {spread:.3g} between batch sizes or kernels, at most {gate.max_spread:.0%} of "
            f"their range of {measured.output_range:.3g} is allowed; keep sensitive operators in float"
        )
    return reasons


def _closeness_reasons(measured: Measured, gate: Gate, promise: Promise) -> list[str]:
    reasons = []
    if measured.agreement is not None and measured.agreement < gate.min_agreement:
        reasons.append(
            f"only {measured.agreement:.2%} of rows keep their label, at least {gate.min_agreement:.2%} must; "
            "calibrate on more rows, or keep sensitive operators in float"
        )
    floors = [floor for floor in (gate.min_sqnr_db, promise.least_sqnr_db) if floor is not None]
    if floors and measured.sqnr_db < max(floors):
        reasons.append(f"its outputs have an SQNR of {measured.sqnr_db:.1f} dB, at least {max(floors):g} dB is asked")
    return reasons
