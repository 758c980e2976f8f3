"""The offline engine: history features of every event at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from quatrain.fintech.features import kernels, label_kernels
from quatrain.fintech.features.events import Codes, Events, Ints
from quatrain.fintech.features.graph import components
from quatrain.fintech.features.kernels import Groups, Spec
from quatrain.fintech.features.label_kernels import Frauds
from quatrain.fintech.features.names import ENTITIES, EPOCH_US, LONGEST_US, Feature, missing_value, parse

Matrix = NDArray[np.float32]
# By place in the matrix.
Placed = Mapping[int, Feature]


def matrix(events: Events, names: Sequence[str], label_delay_us: int) -> Matrix:
    """Return history features, float32 of shape (len(events), len(names)).

    Every value is a function of the event and of those before it in the total order, and of the
    labels known by then. Raises ValueError for a name that is no history feature, and for a
    negative delay.
    """
    out = np.empty((len(events), len(names)), dtype=np.float32)  # (n, F)
    fill(out, {place: _feature(name) for place, name in enumerate(names)}, events, label_delay_us)
    return out


def fill(out: Matrix, placed: Placed, events: Events, label_delay_us: int) -> None:
    """Write history features into the columns of `out` that `placed` says, one row for each event."""
    if label_delay_us < 0:
        raise ValueError(f"label_delay_us must be at least 0, got {label_delay_us}")
    if not len(events):
        return
    groups: dict[tuple[str, ...], Groups] = {}
    for by in dict.fromkeys(feature.by for feature in placed.values()):
        of_key = {place: feature for place, feature in placed.items() if feature.by == by}
        _fill_key(out, of_key, events, (by, _groups(events, by, groups)), label_delay_us)
        _fill_missing(out, of_key, events, by)


def _feature(name: str) -> Feature:
    feature = parse(name)
    if feature is None:
        raise ValueError(f"{name!r} is no history feature; see quatrain.fintech.features.names")
    return feature


def _groups(events: Events, by: tuple[str, ...], known: dict[tuple[str, ...], Groups]) -> Groups:
    """Return the events of each key; a pair is its second entity's groups split by the first."""
    if by not in known:
        codes, n_codes = _codes(events, by[0])
        if len(by) == 1:
            known[by] = kernels.grouped(codes, n_codes, events.at_us, events.amount)
        else:
            known[by] = kernels.regrouped(_groups(events, by[1:], known), codes, n_codes)
    return known[by]


def _fill_key(out: Matrix, placed: Placed, events: Events, key: tuple[tuple[str, ...], Groups], delay_us: int) -> None:
    by, groups = key
    amounts = _spec(placed, kernels.AMOUNT_ORDER)
    if len(amounts.places):
        kernels.fill_amounts(out, groups, amounts, LONGEST_US)
    for place, feature in placed.items():
        if feature.kind == "max":
            kernels.fill_max(out, groups, feature.window_us, place)
    labels = _spec(placed, label_kernels.LABEL_ORDER)
    if len(labels.places):
        frauds = _frauds(events, by, groups, labels.windows_us, delay_us)
        label_kernels.fill_labels(out, groups, frauds, labels, (delay_us, LONGEST_US))
    for other in dict.fromkeys(f.of for f in placed.values() if f.of is not None):
        distinct = _spec({place: f for place, f in placed.items() if f.of == other}, ("distinct",))
        kernels.fill_distinct(out, groups, *_codes(events, other), distinct)
    for place in (place for place, feature in placed.items() if feature.kind == "component"):
        (customer, n_customers), (device, n_devices) = _codes(events, "customer"), _codes(events, "device")
        out[:, place] = components(events.at_us, customer, device, (n_customers, n_devices), EPOCH_US)


def _fill_missing(out: Matrix, placed: Placed, events: Events, by: tuple[str, ...]) -> None:
    values = np.array([missing_value(feature) for feature in placed.values()], dtype=np.float32)
    for entity in by:
        kernels.fill_missing(out, _codes(events, entity)[0], np.array(list(placed)), values)


def _frauds(events: Events, by: tuple[str, ...], groups: Groups, windows_us: Ints, delay_us: int) -> Frauds:
    fraud, group = _frauds_by_group(events, by, groups)
    at_us, known_us = events.at_us[fraud], events.known_us[fraud]
    # A label that came with the event itself is seen by later events only.
    visible_from = np.maximum(fraud + 1, np.searchsorted(events.at_us, known_us))
    expiry_us = np.minimum(known_us + windows_us[:, None], at_us + LONGEST_US + delay_us)  # (W, frauds)
    forgotten_from = np.maximum(np.searchsorted(events.at_us, expiry_us), visible_from)
    amount, by_seen = events.amount[fraud], np.lexsort((visible_from, group))
    forgotten_total = np.zeros((len(windows_us), len(fraud) + 1), dtype=np.int64)
    for window, total in zip(forgotten_from, forgotten_total, strict=True):
        by_forgotten = np.lexsort((window, group))
        window[:] = window[by_forgotten]
        np.cumsum(amount[by_forgotten], out=total[1:])
    first = np.searchsorted(group, np.arange(len(groups.starts)))
    return Frauds(
        first=first,
        visible_from=visible_from[by_seen],
        latest_us=label_kernels.running_latest(first, at_us[by_seen]),
        forgotten_from=forgotten_from,
        visible_total=np.cumsum(np.append(0, amount[by_seen])),
        forgotten_total=forgotten_total,
        happened=np.stack([at_us, visible_from, by_seen]),
    )


def _frauds_by_group(events: Events, by: tuple[str, ...], groups: Groups) -> tuple[Ints, Ints]:
    """Return the frauds, and the group of each, by group."""
    if len(by) == 1:
        fraud = np.flatnonzero(events.is_fraud)
        group = _codes(events, by[0])[0][fraud]
        order = np.argsort(group, kind="stable")[(group < 0).sum() :]
        return fraud[order], group[order].astype(np.int64)
    among = np.flatnonzero(events.is_fraud[groups.order])
    return groups.order[among].astype(np.int64), np.searchsorted(groups.starts, among, side="right") - 1


def _spec(placed: Placed, kinds: Sequence[str]) -> Spec:
    """Return the features of these kinds, in their order."""
    chosen = sorted((kinds.index(f.kind), place, f.window_us) for place, f in placed.items() if f.kind in kinds)
    windows_us = sorted({window_us for *_, window_us in chosen if window_us})
    return Spec(
        windows_us=np.array(windows_us, dtype=np.int64),
        places=np.array([place for _, place, _ in chosen], dtype=np.int64),
        windows=np.array([windows_us.index(w) if w else 0 for *_, w in chosen], dtype=np.int64),
        bounds=np.searchsorted([kind for kind, *_ in chosen], np.arange(len(kinds) + 1)),
    )


def _codes(events: Events, entity: str) -> tuple[Codes, int]:
    column = ENTITIES[entity]
    return events.codes[column], events.n_codes[column]
