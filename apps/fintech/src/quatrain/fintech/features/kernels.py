"""The loops of the offline engine: events grouped by key, each window's ends moving forward only.

Results go straight into the matrix, (n, F). Every value is float32 of one float64 expression over
exact integers; the online engine writes the same expressions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quatrain.fintech.features.compiled import compiled

Ints = NDArray[np.int64]
Codes = NDArray[np.int32]
Matrix = NDArray[np.float32]
Floats = NDArray[np.float64]
# Places from, and up to, which one step handles.
Block = tuple[int, int]

# The order of kinds within Spec for fill_amounts; "max" has a loop of its own.
AMOUNT_ORDER = ("count", "sum", "mean", "ratio", "since")
UNIT = 10_000.0
AN_HOUR_US = 3.6e9
# Events that an edge moves past at once: mostly fewer are due, and comparing four costs less than guessing how many.
_STRIDE = 4
# Places that one step handles: what they need stays in the fastest cache.
BLOCK = 1024
# In place of a place: there is none, and after all others.
_NONE = np.int32(-1)
_NEVER = np.int32(2**31 - 1)


class Groups(NamedTuple):
    """Events by key, within a key in total order; g's events are the places starts[g] to starts[g + 1]."""

    order: Codes  # (m,) which event is at a place
    starts: Ints  # (groups + 1,)
    at_us: Ints  # (m + _STRIDE,) of the event at a place
    total: Ints  # (m + 1,) sum of the amounts at the places before


class Spec(NamedTuple):
    """Features of one kernel, sorted by kind."""

    windows_us: Ints  # the window lengths that occur
    places: Ints  # (f,) the feature's column in the matrix
    windows: Ints  # (f,) which of the lengths
    bounds: Ints  # (kinds + 1,) where each kind's features start


@compiled
def grouped(codes: Codes, n_codes: int, at_us: Ints, amount: Ints) -> Groups:
    """Return the events that have a code, by code."""
    starts = np.zeros(n_codes + 1, dtype=np.int64)
    for i in range(len(codes)):
        if codes[i] >= 0:
            starts[codes[i] + 1] += 1
    for g in range(n_codes):
        starts[g + 1] += starts[g]
    n = starts[n_codes]
    order = np.empty(n, dtype=np.int32)
    at = np.zeros(n + _STRIDE, dtype=np.int64)
    total = np.zeros(n + 1, dtype=np.int64)
    free = starts[:n_codes].copy()
    for i in range(len(codes)):
        if codes[i] >= 0:
            k = free[codes[i]]
            free[codes[i]] = k + 1
            order[k] = i
            at[k] = at_us[i]
            total[k + 1] = amount[i]
    for k in range(n):
        total[k + 1] += total[k]
    return Groups(order, starts, at, total)


@compiled
def regrouped(groups: Groups, codes: Codes, n_codes: int) -> Groups:
    """Return groups split further: by code, then by the group that each event was in."""
    parent, parent_starts, parent_at, parent_total = groups
    free = np.zeros(n_codes + 1, dtype=np.int64)
    for i in parent:
        if codes[i] >= 0:
            free[codes[i] + 1] += 1
    for code in range(n_codes):
        free[code + 1] += free[code]
    n = free[n_codes]
    order = np.empty(n, dtype=np.int32)
    is_start = np.zeros(n, dtype=np.bool_)
    at = np.zeros(n + _STRIDE, dtype=np.int64)
    total = np.zeros(n + 1, dtype=np.int64)
    last = np.full(n_codes, -1, dtype=np.int64)
    for g in range(len(parent_starts) - 1):
        for k in range(parent_starts[g], parent_starts[g + 1]):
            code = codes[parent[k]]
            if code >= 0:
                to = free[code]
                free[code] = to + 1
                order[to] = parent[k]
                at[to] = parent_at[k]
                total[to + 1] = parent_total[k + 1] - parent_total[k]
                is_start[to] = last[code] != g
                last[code] = g
    for k in range(n):
        total[k + 1] += total[k]
    return Groups(order, np.append(np.flatnonzero(is_start), n), at, total)


