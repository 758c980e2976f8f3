"""A tree ensemble evaluated many rows at a time, bit for bit as ONNX Runtime does it, at many times its speed.

Rows are put into an order in which neighbours are alike. Of a block of neighbours most comparisons
have one answer, which the block's least and largest value tell; of a tree a few leaves are left,
and each row's leaf is found by the comparisons that still tell them apart. Leaves are sets of bits
in a word of 32: a comparison clears those that its answer does not lead to, and the lowest bit left
is the row's leaf. Source of the words: Lucchese et al., "QuickScorer: a Fast Algorithm to Rank
Documents with Additive Ensembles of Regression Trees" (SIGIR 2015).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quatrain.fintech.score.graph import Ensemble, Ints
from quatrain.fintech.score.tree_kernel import BLOCK, Trees, evaluate, keys_of

Floats32 = NDArray[np.float32]
# Leaves of a tree that the kernel takes; larger trees are cut into several that share the way down.
_LEAVES = 32
# Comparisons of a tree, on average, above which walking down is faster.
_MOST_NODES = 512
# Rows that are put in order by a second input, among which the first hardly varies.
_STRIP = 4096
# Rows that tell which inputs to order by, in blocks of so many.
_SAMPLE, _SAMPLE_BLOCK = 8192, 256
# Of the values that are tried beside the thresholds: rows.
_PROBES = BLOCK + 1


class Comparison(NamedTuple):
    """A split of the ensemble by its place, and the leaves, as bits, that each answer rules out."""

    place: int
    # Ruled out where the value is above the threshold, and where it is not.
    if_above: int
    if_not: int


# A tree of at most 32 leaves: its comparisons, and its leaves' weights from left to right.
Part = tuple[list[Comparison], list[float]]


@dataclass(frozen=True, kw_only=True)
class Forest:
    """Trees of at most 32 leaves, tree after tree."""

    # (trees + 1,) where each tree's comparisons, and its leaves, begin.
    starts: Ints
    leaf_starts: Ints
    feature: Ints
    threshold: Floats32
    # Leaves that are left where a value is above the threshold, and where it is not.
    above: NDArray[np.uint32]
    not_above: NDArray[np.uint32]
    leaf: NDArray[np.float64]

    def sums(self, x: Floats32) -> Floats32:
        """Return the sum of each row's leaves, float32 of shape (n, 1), added in float64 in the order of the trees.

        Raises ValueError for an input without the columns that the trees read.
        """
        if self.feature.max(initial=0) >= x.shape[1]:
            raise ValueError(f"the trees read column {self.feature.max()}, and the input has {x.shape[1]}")
        out = np.empty((len(x), 1), dtype=np.float32)
        if len(x):
            evaluate(np.ascontiguousarray(x).view(np.int32), self._neighbours(x), self._trees, out)
        return out

    def probes(self, n_features: int) -> Floats32:
        """Return inputs on and beside thresholds, float32 (n, n_features): where a wrong comparison would show."""
        rng = np.random.default_rng(0)
        x = np.zeros((_PROBES, n_features), dtype=np.float32)
        for column in range(n_features):
            known = self.threshold[(self.feature == column) & np.isfinite(self.threshold)]
            drawn = rng.choice(known if len(known) else np.zeros(1, np.float32), len(x))
            towards = np.where(rng.integers(0, 2, len(x)), np.inf, -np.inf).astype(np.float32)
            x[:, column] = np.where(rng.integers(0, 2, len(x)), drawn, np.nextafter(drawn, towards))
        return x

    @cached_property
    def _trees(self) -> Trees:
        return Trees(
            starts=self.starts,
            leaf_starts=self.leaf_starts,
            feature=self.feature,
            key=keys_of(self.threshold),
            above=self.above,
            not_above=self.not_above,
            leaf=self.leaf,
        )

    @cached_property
    def _thresholds(self) -> list[Floats32]:
        """The thresholds on each input, in their order."""
        return [np.sort(self.threshold[self.feature == column]) for column in range(self.feature.max(initial=0) + 1)]

    def _neighbours(self, x: Floats32) -> Ints:
        """Return an order of the rows in which most comparisons have one answer for many rows in turn.

        It is by the input that most thresholds run through, and within strips by the next one.
        """
        sample = x[:_SAMPLE]
        first = self._busiest(sample)
        second = self._busiest(sample[np.argsort(sample[:, first])])
        order = np.argsort(x[:, first])
        strips = order[: len(order) // _STRIP * _STRIP].reshape(-1, _STRIP)
        within = np.argsort(x[strips, second], axis=1)
        return np.concatenate([np.take_along_axis(strips, within, axis=1).ravel(), order[strips.size :]])

    def _busiest(self, x: Floats32) -> int:
        """Return the input with the most thresholds inside the blocks' ranges."""
        starts = np.arange(0, len(x), _SAMPLE_BLOCK)
        low, high = np.minimum.reduceat(x, starts), np.maximum.reduceat(x, starts)
        inside = [
            int((np.searchsorted(known, high[:, column]) - np.searchsorted(known, low[:, column])).sum())
            for column, known in enumerate(self._thresholds)
        ]
        return int(np.argmax(inside))


