"""A tree ensemble evaluated many rows at a time, bit for bit as ONNX Runtime does it, at several times its speed.

Each tree is a few dozen comparisons that all rows make, in place of a walk that each row makes
for itself: every node whose answer is no clears, in a word of 32 bits, the leaves that only a yes
leads to; the lowest bit left is the row's leaf. Source: Lucchese et al., "QuickScorer: a Fast
Algorithm to Rank Documents with Additive Ensembles of Regression Trees" (SIGIR 2015).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from quatrain.fintech.features.compiled import compiled
from quatrain.fintech.score.graph import Ensemble

# Leaves of a tree that the kernel takes; larger trees are cut into several that share the way down.
_LEAVES = 32
_ALL = np.uint32(0xFFFF_FFFF)
# Rows that go through all trees together: their inputs stay in the first-level cache.
_BLOCK = 256
# Comparisons that are made in one pass over the words; trees are filled up with some that clear nothing.
_AT_ONCE = 4
# Comparisons of a tree, on average, above which walking down is faster.
_MOST_NODES = 96


@dataclass(frozen=True, kw_only=True)
class Forest:
    """Trees as the kernel reads them: comparisons and leaves tree after tree, each tree's leaves from left to right."""

    # (trees + 1,) where each tree's comparisons, and its leaves, begin.
    starts: NDArray[np.int64]
    leaf_starts: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float32]
    mask: NDArray[np.uint32]
    leaf: NDArray[np.float64]

    def sums(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the sum of each row's leaves, float32 of shape (n, 1), added in float64 in the order of the trees."""
        out = np.empty((len(x), 1), dtype=np.float32)
        nodes = (self.starts, self.feature, self.threshold, self.mask)
        _evaluate(np.ascontiguousarray(x), nodes, (self.leaf_starts, self.leaf), out)
        return out

    def probes(self, n_features: int) -> NDArray[np.float32]:
        """Return inputs on and beside thresholds, float32 (n, n_features): where a wrong comparison would show."""
        rng = np.random.default_rng(0)
        x = np.zeros((_BLOCK + 1, n_features), dtype=np.float32)
        for column in range(n_features):
            known = self.threshold[(self.feature == column) & np.isfinite(self.threshold)]
            drawn = rng.choice(known if len(known) else np.zeros(1, np.float32), len(x))
            towards = np.where(rng.integers(0, 2, len(x)), np.inf, -np.inf).astype(np.float32)
            x[:, column] = np.where(rng.integers(0, 2, len(x)), drawn, np.nextafter(drawn, towards))
        return x


# Places of a tree's comparisons, with the leaves that each clears where the answer is no; and the leaves' weights.
Part = tuple[list[tuple[int, int]], list[float]]


def forest_of(ensemble: Ensemble) -> Forest | None:
    """Return the ensemble for the kernel, None for trees so large that walking down them is faster."""
    roots = np.flatnonzero(np.diff(ensemble.tree, prepend=-1))
    if len(ensemble.tree) > 2 * _MOST_NODES * len(roots):
        return None
    cutter = _Cutter(ensemble)
    parts = [part for root in roots.tolist() for part in cutter.parts(root, ())]
    nodes = [_filled_up(comparisons) for comparisons, _ in parts]
    if not 0 < sum(map(len, nodes)) <= _MOST_NODES * len(roots):
        return None
    places, cleared = np.array([node for tree in nodes for node in tree]).T
    return Forest(
        starts=np.cumsum([0, *map(len, nodes)]),
        leaf_starts=np.cumsum([0, *(len(leaves) for _, leaves in parts)]),
        feature=np.where(places < 0, 0, ensemble.feature[places]),
        threshold=np.where(places < 0, np.float32(np.inf), _not_above(ensemble.threshold[places])),
        mask=~cleared.astype(np.uint32),
        leaf=np.array([weight for _, leaves in parts for weight in leaves]),
    )


def _filled_up(comparisons: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [*comparisons, *[(-1, 0)] * (-len(comparisons) % _AT_ONCE)]


class _Cutter:
    """Takes a tree apart into trees of at most 32 leaves; of a row, all but one of them give 0."""

    def __init__(self, ensemble: Ensemble) -> None:
        self._if_true = ensemble.if_true.tolist()
        self._if_false = ensemble.if_false.tolist()
        self._weight = ensemble.weight.tolist()

    def parts(self, node: int, path: tuple[tuple[int, bool], ...]) -> Iterator[Part]:
        """Yield the parts below a node, in order; `path` are the comparisons that lead there, with their answers."""
        leaves: list[float] = []
        comparisons: list[tuple[int, int]] = []
        if self._walk(node, comparisons, leaves, room=_LEAVES - len(path)):
            for place, is_true in reversed(path):
                # Beside the way down stands one leaf of nothing: to the right of it after a yes, else to the left.
                if is_true:
                    comparisons.append((place, (1 << len(leaves)) - 1))
                    leaves = [*leaves, 0.0]
                else:
                    comparisons = [*((other, cleared << 1) for other, cleared in comparisons), (place, 1)]
                    leaves = [0.0, *leaves]
            yield comparisons, leaves
        else:
            yield from self.parts(self._if_true[node], (*path, (node, True)))
            yield from self.parts(self._if_false[node], (*path, (node, False)))

    def _walk(self, node: int, comparisons: list[tuple[int, int]], leaves: list[float], *, room: int) -> bool:
        """Add what is below a node; return False as soon as it has more leaves than there is room for."""
        if self._if_true[node] < 0:
            leaves.append(self._weight[node])
            return len(leaves) <= room
        first = len(leaves)
        if not self._walk(self._if_true[node], comparisons, leaves, room=room):
            return False
        comparisons.append((node, (1 << len(leaves)) - (1 << first)))
        return self._walk(self._if_false[node], comparisons, leaves, room=room)


def _not_above(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the largest float32 not above each threshold: every float32 compares with it as with the threshold."""
    with np.errstate(over="ignore"):
        rounded = thresholds.astype(np.float32)
        return np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)


def _count_trailing_zeros(_context: Any, word: Any) -> Any:
    """Tell Numba of LLVM's own instruction, which it has no name for; of 0 it may say anything."""

    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], cgutils.true_bit)

    return types.uint32(word), generate


# The place of the lowest bit of a word that is not 0; many words at a time where the machine can.
_lowest_bit = cast("Callable[[np.uint32], np.uint32]", intrinsic(_count_trailing_zeros))


@compiled
def _evaluate(
    x: NDArray[np.float32],
    nodes: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.uint32]],
    leaves: tuple[NDArray[np.int64], NDArray[np.float64]],
    out: NDArray[np.float32],
) -> None:
    starts, feature, threshold, mask = nodes
    leaf_starts, leaf = leaves
    n_rows, n_features = x.shape
    block = np.zeros((n_features, _BLOCK), dtype=np.float32)  # (F, rows)
    left = np.empty(_BLOCK, dtype=np.uint32)
    total = np.empty(_BLOCK, dtype=np.float64)
    for begin in range(0, n_rows, _BLOCK):
        n = min(_BLOCK, n_rows - begin)
        for row in range(n):
            for column in range(n_features):
                block[column, row] = x[begin + row, column]
        total[:] = 0.0
        for tree in range(len(starts) - 1):
            left[:] = _ALL
            for node in range(starts[tree], starts[tree + 1], _AT_ONCE):
                a, b, c, d = (
                    block[feature[node]],
                    block[feature[node + 1]],
                    block[feature[node + 2]],
                    block[feature[node + 3]],
                )
                bound_a, bound_b, bound_c, bound_d = (
                    threshold[node],
                    threshold[node + 1],
                    threshold[node + 2],
                    threshold[node + 3],
                )
                kept_a, kept_b, kept_c, kept_d = mask[node], mask[node + 1], mask[node + 2], mask[node + 3]
                for row in range(_BLOCK):
                    left[row] &= (
                        (kept_a if a[row] > bound_a else _ALL)
                        & (kept_b if b[row] > bound_b else _ALL)
                        & (kept_c if c[row] > bound_c else _ALL)
                        & (kept_d if d[row] > bound_d else _ALL)
                    )
            first = leaf_starts[tree]
            for row in range(_BLOCK):
                total[row] += leaf[first + _lowest_bit(left[row])]
        for row in range(n):
            out[begin + row, 0] = total[row]