@compiled
def fill_missing(out: Matrix, codes: Codes, places: Ints, values: Matrix) -> None:
    """Write what stands for a missing key into the rows without a code; `values` has one per place."""
    for i in range(len(codes)):
        if codes[i] < 0:
            for f in range(len(places)):
                out[i, places[f]] = values[f]


@compiled
def fill_amounts(out: Matrix, groups: Groups, spec: Spec, longest_us: int) -> None:
    """Write counts, sums, means, ratios and times since."""
    order, starts, at_us, total = groups
    windows_us, places, windows, bounds = spec
    low = np.empty((len(windows_us), BLOCK), dtype=np.int64)
    values = np.empty(BLOCK)
    g = 0
    for begin in range(0, len(order), BLOCK):
        block = (begin, min(begin + BLOCK, len(order)))
        while starts[g + 1] <= begin:
            g += 1
        for w in range(len(windows_us)):
            find_low(low[w], (starts, at_us), g, windows_us[w], block)
        for f in range(len(places)):
            if f < bounds[1]:
                _count(values, low[windows[f]], block)
            elif f < bounds[2]:
                _sum(values, low[windows[f]], total, block)
            elif f < bounds[3]:
                _mean(values, low[windows[f]], total, block)
            elif f < bounds[4]:
                _ratio(values, low[windows[f]], total, block)
            else:
                _since(values, (starts, at_us), g, longest_us, block)
            write(out, order, places[f], values, block)


@compiled
def fill_max(out: Matrix, groups: Groups, window_us: int, place: int) -> None:
    """Write the largest amount of each window's events before the event itself."""
    order, starts, at_us, total = groups
    # Places whose amount no later one of the window reaches: ever smaller amounts.
    falling = np.empty(len(order), dtype=np.int64)
    for g in range(len(starts) - 1):
        head = tail = 0
        for k in range(starts[g], starts[g + 1]):
            while head < tail and at_us[falling[head]] <= at_us[k] - window_us:
                head += 1
            largest = total[falling[head] + 1] - total[falling[head]] if head < tail else 0
            out[order[k], place] = float(largest) / UNIT
            amount = total[k + 1] - total[k]
            while head < tail and total[falling[tail - 1] + 1] - total[falling[tail - 1]] <= amount:
                tail -= 1
            falling[tail] = k
            tail += 1


@compiled
def fill_distinct(out: Matrix, groups: Groups, other: Codes, n_others: int, spec: Spec) -> None:
    """Write how many different codes of another column each window holds."""
    order, starts, at_us, _ = groups
    windows_us, places, windows, _ = spec
    following = _following(order, starts, other, n_others)
    count = np.zeros((len(windows_us), len(order) + 1), dtype=np.int32)
    for w in range(len(windows_us)):
        _count_distinct(count[w], (starts, at_us), following, windows_us[w])
    values = np.empty(BLOCK)
    for begin in range(0, len(order), BLOCK):
        end = min(begin + BLOCK, len(order))
        for f in range(len(places)):
            values[: end - begin] = count[windows[f], begin:end]
            write(out, order, places[f], values, (begin, end))


@compiled
def write(out: Matrix, order: Codes, place: int, values: Floats, block: Block) -> None:
    """Write a block of values into one column of the matrix, in the events' own order."""
    begin, end = block
    for k in range(begin, end):
        out[order[k], place] = values[k - begin]


