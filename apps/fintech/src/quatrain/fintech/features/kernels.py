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

# The order of kinds within Spec: for fill_amounts, and for fill_labels. "max" has a loop of its own.
AMOUNT_ORDER = ("count", "sum", "mean", "ratio", "since")
LABEL_ORDER = ("matured", "frauds", "risk", "usual", "fraud_mean", "streak", "first_fraud", "since_fraud")
_UNIT = 10_000.0
_HOUR_US = 3.6e9
# Events that an edge moves past at once: mostly fewer are due, and comparing four costs less than guessing how many.
_STRIDE = 4
# Places that one step handles: what they need stays in the fastest cache.
_BLOCK = 1024
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


class Frauds(NamedTuple):
    """Frauds by key: who sees one is told by event index, so equal timestamps need no care."""

    first: Ints  # (groups + 1,) where each group's frauds start
    visible_from: Ints  # (frauds,) sorted within the group: the first event that sees the fraud
    latest_us: Ints  # (frauds,) when the latest of the group's frauds up to this one happened
    # (windows, frauds) sorted within the group: the first event that sees one fraud less.
    forgotten_from: Ints
    # Sums of the amounts before each fraud in those orders: (frauds + 1,) and (windows, frauds + 1).
    visible_total: Ints
    forgotten_total: Ints
    # (2, frauds) as they happened: when each did, and the first event that sees it.
    happened: Ints


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
def running_latest(first: Ints, happened_us: Ints) -> Ints:
    """Return the latest time so far within each group."""
    latest_us = happened_us.copy()
    for g in range(len(first) - 1):
        for j in range(first[g] + 1, first[g + 1]):
            latest_us[j] = max(latest_us[j], latest_us[j - 1])
    return latest_us


@compiled
def fill_amounts(out: Matrix, groups: Groups, spec: Spec, longest_us: int) -> None:
    """Write counts, sums, means, ratios and times since."""
    order, starts, at_us, total = groups
    windows_us, places, windows, bounds = spec
    low = np.empty((len(windows_us), _BLOCK), dtype=np.int64)
    values = np.empty(_BLOCK)
    g = 0
    for begin in range(0, len(order), _BLOCK):
        block = (begin, min(begin + _BLOCK, len(order)))
        while starts[g + 1] <= begin:
            g += 1
        for w in range(len(windows_us)):
            _find_low(low[w], (starts, at_us), g, windows_us[w], block)
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
            _write(out, order, places[f], values, block)


@compiled
def fill_labels(out: Matrix, groups: Groups, frauds: Frauds, spec: Spec, reach_us: tuple[int, int]) -> None:
    """Write how many events' labels were due, how many frauds are known, their share, and how old the latest is.

    `reach_us` are the label delay and what no time since exceeds.
    """
    order, starts, at_us, total = groups
    first, visible_from = frauds.first, frauds.visible_from
    windows_us, places, windows, bounds = spec
    delay_us, longest_us = reach_us
    # Row 0 is where the window ends, or what is seen at all; the others are what each window leaves out.
    low = np.empty((1 + len(windows_us), _BLOCK), dtype=np.int64)
    seen = np.empty((1 + len(windows_us), _BLOCK), dtype=np.int64)
    values = np.empty(_BLOCK)
    g = 0
    for begin in range(0, len(order), _BLOCK):
        block = (begin, min(begin + _BLOCK, len(order)))
        while starts[g + 1] <= begin:
            g += 1
        _find_low(low[0], (starts, at_us), g, delay_us, block)
        _find_seen(seen[0], (order, starts), (first, visible_from), g, block)
        for w in range(len(windows_us)):
            _find_low(low[1 + w], (starts, at_us), g, delay_us + windows_us[w], block)
            _find_seen(seen[1 + w], (order, starts), (first, frauds.forgotten_from[w]), g, block)
        for f in range(len(places)):
            w = 1 + windows[f]
            if f < bounds[1]:
                values[:] = low[0] - low[w]
            elif f < bounds[2]:
                values[:] = seen[0] - seen[w]
            elif f < bounds[3]:
                _share(values, seen[0] - seen[w], low[0] - low[w])
            elif f < bounds[4]:
                _mean_between(values, (total, low[w]), (total, low[0]), block)
            elif f < bounds[5]:
                _mean_between(values, (frauds.forgotten_total[w - 1], seen[w]), (frauds.visible_total, seen[0]), block)
            elif f < bounds[6]:
                _streak(values, (low[w], low[0]), seen[0], groups, frauds, (g, longest_us, block))
            elif f < bounds[7]:
                _first_fraud(values, windows_us[w - 1], groups, frauds, (g, longest_us, block))
            else:
                _since_fraud(values, seen[0], groups, frauds, (g, longest_us, block))
            _write(out, order, places[f], values, block)


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
            out[order[k], place] = float(largest) / _UNIT
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
    values = np.empty(_BLOCK)
    for begin in range(0, len(order), _BLOCK):
        end = min(begin + _BLOCK, len(order))
        for f in range(len(places)):
            values[: end - begin] = count[windows[f], begin:end]
            _write(out, order, places[f], values, (begin, end))


