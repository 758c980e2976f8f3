"""The loops of the offline engine: events grouped by key, each window's ends moving forward only.

A key's events are `order[starts[g]:starts[g + 1]]`, in total order. Results go straight into the
matrix, (n, F); `places`, `kinds` and `windows` say for each feature its column, its kind and
which of the window lengths it uses. Every value is float32 of one float64 expression over exact
integers; the online engine writes the same expressions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quatrain.fintech.features.compiled import compiled

Ints = NDArray[np.int64]
Codes = NDArray[np.int32]
Matrix = NDArray[np.float32]

COUNT, SUM, MEAN, RATIO, SINCE, MATURED, FRAUDS, RISK, SINCE_FRAUD = range(9)
_UNIT = 10_000.0
_HOUR_US = 3.6e9
# Later than every place in a group.
_NEVER = np.int32(2**31 - 1)


@compiled
def grouped(codes: Codes, n_codes: int) -> tuple[Codes, Ints]:
    """Return the events that have a code, sorted by it and stable, and where each code's events start."""
    starts = np.zeros(n_codes + 1, dtype=np.int64)
    for i in range(len(codes)):
        if codes[i] >= 0:
            starts[codes[i] + 1] += 1
    for g in range(n_codes):
        starts[g + 1] += starts[g]
    order = np.empty(starts[n_codes], dtype=np.int32)
    free = starts[:n_codes].copy()
    for i in range(len(codes)):
        code = codes[i]
        if code >= 0:
            order[free[code]] = i
            free[code] += 1
    return order, starts


@compiled
def regrouped(order: Codes, starts: Ints, codes: Codes, n_codes: int) -> tuple[Codes, Ints]:
    """Return groups split further: sorted by `codes`, then by the group that each event was in."""
    free = np.zeros(n_codes + 1, dtype=np.int64)
    for k in range(len(order)):
        if codes[order[k]] >= 0:
            free[codes[order[k]] + 1] += 1
    for code in range(n_codes):
        free[code + 1] += free[code]
    n_kept = free[n_codes]
    finer = np.empty(n_kept, dtype=np.int32)
    is_start = np.zeros(n_kept, dtype=np.bool_)
    last = np.full(n_codes, -1, dtype=np.int64)
    for g in range(len(starts) - 1):
        for k in range(starts[g], starts[g + 1]):
            code = codes[order[k]]
            if code >= 0:
                finer[free[code]] = order[k]
                is_start[free[code]] = last[code] != g
                last[code] = g
                free[code] += 1
    return finer, np.append(np.flatnonzero(is_start), n_kept)


@compiled
def fill_missing(out: Matrix, codes: Codes, places: Ints, values: Matrix) -> None:
    """Write what stands for a missing key into the rows without a code; `values` has one per place."""
    for i in range(len(codes)):
        if codes[i] < 0:
            for f in range(len(places)):
                out[i, places[f]] = values[f]


@compiled
def fill_amounts(
    out: Matrix,
    groups: tuple[Codes, Ints],
    events: tuple[Ints, Ints],
    spec: tuple[Ints, Ints, Ints],
    windows_us: Ints,
    longest_us: int,
) -> None:
    """Write counts, sums, means, ratios and times since; `events` are (at_us, amount), `spec` (places, kinds, windows)."""
    order, starts = groups
    at_us, amount = events
    places, kinds, windows = spec
    n = len(order)
    at = np.empty(n, dtype=np.int64)
    total = np.empty(n + 1, dtype=np.int64)
    total[0] = 0
    for k in range(n):
        at[k] = at_us[order[k]]
        total[k + 1] = total[k] + amount[order[k]]
    low = np.empty(len(windows_us), dtype=np.int64)
    for g in range(len(starts) - 1):
        low[:] = starts[g]
        for k in range(starts[g], starts[g + 1]):
            i, now = order[k], at[k]
            for w in range(len(windows_us)):
                while at[low[w]] <= now - windows_us[w]:
                    low[w] += 1
            for f in range(len(places)):
                kind = kinds[f]
                if kind == SINCE:
                    since = now - at[k - 1] if k > starts[g] else longest_us
                    out[i, places[f]] = min(since, longest_us) / _HOUR_US
                    continue
                first = low[windows[f]]
                count = k + 1 - first
                sum_ = total[k + 1] - total[first]
                if kind == COUNT:
                    out[i, places[f]] = count
                elif kind == SUM:
                    out[i, places[f]] = sum_ / _UNIT
                elif kind == MEAN:
                    out[i, places[f]] = sum_ / (count * _UNIT)
                elif sum_ == 0:
                    out[i, places[f]] = 1.0
                else:
                    out[i, places[f]] = float(total[k + 1] - total[k]) * float(count) / float(sum_)


