"""The compiled half of `forest`: which leaves a block of rows can reach, and which one each row does."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quatrain.fintech.features.compiled import compiled

Ints = NDArray[np.int64]
Words = NDArray[np.uint32]
# Whole numbers in the order of the float32 that they stand for.
Keys = NDArray[np.int32]
# Two numbers for each block, (F, blocks).
Range = tuple[Keys, Keys]

# Rows that go through all trees together: their inputs stay near the processor.
BLOCK = 512
# Rows that are turned from rows into columns in one go.
_TILE = 16
_ALL = np.uint32(0xFFFF_FFFF)
_ONE = np.uint32(1)
_NONE = np.uint32(0)
# The bits of a float32 without its sign, and those of infinity; what is larger is no number.
_SIZE = np.int32(0x7FFF_FFFF)
_INFINITY = np.int32(0x7F80_0000)
_SIGN_AT = np.int32(31)
_LEAST = np.int32(-(2**31))
_LARGEST = np.int32(2**31 - 1)
# Comparisons, and leaves, that one pass over a block's rows looks at.
_AT_ONCE = 4
# Leaves of a tree, filled up to whole passes.
_ROOM = 32 + _AT_ONCE


class Trees(NamedTuple):
    """A Forest with its thresholds as keys."""

    starts: Ints
    leaf_starts: Ints
    feature: Ints
    key: Keys
    above: Words
    not_above: Words
    leaf: NDArray[np.float64]


class Asked(NamedTuple):
    """What a block still asks of a tree: comparisons, and the leaves but the last from left to right; then fillers."""

    feature: Ints
    key: Keys
    above: Words
    bit: Words
    leaf: NDArray[np.float64]


def keys_of(thresholds: NDArray[np.float32]) -> Keys:
    """Return keys: a float32 is above a threshold where its key is above the threshold's."""
    # Of the two zeros the positive one, which neither zero is above.
    bits = (thresholds + np.float32(0)).view(np.int32)
    return np.asarray(bits ^ ((bits >> _SIGN_AT) & _SIZE))