@compiled
def _write(out: Matrix, order: Codes, place: int, values: Floats, block: Block) -> None:
    begin, end = block
    for k in range(begin, end):
        out[order[k], place] = values[k - begin]


@compiled
def _find_low(low: Ints, groups: tuple[Ints, Ints], g: int, window_us: int, block: Block) -> None:
    """Write, for each place, the first one in its group within the window that ends there.

    `low` holds the block before; an event is never past its own place, even where the window is 0.
    """
    starts, at_us = groups
    begin, end = block
    first = low[_BLOCK - 1]
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
def _find_seen(seen: Ints, groups: tuple[Codes, Ints], frauds: tuple[Ints, Ints], g: int, block: Block) -> None:
    """Write, for each place, how far its group's frauds go that count from an event at or before it."""
    order, starts = groups
    first, counts_from = frauds
    begin, end = block
    so_far = seen[_BLOCK - 1]
    while g + 1 < len(starts) and starts[g] < end:
        so_far = so_far if starts[g] < begin else first[g]
        for k in range(max(begin, starts[g]), min(end, starts[g + 1])):
            while so_far < first[g + 1] and counts_from[so_far] <= order[k]:
                so_far += 1
            seen[k - begin] = so_far
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
        values[k - begin] = float(total[k + 1] - total[low[k - begin]]) / _UNIT


@compiled
def _mean(values: Floats, low: Ints, total: Ints, block: Block) -> None:
    begin, end = block
    for k in range(begin, end):
        first = low[k - begin]
        values[k - begin] = float(total[k + 1] - total[first]) / (float(k + 1 - first) * _UNIT)


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
            values[k - begin] = float(min(since_us, longest_us)) / _HOUR_US
        g += 1


@compiled
def _share(values: Floats, n_frauds: Ints, n_due: Ints) -> None:
    for b in range(_BLOCK):
        values[b] = min(float(n_frauds[b]) / float(n_due[b]), 1.0) if n_due[b] else 0.0


@compiled
def _mean_between(values: Floats, low: tuple[Ints, Ints], high: tuple[Ints, Ints], block: Block) -> None:
    """Write means of amounts from sums before a place and how many they are, each at both ends."""
    begin, end = block
    for b in range(end - begin):
        n = high[1][b] - low[1][b]
        values[b] = float(high[0][high[1][b]] - low[0][low[1][b]]) / (float(n) * _UNIT) if n else 0.0


@compiled
def _streak(
    values: Floats, due: tuple[Ints, Ints], seen: Ints, groups: Groups, frauds: Frauds, at: tuple[int, int, Block]
) -> None:
    """Write how many of the places between the two ends of `due` are later than the latest known fraud."""
    starts, at_us = groups.starts, groups.at_us
    g, longest_us, (begin, end) = at
    while g + 1 < len(starts) and starts[g] < end:
        for k in range(max(begin, starts[g]), min(end, starts[g + 1])):
            low, high, so_far = due[0][k - begin], due[1][k - begin], seen[k - begin]
            if so_far > frauds.first[g] and at_us[k] - frauds.latest_us[so_far - 1] < longest_us:
                low += np.searchsorted(at_us[low:high], frauds.latest_us[so_far - 1], side="right")
            values[k - begin] = high - low
        g += 1


@compiled
def _first_fraud(values: Floats, window_us: int, groups: Groups, frauds: Frauds, at: tuple[int, int, Block]) -> None:
    """Write the time since the first fraud of the window that is known; labels come late, so few are passed over."""
    order, starts, at_us = groups.order, groups.starts, groups.at_us
    happened_us, visible_from = frauds.happened
    g, longest_us, (begin, end) = at
    while g + 1 < len(starts) and starts[g] < end:
        last = frauds.first[g + 1]
        low = frauds.first[g]
        for k in range(max(begin, starts[g]), min(end, starts[g + 1])):
            if k == max(begin, starts[g]):
                low += np.searchsorted(happened_us[low:last], at_us[k] - window_us, side="right")
            while low < last and happened_us[low] <= at_us[k] - window_us:
                low += 1
            found = low
            while found < last and happened_us[found] <= at_us[k] and visible_from[found] > order[k]:
                found += 1
            is_found = found < last and happened_us[found] <= at_us[k]
            since_us = at_us[k] - happened_us[found] if is_found else longest_us
            values[k - begin] = float(min(since_us, longest_us)) / _HOUR_US
        g += 1


@compiled
def _since_fraud(values: Floats, seen: Ints, groups: Groups, frauds: Frauds, at: tuple[int, int, Block]) -> None:
    starts, at_us = groups.starts, groups.at_us
    first, latest_us = frauds.first, frauds.latest_us
    g, longest_us, (begin, end) = at
    while g + 1 < len(starts) and starts[g] < end:
        for k in range(max(begin, starts[g]), min(end, starts[g + 1])):
            so_far = seen[k - begin]
            since_us = at_us[k] - latest_us[so_far - 1] if so_far > first[g] else longest_us
            values[k - begin] = float(min(since_us, longest_us)) / _HOUR_US
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
