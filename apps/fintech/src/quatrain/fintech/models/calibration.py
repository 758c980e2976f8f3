"""Scores to probabilities that hold on later days, with Venn-ABERS bounds: fitted here, run inside the graph."""

from __future__ import annotations

import logging
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from quatrain.core.config import Config
from quatrain.core.graphs_calibration import Curve, ScoreMap, calibrated_graph, log_odds
from quatrain.core.steps import Steps, before, joined
from quatrain.core.trees import float32_not_above
from quatrain.fintech.metrics.scored import Floats, Labels
from quatrain.fintech.models.beta import IDENTITY, fit_beta
from quatrain.fintech.models.prior_shift import BaseRate, estimate_base_rate, shift_log_odds
from quatrain.fintech.models.venn_abers import Groups, grouped, isotonic, venn_abers

_LOG = logging.getLogger(__name__)

Method = Literal["none", "beta", "isotonic"]
Days = NDArray[np.int64]

# Bounds are rounded outwards to this many steps per unit of log odds: a window of 70,000 rows has as many different
# bounds, and no decision needs more than a hundredth of a log odd. It keeps the lookup at some thousand steps.
_STEPS_PER_LOG_ODD = 64
# Days held out one after another; more are put together to blocks of days.
_MAX_BLOCKS = 10
# Standard errors of the paired difference by which another method must beat beta.
_MARGIN = 2.0


class Calibration(Config):
    """What scores mean, as plain numbers."""

    method: Method
    # Parameters of the curve; (1, 1, 0) where the method is not "beta".
    beta: Curve
    # Rows and frauds of the window that it was fitted on.
    n: int = Field(ge=2)
    n_frauds: int = Field(ge=1)
    # The share of frauds that probabilities are meant for: the window's own, or one it was shifted to.
    target_rate: float = Field(gt=0, lt=1)
    # float32 scores; bounds[j][i] holds for edges[i - 1] < score <= edges[i], in the order low, high, isotonic.
    edges: tuple[float, ...] = Field(min_length=1)
    bounds: tuple[tuple[float, ...], ...]
    # Mean log loss of each method on days held out; empty where there were too few days or frauds to compare.
    losses: dict[str, float]

    @property
    def base_rate(self) -> float:
        """The share of frauds in the window that it was fitted on."""
        return self.n_frauds / self.n

    def summary(self) -> dict[str, object]:
        """Return what a manifest or a card says of it: all but the steps, which the graph holds."""
        return self.model_dump(mode="json", exclude={"edges", "bounds"}) | {"base_rate": self.base_rate}


def fit_calibration(
    score: NDArray[np.float32], label: Labels, day: Days, *, method: Method | Literal["auto"] = "auto"
) -> Calibration:
    """Return the calibration of float32 scores of rows that the model did not learn from.

    `day` numbers the rows' days. The rows should be of the latest window whose labels have matured;
    "auto" compares the methods on days held out (see `choose_method`). Raises ValueError without
    both labels.
    """
    groups = grouped(score, label)
    if len(day) != len(score):
        raise ValueError(f"scores and days need one length, got {len(score)} and {len(day)}")
    losses: dict[str, float] = {}
    if method == "auto":
        method, losses = choose_method(score, label, day)
    steps = _steps(groups, with_isotonic=method == "isotonic")
    return Calibration(
        method=method,
        beta=fit_beta(score, label) if method == "beta" else IDENTITY,
        n=len(score),
        n_frauds=int(label.sum()),
        target_rate=float(label.mean()),
        edges=tuple(steps.edges.tolist()),
        bounds=tuple(tuple(column) for column in steps.values.T.tolist()),
        losses=losses,
    )


def choose_method(score: NDArray[np.float32], label: Labels, day: Days) -> tuple[Method, dict[str, float]]:
    """Return the method for these rows and each one's mean log loss on days held out.

    It is beta, unless another one's loss is lower by more than two standard errors of the paired
    difference over the held-out blocks of days: with few frauds that is rarely so, and a map of
    three parameters is then the one that holds. Beta without a comparison where it is not possible.
    """
    days = np.unique(day)
    blocks = [np.isin(day, part) for part in np.array_split(days, min(len(days), _MAX_BLOCKS))]
    can_fit = all(label[~block].any() and not label[~block].all() for block in blocks)
    if len(blocks) < 3 or not can_fit:  # noqa: PLR2004 - two differences have no standard error to speak of
        return "beta", {}
    loss = {
        method: np.array([_held_out_loss(method, score, label, block) for block in blocks])
        for method in ("beta", "none", "isotonic")
    }
    best: Method = "beta"
    for method in ("none", "isotonic"):
        gain = loss["beta"] - loss[method]
        error = gain.std(ddof=1) / np.sqrt(len(gain))
        if gain.mean() > _MARGIN * error and loss[method].mean() < loss[best].mean():
            best = method
    means = {method: float(values.mean()) for method, values in loss.items()}
    _LOG.info("calibration: %s; log loss on held-out days %s", best, means)
    return best, means