def evaluate(bits: Keys, order: Ints, trees: Trees, out: NDArray[np.float32]) -> None:
    """Write the sum of each row's leaves to `out` (n, 1); `bits` (n, F) are those of float32, `order` is of rows."""
    n_blocks = -(-len(bits) // BLOCK)
    keys = np.empty((n_blocks, bits.shape[1], BLOCK), dtype=np.int32)  # (blocks, F, rows)
    low, high = np.empty((2, bits.shape[1], n_blocks), dtype=np.int32)
    _turn(bits, order, keys, (low, high))
    n_leaves = np.diff(trees.leaf_starts)
    within_reach = np.repeat((_ALL >> (32 - n_leaves).astype(np.uint32))[:, None], n_blocks, axis=1)  # (trees, blocks)
    _rule_out(within_reach, (low, high), trees)
    _add_leaves(keys, order, within_reach, trees, out)


@compiled
def _turn(bits: Keys, order: Ints, keys: Keys, limits: Range) -> None:
    """Fill in the blocks' keys, and the least and the largest of each block."""
    low, high = limits
    n_rows, n_features = bits.shape
    source = np.empty(BLOCK, dtype=np.int64)
    for block in range(len(keys)):
        for row in range(BLOCK):
            # The last block is filled up with the last row.
            source[row] = order[min(block * BLOCK + row, n_rows - 1)]
        for tile in range(0, BLOCK, _TILE):
            for column in range(n_features):
                for row in range(tile, tile + _TILE):
                    value = bits[source[row], column]
                    # No number is above a threshold, and neither is what is no number.
                    key = value ^ ((value >> _SIGN_AT) & _SIZE)
                    keys[block, column, row] = _LEAST if value & _SIZE > _INFINITY else key
        for column in range(n_features):
            least, largest = _LARGEST, _LEAST
            for row in range(BLOCK):
                least = min(least, keys[block, column, row])
                largest = max(largest, keys[block, column, row])
            low[column, block], high[column, block] = least, largest


@compiled
def _rule_out(within_reach: Words, limits: Range, trees: Trees) -> None:
    """Take from each block's leaves those that no row of it reaches: all of them give a comparison one answer."""
    low, high = limits
    for tree in range(len(within_reach)):
        left = within_reach[tree]
        for node in range(trees.starts[tree], trees.starts[tree + 1]):
            least, largest = low[trees.feature[node]], high[trees.feature[node]]
            key, above, not_above = trees.key[node], trees.above[node], trees.not_above[node]
            for block in range(len(left)):
                left[block] &= (above if least[block] > key else _ALL) & (not_above if largest[block] <= key else _ALL)


@compiled
def _add_leaves(keys: Keys, order: Ints, within_reach: Words, trees: Trees, out: NDArray[np.float32]) -> None:
    asked = Asked(
        np.zeros(_ROOM, np.int64),
        np.zeros(_ROOM, np.int32),
        np.zeros(_ROOM, np.uint32),
        np.zeros(_ROOM, np.uint32),
        np.zeros(_ROOM, np.float64),
    )
    total = np.empty(BLOCK, dtype=np.float64)
    value = np.empty(BLOCK, dtype=np.float64)
    left = np.empty(BLOCK, dtype=np.uint32)
    for block in range(len(keys)):
        total[:] = 0.0
        for tree in range(len(within_reach)):
            leaves = within_reach[tree, block]
            n_others, last = _ask(tree, leaves, trees, asked)
            if n_others == 0:
                total += last
            elif n_others == 1:
                _add_either(keys[block], asked, last, total)
            elif n_others <= _AT_ONCE:
                _add_few(keys[block], asked, leaves, last, total)
            else:
                _add_many(keys[block], asked, (leaves, n_others, last), (left, value, total))
        for row in range(min(BLOCK, len(order) - block * BLOCK)):
            out[order[block * BLOCK + row], 0] = total[row]


@compiled
def _ask(tree: int, leaves: np.uint32, trees: Trees, asked: Asked) -> tuple[int, float]:
    """Fill in what tells the leaves apart; return how many there are beside the last one, and that one's weight."""
    n_leaves = 0
    place = trees.leaf_starts[tree]
    for bit_place in range(trees.leaf_starts[tree + 1] - place):
        bit = _ONE << np.uint32(bit_place)
        asked.bit[n_leaves] = bit
        asked.leaf[n_leaves] = trees.leaf[place + bit_place]
        n_leaves += (leaves & bit) != 0
    last = asked.leaf[n_leaves - 1]
    n_asked = 0
    if n_leaves > 1:
        for node in range(trees.starts[tree], trees.starts[tree + 1]):
            asked.feature[n_asked] = trees.feature[node]
            asked.key[n_asked] = trees.key[node]
            asked.above[n_asked] = trees.above[node]
            # With leaves on both of its sides.
            n_asked += ((leaves & ~trees.above[node]) != 0) & ((leaves & ~trees.not_above[node]) != 0)
    for filler in range(n_asked, n_asked + _AT_ONCE - 1):
        asked.feature[filler], asked.key[filler], asked.above[filler] = 0, _LARGEST, _ALL
        asked.bit[filler], asked.leaf[filler] = _NONE, 0.0
    return n_asked, last


@compiled
def _add_either(key: Keys, asked: Asked, last: float, total: NDArray[np.float64]) -> None:
    column, bound, first = key[asked.feature[0]], asked.key[0], asked.leaf[0]
    for row in range(BLOCK):
        total[row] += last if column[row] > bound else first


@compiled
def _add_few(key: Keys, asked: Asked, leaves: np.uint32, last: float, total: NDArray[np.float64]) -> None:
    """Add one of at most five leaves."""
    a, b, c, d = key[asked.feature[0]], key[asked.feature[1]], key[asked.feature[2]], key[asked.feature[3]]
    bound_a, bound_b, bound_c, bound_d = asked.key[0], asked.key[1], asked.key[2], asked.key[3]
    kept_a, kept_b, kept_c, kept_d = asked.above[0], asked.above[1], asked.above[2], asked.above[3]
    bit_a, bit_b, bit_c, bit_d = asked.bit[0], asked.bit[1], asked.bit[2], asked.bit[3]
    leaf_a, leaf_b, leaf_c, leaf_d = asked.leaf[0], asked.leaf[1], asked.leaf[2], asked.leaf[3]
    for row in range(BLOCK):
        left = (
            leaves
            & (kept_a if a[row] > bound_a else _ALL)
            & (kept_b if b[row] > bound_b else _ALL)
            & (kept_c if c[row] > bound_c else _ALL)
            & (kept_d if d[row] > bound_d else _ALL)
        )
        weight = leaf_d if left & bit_d else last
        weight = leaf_c if left & bit_c else weight
        weight = leaf_b if left & bit_b else weight
        total[row] += leaf_a if left & bit_a else weight


@compiled
def _add_many(
    key: Keys,
    asked: Asked,
    reached: tuple[np.uint32, int, float],
    rows: tuple[Words, NDArray[np.float64], NDArray[np.float64]],
) -> None:
    """Add one of many leaves, some comparisons and some leaves at a time."""
    leaves, n_others, last = reached
    left, value, total = rows
    left[:] = leaves
    for first in range(0, n_others, _AT_ONCE):
        a, b = key[asked.feature[first]], key[asked.feature[first + 1]]
        c, d = key[asked.feature[first + 2]], key[asked.feature[first + 3]]
        bound_a, bound_b = asked.key[first], asked.key[first + 1]
        bound_c, bound_d = asked.key[first + 2], asked.key[first + 3]
        kept_a, kept_b = asked.above[first], asked.above[first + 1]
        kept_c, kept_d = asked.above[first + 2], asked.above[first + 3]
        for row in range(BLOCK):
            left[row] &= (
                (kept_a if a[row] > bound_a else _ALL)
                & (kept_b if b[row] > bound_b else _ALL)
                & (kept_c if c[row] > bound_c else _ALL)
                & (kept_d if d[row] > bound_d else _ALL)
            )
    value[:] = last
    # From right to left, so that the lowest bit has the last word.
    for first in range((n_others - 1) // _AT_ONCE * _AT_ONCE, -1, -_AT_ONCE):
        bit_a, bit_b, bit_c, bit_d = asked.bit[first], asked.bit[first + 1], asked.bit[first + 2], asked.bit[first + 3]
        leaf_a, leaf_b = asked.leaf[first], asked.leaf[first + 1]
        leaf_c, leaf_d = asked.leaf[first + 2], asked.leaf[first + 3]
        for row in range(BLOCK):
            weight = leaf_d if left[row] & bit_d else value[row]
            weight = leaf_c if left[row] & bit_c else weight
            weight = leaf_b if left[row] & bit_b else weight
            value[row] = leaf_a if left[row] & bit_a else weight
    for row in range(BLOCK):
        total[row] += value[row]