@compiled
def find_low(low: Ints, groups: tuple[Ints, Ints], g: int, window_us: int, block: Block) -> None:
    """Write, for each place, the first one in its group within the window that ends there.

    `low` holds the block before; an event is never past its own place, even where the window is 0.
    """
    starts, at_us = groups
    begin, end = block
    first = low[BLOCK - 1]
    while g + 1 < len(starts) and starts[g] < end:
        first = first if starts[g] < begin else starts[g]
        for k in range(max(begin, starts[g]), min(end, starts[g + 1])):
            edge_us = at_us[k] - window_us
            is_found = False
            if k + _STRIDE <= starts[g + 1]:
                moved = first + (at_us[first] <= edge_us) + (at_us[first + 1] <= edge_us)
                moved += (at_us[first + 2] <= edge_us) + (at_us[first + 3] <= edge_us)
                is_found = moved < first + _STRIDE
                first = min(moved, k)
            while not is_found and first < k and at_us[first] <= edge_us:
                first += 1
            low[k - begin] = first
        g += 1


@compiled
def _count(values: Floats, low: Ints, block: Block) -> None:
    begin, end = block
    for k in range(begin, end):
        values[k - begin] = k + 1 - low[k - begin]


@compiled
def _sum(values: Floats, low: Ints, total: Ints, block: Block) -> None:
    begin, end = block
    for k in range(begin, end):
        values[k - begin] = float(total[k + 1] - total[low[k - begin]]) / UNIT


@compiled
def _mean(values: Floats, low: Ints, total: Ints, block: Block) -> None:
    begin, end = block
    for k in range(begin, end):
        first = low[k - begin]
        values[k - begin] = float(total[k + 1] - total[first]) / (float(k + 1 - first) * UNIT)


@compiled
def _ratio(values: Floats, low: Ints, total: Ints, block: Block) -> None:
    begin, end = block
    for k in range(begin, end):
        first = low[k - begin]
        sum_ = total[k + 1] - total[first]
        amount = total[k + 1] - total[k]
        values[k - begin] = float(amount) * float(k + 1 - first) / float(sum_) if sum_ else 1.0


@compiled
def _since(values: Floats, groups: tuple[Ints, Ints], g: int, longest_us: int, block: Block) -> None:
    starts, at_us = groups
    begin, end = block
    while g + 1 < len(starts) and starts[g] < end:
        for k in range(max(begin, starts[g]), min(end, starts[g + 1])):
            since_us = at_us[k] - at_us[k - 1] if k > starts[g] else longest_us
            values[k - begin] = float(min(since_us, longest_us)) / AN_HOUR_US
        g += 1


@compiled
def _following(order: Codes, starts: Ints, other: Codes, n_others: int) -> Codes:
    """Return, by place, where the next event with the same key and the same other code is, _NONE without a code."""
    following = np.empty(len(order), dtype=np.int32)
    last = np.full(n_others, _NONE, dtype=np.int32)
    for g in range(len(starts) - 1):
        for k in range(starts[g], starts[g + 1]):
            code = other[order[k]]
            following[k] = _NONE
            if code >= 0:
                following[k] = _NEVER
                if last[code] >= starts[g]:
                    following[last[code]] = k
                last[code] = k
    return following


@compiled
def _count_distinct(count: Codes, groups: tuple[Ints, Ints], following: Codes, window_us: int) -> None:
    """Write the different codes in the window that ends at each place; `count` comes as zeros, one more than places.

    An event stands for its code from its own place until the code comes again or the event is too old.
    """
    starts, at_us = groups
    for g in range(len(starts) - 1):
        until, end = starts[g], starts[g + 1]
        for k in range(starts[g], end):
            edge_us = at_us[k] + window_us
            is_found = False
            if until + _STRIDE <= end:
                moved = until + (at_us[until] < edge_us) + (at_us[until + 1] < edge_us)
                moved += (at_us[until + 2] < edge_us) + (at_us[until + 3] < edge_us)
                is_found = moved < until + _STRIDE
                until = moved
            while not is_found and until < end and at_us[until] < edge_us:
                until += 1
            has_code = following[k] != _NONE
            count[k] += has_code
            count[min(following[k], until)] -= has_code
    for k in range(1, len(count)):
        count[k] += count[k - 1]