def forest_of(ensemble: Ensemble) -> Forest | None:
    """Return the ensemble for the kernel, None for trees too deep for it, or so large that walking down is faster."""
    roots = np.flatnonzero(np.diff(ensemble.tree, prepend=-1))
    if len(ensemble.tree) > 2 * _MOST_NODES * len(roots):
        return None
    cutter = _Cutter(ensemble)
    try:
        parts = [part for root in roots.tolist() for part in cutter.parts(root, ())]
    except _TooDeepError:
        return None
    if not 0 < sum(len(comparisons) for comparisons, _ in parts) <= _MOST_NODES * len(roots):
        return None
    place, above, not_above = np.array([each for comparisons, _ in parts for each in comparisons]).T
    return Forest(
        starts=np.cumsum([0, *(len(comparisons) for comparisons, _ in parts)]),
        leaf_starts=np.cumsum([0, *(len(leaves) for _, leaves in parts)]),
        feature=ensemble.feature[place],
        threshold=_float32_not_above(ensemble.threshold[place]),
        above=~above.astype(np.uint32),
        not_above=~not_above.astype(np.uint32),
        leaf=np.array([weight for _, leaves in parts for weight in leaves]),
    )


class _TooDeepError(Exception):
    """A way down that is longer than a tree may have leaves."""


class _Cutter:
    """Takes a tree apart into trees of at most 32 leaves; of a row, all but one of them give 0."""

    def __init__(self, ensemble: Ensemble) -> None:
        self._if_true = ensemble.if_true.tolist()
        self._if_false = ensemble.if_false.tolist()
        self._weight = ensemble.weight.tolist()

    def parts(self, node: int, path: tuple[tuple[int, bool], ...]) -> Iterator[Part]:
        """Yield the parts below a node, in order; `path` are the comparisons that lead there, with their answers.

        Raises _TooDeepError.
        """
        if len(path) >= _LEAVES:
            raise _TooDeepError
        leaves: list[float] = []
        comparisons: list[Comparison] = []
        if self._walk(node, comparisons, leaves, room=_LEAVES - len(path)):
            for place, is_true in reversed(path):
                # Beside the way down stands one leaf of nothing: to the right of it after a yes, else to the left.
                n = len(leaves)
                if is_true:
                    comparisons.append(Comparison(place, (1 << n) - 1, 1 << n))
                    leaves = [*leaves, 0.0]
                else:
                    moved = [Comparison(other, above << 1, rest << 1) for other, above, rest in comparisons]
                    comparisons = [*moved, Comparison(place, 1, (2 << n) - 2)]
                    leaves = [0.0, *leaves]
            yield comparisons, leaves
        else:
            yield from self.parts(self._if_true[node], (*path, (node, True)))
            yield from self.parts(self._if_false[node], (*path, (node, False)))

    def _walk(self, node: int, comparisons: list[Comparison], leaves: list[float], *, room: int) -> bool:
        """Add what is below a node; return False as soon as it has more leaves than there is room for."""
        if self._if_true[node] < 0:
            leaves.append(self._weight[node])
            return len(leaves) <= room
        first = len(leaves)
        if not self._walk(self._if_true[node], comparisons, leaves, room=room):
            return False
        middle = len(leaves)
        if not self._walk(self._if_false[node], comparisons, leaves, room=room):
            return False
        comparisons.append(Comparison(node, (1 << middle) - (1 << first), (1 << len(leaves)) - (1 << middle)))
        return True


def _float32_not_above(thresholds: NDArray[np.float64]) -> Floats32:
    """Return the largest float32 not above each threshold: every float32 compares with it as with the threshold."""
    with np.errstate(over="ignore"):
        rounded = thresholds.astype(np.float32)
        return np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)