def apply(calibration: Calibration, score: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return what the calibrated graph gives for these scores: probability, low, high and score."""
    return score_map(calibration)(score)


def calibrated(onnx: bytes, calibration: Calibration) -> bytes:
    """Return the graph of output `probability` with the outputs probability (calibrated), low, high and score (raw).

    low <= probability <= high; [low, high] holds the Venn-ABERS pair (p0, p1), and all four never
    fall as the score rises. Raises ValueError for a graph that is calibrated already.
    """
    return calibrated_graph(onnx, score_map(calibration))


def score_map(calibration: Calibration) -> ScoreMap:
    """Return the calibration as the graph holds it, at its target share of frauds."""
    shift = shift_log_odds(calibration.base_rate, calibration.target_rate)
    values = np.array(calibration.bounds)
    if shift:
        values = _shifted(values, shift)
    low, high, *rest = values
    rounded = [_rounded_down(low), -_rounded_down(-high), *(column.astype(np.float32) for column in rest)]
    a, b, c = calibration.beta
    return ScoreMap(
        steps=Steps(np.array(calibration.edges, dtype=np.float32), np.stack(rounded, axis=1)),
        curve=None if calibration.method == "isotonic" else (a, b, c + shift),
    )


def at_base_rate(calibration: Calibration, rate: float) -> Calibration:
    """Return the calibration for rows with another share of frauds than the window that it was fitted on."""
    shift_log_odds(calibration.base_rate, rate)
    return calibration.model_copy(update={"target_rate": rate})


def base_rate_of(calibration: Calibration, score: NDArray[np.float32]) -> BaseRate:
    """Return the share of frauds among unlabelled rows, as their scores tell it, with its interval."""
    probability = apply(at_base_rate(calibration, calibration.base_rate), score)["probability"]
    return estimate_base_rate(
        probability.astype(np.float64), base_rate=calibration.base_rate, n_frauds=calibration.n_frauds
    )


def score_at(calibration: Calibration, probability: float) -> float:
    """Return the lowest float32 score whose calibrated probability is at least `probability`.

    An alert decided on the raw score at this threshold is the alert decided on the probability, and
    no rounding of the curve can move it. Raises ValueError where no score in [0, 1] gets there.
    """
    mapped = score_map(calibration)
    # float32 in [0, 1] are in the order of their bits.
    low, high = -1, int(np.float32(1).view(np.int32))
    best = float(mapped(np.ones(1, dtype=np.float32))["probability"][0])
    if best < probability:
        raise ValueError(f"no score is calibrated to {probability} or more; the highest is {best}")
    while high - low > 1:
        middle = (low + high) // 2
        at = np.array([middle], dtype=np.int32).view(np.float32)
        if mapped(at)["probability"][0] >= probability:
            high = middle
        else:
            low = middle
    return float(np.array([high], dtype=np.int32).view(np.float32)[0])


def _steps(groups: Groups, *, with_isotonic: bool) -> Steps:
    p0, p1 = venn_abers(groups)
    low = Steps(before(groups.score), _rounded_down(_on_grid(np.append(0.0, p0), np.floor))[:, None])
    high = Steps(groups.score, -_rounded_down(-_on_grid(np.append(p1, 1.0), np.ceil))[:, None])
    if not with_isotonic:
        return joined(low, high)
    edges, values = _isotonic_steps(groups)
    return joined(low, high, Steps(edges, values.astype(np.float32)[:, None]))


def _isotonic_steps(groups: Groups) -> tuple[NDArray[np.float32], Floats]:
    """Return edges and values of isotonic regression; it steps half-way between two scores, and never to 0 or 1.

    One row in n + 2, as after one fraud and one legitimate row more, is the least that n rows can show.
    """
    least = 1 / (groups.n.sum() + 2)
    value = np.clip(isotonic(groups), least, 1 - least)
    rises = np.flatnonzero(np.diff(value) > 0)
    score = groups.score.astype(np.float64)
    edges = float32_not_above((score[rises] + score[rises + 1]) / 2).astype(np.float32)
    return edges, value[np.append(rises, len(value) - 1)]


def _held_out_loss(method: str, score: NDArray[np.float32], label: Labels, block: NDArray[np.bool_]) -> float:
    """Return the mean log loss on the block's rows of the method fitted on all others."""
    if method == "isotonic":
        edges, values = _isotonic_steps(grouped(score[~block], label[~block]))
        probability = values[np.searchsorted(edges, score[block], side="left")]
        odds = np.log(probability) - np.log1p(-probability)
    else:
        curve = fit_beta(score[~block], label[~block]) if method == "beta" else IDENTITY
        odds = log_odds(score[block], curve)
    return float(np.logaddexp(0, np.where(label[block], -odds, odds)).mean())


def _on_grid(probability: Floats, rounding: np.ufunc) -> Floats:
    """Return probabilities rounded in log odds; 0 and 1 stay."""
    is_inside = (probability > 0) & (probability < 1)
    inside = probability[is_inside]
    odds = rounding((np.log(inside) - np.log1p(-inside)) * _STEPS_PER_LOG_ODD) / _STEPS_PER_LOG_ODD
    rounded = probability.copy()
    # Back from log odds the last digit may be lost, and a bound must not move inwards by it.
    outwards = np.minimum if rounding is np.floor else np.maximum
    rounded[is_inside] = outwards(1 / (1 + np.exp(-odds)), inside)
    return rounded


def _shifted(probability: Floats, shift: float) -> Floats:
    ratio = np.exp(shift)
    return np.asarray(probability * ratio / (1 - probability + probability * ratio))


def _rounded_down(values: Floats) -> NDArray[np.float32]:
    return float32_not_above(values).astype(np.float32)
