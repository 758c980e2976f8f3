"""Isotonic regression, and what it gives when a new row joins it with either label: inductive Venn-ABERS.

Sources: Ayer et al. (1955) for isotonic regression; Vovk and Petej, "Venn-Abers predictors" (UAI
2014), and Vovk, Petej and Fedorova, "Large-scale probabilistic predictors with and without
guarantees of validity" (NIPS 2015), algorithms 1 and 2 for all its answers in linear time.

A calibration set is first grouped by score; W and Y are the numbers of rows and of frauds up to
each group. Isotonic values are slopes of the greatest convex minorant of the points (W, Y).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from quatrain.fintech.metrics.scored import Floats, Labels

_Point = tuple[float, float]


@dataclass(frozen=True, eq=False, kw_only=True)
class Groups:
    """Calibration rows grouped by score: distinct scores in rising order, rows and frauds of each."""

    score: NDArray[np.float32]
    n: NDArray[np.int64]
    n_frauds: NDArray[np.int64]


def grouped(score: NDArray[np.float32], label: Labels) -> Groups:
    """Return the rows grouped by score; scores are float32, as the model gives them when it runs."""
    if score.dtype != np.float32:
        raise ValueError(f"scores must be float32, as the sealed graph gives them; got {score.dtype}")
    if len(score) != len(label) or len(score) == 0:
        raise ValueError(f"scores and labels need one length above 0, got {len(score)} and {len(label)}")
    if not np.isfinite(score).all():
        raise ValueError("scores must be finite")
    distinct, place = np.unique(score, return_inverse=True)
    n = np.bincount(place, minlength=len(distinct))
    return Groups(score=distinct, n=n, n_frauds=np.bincount(place[label], minlength=len(distinct)))


def isotonic(groups: Groups) -> Floats:
    """Return the non-decreasing value per group with the least squared error over the rows."""
    corners = _minorant(_points(groups.n, groups.n_frauds))
    values = [(y - y0) / (w - w0) for (w0, y0), (w, y) in pairwise(corners)]
    ends = np.array([w for w, _ in corners[1:]])
    block = np.searchsorted(ends, np.cumsum(groups.n), side="left")
    return np.array(values)[block]


def venn_abers(groups: Groups) -> tuple[Floats, Floats]:
    """Return (p0, p1): the isotonic value at a new row, if it joins with label 0 and with label 1.

    p0[i] holds for a new score in [score[i], score[i + 1]), and is 0 below score[0]; p1[i] holds in
    (score[i - 1], score[i]], and is 1 above the last score. p0 <= p1 wherever both are read.
    """
    p1 = _with_fraud(groups.n, groups.n_frauds)
    # A legitimate row joining is a fraud joining, with time and labels turned round.
    p0 = 1 - _with_fraud(groups.n[::-1], (groups.n - groups.n_frauds)[::-1])[::-1]
    return p0, p1


def merged(p0: Floats, p1: Floats) -> Floats:
    """Return the one probability that stands for both: p1 / (1 - p0 + p1), minimax in log loss (Vovk 2015, eq. 5)."""
    return np.asarray(p1 / (1 - p0 + p1))


def _points(n: NDArray[np.int64], n_frauds: NDArray[np.int64]) -> list[_Point]:
    w, y = np.cumsum(n, dtype=np.float64), np.cumsum(n_frauds, dtype=np.float64)
    return [(0.0, 0.0), *zip(w.tolist(), y.tolist(), strict=True)]


def _with_fraud(n: NDArray[np.int64], n_frauds: NDArray[np.int64]) -> Floats:
    """Return per group the isotonic value when one fraud joins it (algorithms 1 and 2).

    A fraud at group i moves the points from i on by (1, 1); seen from them, those before i move by
    (-1, -1). Walking i upwards, the minorant's edge that crosses i is on top of the stack.
    """
    points = _points(n, n_frauds)
    stack = _minorant([(-1.0, -1.0), *points])[::-1]
    values = []
    for i in range(1, len(points)):
        top, following = stack[-1], stack[-2]
        values.append((following[1] - top[1]) / (following[0] - top[0]))
        moved = (points[i][0] - 1, points[i][1] - 1)
        if _turn(top, following, moved) >= 0:
            continue
        stack.pop()
        while len(stack) > 1 and _turn(moved, stack[-1], stack[-2]) <= 0:
            stack.pop()
        stack.append(moved)
    return np.array(values)


def _minorant(points: list[_Point]) -> list[_Point]:
    """Return the corners of the greatest convex minorant of points in rising order."""
    corners: list[_Point] = []
    for point in points:
        while len(corners) > 1 and _turn(corners[-2], corners[-1], point) <= 0:
            corners.pop()
        corners.append(point)
    return corners


def _turn(first: _Point, second: _Point, third: _Point) -> float:
    """Return a positive number where the way first, second, third turns left: `third` is above their line.

    Coordinates are counts, so the products are exact below 2**53.
    """
    return (second[0] - first[0]) * (third[1] - first[1]) - (second[1] - first[1]) * (third[0] - first[0])