@compiled
def fill_labels(
    out: Matrix,
    groups: tuple[Codes, Ints],
    at_us: Ints,
    frauds: tuple[Ints, Ints, Ints, Ints],
    spec: tuple[Ints, Ints, Ints],
    windows_us: Ints,
    delay_us: int,
    longest_us: int,
) -> None:
    """Write what labels say: events whose label was due, frauds known by now, their share, time since the latest.

    `frauds` are (first, visible_from, happened_us, forgotten_from): of each group where its frauds
    start; of each fraud, sorted by it within the group, the index of the event that sees it first;
    when it happened; and, for each window (rows), sorted within the group, the index of the event
    that no longer sees a fraud.
    """
    order, starts = groups
    first, visible_from, happened_us, forgotten_from = frauds
    places, kinds, windows = spec
    n_windows = len(windows_us)
    at = np.empty(len(order), dtype=np.int64)
    for k in range(len(order)):
        at[k] = at_us[order[k]]
    low = np.empty(n_windows, dtype=np.int64)
    gone = np.empty(n_windows, dtype=np.int64)
    for g in range(len(starts) - 1):
        low[:] = starts[g]
        gone[:] = first[g]
        high = starts[g]
        known = first[g]
        latest = at_us[0] - longest_us
        for k in range(starts[g], starts[g + 1]):
            i, now = order[k], at[k]
            while high < k and at[high] + delay_us <= now:
                high += 1
            while known < first[g + 1] and visible_from[known] <= i:
                latest = max(latest, happened_us[known])
                known += 1
            for w in range(n_windows):
                while low[w] < high and at[low[w]] + delay_us <= now - windows_us[w]:
                    low[w] += 1
                while gone[w] < first[g + 1] and forgotten_from[w, gone[w]] <= i:
                    gone[w] += 1
            for f in range(len(places)):
                kind = kinds[f]
                if kind == SINCE_FRAUD:
                    out[i, places[f]] = min(now - latest, longest_us) / _HOUR_US
                    continue
                n_matured = high - low[windows[f]]
                n_frauds = known - gone[windows[f]]
                if kind == MATURED:
                    out[i, places[f]] = n_matured
                elif kind == FRAUDS:
                    out[i, places[f]] = n_frauds
                elif n_matured == 0:
                    out[i, places[f]] = 0.0
                else:
                    out[i, places[f]] = min(float(n_frauds) / float(n_matured), 1.0)


@compiled
def fill_distinct(
    out: Matrix,
    groups: tuple[Codes, Ints],
    at_us: Ints,
    others: tuple[Codes, int],
    spec: tuple[Ints, Ints],
    windows_us: Ints,
) -> None:
    """Write how many different codes of another column each window holds; `others` are (codes, how many there are)."""
    order, starts = groups
    other, n_others = others
    places, windows = spec
    n = len(order)
    at = np.empty(n, dtype=np.int64)
    # The place of the next event with the same key and the same other id, as far as it was seen.
    following = np.empty(n, dtype=np.int32)
    last = np.full(n_others, -1, dtype=np.int32)
    low = np.empty(len(windows_us), dtype=np.int64)
    count = np.empty(len(windows_us), dtype=np.int64)
    for k in range(n):
        at[k] = at_us[order[k]]
    for g in range(len(starts) - 1):
        low[:] = starts[g]
        count[:] = 0
        for k in range(starts[g], starts[g + 1]):
            i, now = order[k], at[k]
            code = other[i]
            previous = last[code] if code >= 0 else _NEVER
            for w in range(len(windows_us)):
                while at[low[w]] <= now - windows_us[w]:
                    count[w] -= following[low[w]] == _NEVER
                    low[w] += 1
                count[w] += previous < low[w]
            following[k] = _NEVER if code >= 0 else 0
            if code >= 0:
                if previous >= starts[g]:
                    following[previous] = k
                last[code] = k
            for f in range(len(places)):
                out[i, places[f]] = count[windows[f]]
