"""The loops of the offline engine that look at labels: what was due, and which frauds are known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from quatrain.fintech.features.compiled import compiled
from quatrain.fintech.features.kernels import (
    AN_HOUR_US,
    BLOCK,
    UNIT,
    Block,
    Codes,
    Floats,
    Groups,
    Ints,
    Matrix,
    Spec,
    find_low,
    write,
)

# The order of kinds within Spec.
LABEL_ORDER = ("matured", "frauds", "risk", "usual", "fraud_mean", "streak", "first_fraud", "since_fraud")
_USUAL, _FRAUD_MEAN, _STREAK, _FIRST_FRAUD = (
    LABEL_ORDER.index(kind) for kind in ("usual", "fraud_mean", "streak", "first_fraud")
)


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
    # (3, frauds) as they happened: when each did, and the first event that sees it; and of those in the order in which
    # they are seen, the place in this one.
    happened: Ints


@compiled
def running_latest(first: Ints, happened_us: Ints) -> Ints:
    """Return the latest time so far within each group."""
    latest_us = happened_us.copy()
    for g in range(len(first) - 1):
        for j in range(first[g] + 1, first[g + 1]):
            latest_us[j] = max(latest_us[j], latest_us[j - 1])
    return latest_us


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
    low = np.empty((1 + len(windows_us), BLOCK), dtype=np.int64)
    seen = np.empty((1 + len(windows_us), BLOCK), dtype=np.int64)
    values = np.empty(BLOCK)
    g = 0
    for begin in range(0, len(order), BLOCK):
        block = (begin, min(begin + BLOCK, len(order)))
        while starts[g + 1] <= begin:
            g += 1
        find_low(low[0], (starts, at_us), g, delay_us, block)
        _find_seen(seen[0], (order, starts), (first, visible_from), g, block)
        for w in range(len(windows_us)):
            find_low(low[1 + w], (starts, at_us), g, delay_us + windows_us[w], block)
            _find_seen(seen[1 + w], (order, starts), (first, frauds.forgotten_from[w]), g, block)
        for f in range(len(places)):
            w = 1 + windows[f]
            kind = int(np.searchsorted(bounds, f, side="right")) - 1
            if kind < _FRAUD_MEAN:
                _due(values, kind, (low[w], low[0], seen[w], seen[0]), total, block)
            elif kind == _FRAUD_MEAN:
                _mean_between(values, (frauds.forgotten_total[w - 1], seen[w]), (frauds.visible_total, seen[0]), block)
            elif kind == _STREAK:
                _streak(values, (low[w], low[0], seen[0]), groups, frauds, (g, longest_us, block))
            elif kind == _FIRST_FRAUD:
                _first_fraud(values, (windows_us[w - 1], seen[0]), groups, frauds, (g, longest_us, block))
            else:
                _since_fraud(values, seen[0], groups, frauds, (g, longest_us, block))
            write(out, order, places[f], values, block)


@compiled
def _find_seen(seen: Ints, groups: tuple[Codes, Ints], frauds: tuple[Ints, Ints], g: int, block: Block) -> None:
    """Write, for each place, how far its group's frauds go that count from an event at or before it."""
    order, starts = groups
    first, counts_from = frauds
    begin, end = block
    so_far = seen[BLOCK - 1]
    while g + 1 < len(starts) and starts[g] < end:
        so_far = so_far if starts[g] < begin else first[g]
        for k in range(max(begin, starts[g]), min(end, starts[g + 1])):
            while so_far < first[g + 1] and counts_from[so_far] <= order[k]:
                so_far += 1
            seen[k - begin] = so_far
        g += 1


@compiled
def _due(values: Floats, kind: int, ends: tuple[Ints, Ints, Ints, Ints], total: Ints, block: Block) -> None:
    """Write what the first kinds of LABEL_ORDER say of the events that are due and the frauds that are known."""
    low, high, n_forgotten, n_seen = ends
    if kind == _USUAL:
        _mean_between(values, (total, low), (total, high), block)
        return
    for b in range(block[1] - block[0]):
        n_due, n_frauds = high[b] - low[b], n_seen[b] - n_forgotten[b]
        if kind == 0:
            values[b] = n_due
        elif kind == 1:
            values[b] = n_frauds
        else:
            values[b] = min(float(n_frauds) / float(n_due), 1.0) if n_due else 0.0


@compiled
def _mean_between(values: Floats, low: tuple[Ints, Ints], high: tuple[Ints, Ints], block: Block) -> None:
    """Write means of amounts from sums before a place and how many they are, each at both ends."""
    begin, end = block
    for b in range(end - begin):
        n = high[1][b] - low[1][b]
        values[b] = float(high[0][high[1][b]] - low[0][low[1][b]]) / (float(n) * UNIT) if n else 0.0


@compiled
def _streak(
    values: Floats, ends: tuple[Ints, Ints, Ints], groups: Groups, frauds: Frauds, at: tuple[int, int, Block]
) -> None:
    """Write how many of the places between two ends are later than the latest of the frauds that are seen."""
    starts, at_us = groups.starts, groups.at_us
    g, longest_us, (begin, end) = at
    while g + 1 < len(starts) and starts[g] < end:
        for k in range(max(begin, starts[g]), min(end, starts[g + 1])):
            low, high, so_far = ends[0][k - begin], ends[1][k - begin], ends[2][k - begin]
            if so_far > frauds.first[g] and at_us[k] - frauds.latest_us[so_far - 1] < longest_us:
                low += np.searchsorted(at_us[low:high], frauds.latest_us[so_far - 1], side="right")
            values[k - begin] = high - low
        g += 1


@compiled
def _first_fraud(
    values: Floats, of: tuple[int, Ints], groups: Groups, frauds: Frauds, at: tuple[int, int, Block]
) -> None:
    """Write the time since the first fraud of the window that is known; `of` are its length and what is seen."""
    order, starts, at_us = groups.order, groups.starts, groups.at_us
    happened_us, visible_from, by_visible = frauds.happened
    window_us, seen = of
    g, longest_us, (begin, end) = at
    while g + 1 < len(starts) and starts[g] < end:
        here, last = max(begin, starts[g]), frauds.first[g + 1]
        low, told, found = frauds.first[g], seen[here - begin], -1
        low += np.searchsorted(happened_us[low:last], at_us[here] - window_us, side="right")
        for k in range(here, min(end, starts[g + 1])):
            while low < last and happened_us[low] <= at_us[k] - window_us:
                low += 1
            while told < seen[k - begin]:
                if low <= by_visible[told] < found:
                    found = int(by_visible[told])
                told += 1
            if found < low:
                found = _next_visible(visible_from, low, last, order[k])
            since_us = at_us[k] - happened_us[found] if found < last else longest_us
            values[k - begin] = float(min(since_us, longest_us)) / AN_HOUR_US
        g += 1


@compiled
def _next_visible(visible_from: Ints, low: int, last: int, event: int) -> int:
    while low < last and visible_from[low] > event:
        low += 1
    return low


@compiled
def _since_fraud(values: Floats, seen: Ints, groups: Groups, frauds: Frauds, at: tuple[int, int, Block]) -> None:
    starts, at_us = groups.starts, groups.at_us
    first, latest_us = frauds.first, frauds.latest_us
    g, longest_us, (begin, end) = at
    while g + 1 < len(starts) and starts[g] < end:
        for k in range(max(begin, starts[g]), min(end, starts[g + 1])):
            so_far = seen[k - begin]
            since_us = at_us[k] - latest_us[so_far - 1] if so_far > first[g] else longest_us
            values[k - begin] = float(min(since_us, longest_us)) / AN_HOUR_US
        g += 1
