"""The graph of customers and the devices they share: how many customers hang together with a device."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quatrain.fintech.features.compiled import compiled

Ints = NDArray[np.int64]
Codes = NDArray[np.int32]


@compiled
def _root(parent: Codes, node: int) -> int:
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@compiled
def _join(parent: Codes, count: Codes, customer: int, device: int) -> None:
    one, other = _root(parent, customer), _root(parent, device)
    if one != other:
        if count[one] < count[other]:
            one, other = other, one
        parent[other] = one
        count[one] += count[other]


@compiled
def _reset(parent: Codes, count: Codes, node: int, n_customers: int) -> None:
    parent[node] = node
    count[node] = 1 if node < n_customers else 0


@compiled
def _forget(parent: Codes, count: Codes, customer: Codes, device: Codes, n_customers: int) -> None:
    for i in range(len(device)):
        if device[i] >= 0:
            _reset(parent, count, n_customers + device[i], n_customers)
            if customer[i] >= 0:
                _reset(parent, count, customer[i], n_customers)


@compiled
def components(at_us: Ints, customer: Codes, device: Codes, sizes: tuple[int, int], epoch_us: int) -> Ints:
    """Return, of each event, the customers in its device's component; 0 where it has no device.

    Edges are those of the events up to this one since the start of the previous epoch: one forest
    holds them, a second one those since the start of this epoch, and takes over when it ends.
    """
    n_customers, n_devices = sizes
    parents = np.empty((2, n_customers + n_devices), dtype=np.int32)
    counts = np.empty((2, n_customers + n_devices), dtype=np.int32)
    for node in range(n_customers + n_devices):
        _reset(parents[0], counts[0], node, n_customers)
        _reset(parents[1], counts[1], node, n_customers)
    result = np.zeros(len(at_us), dtype=np.int64)
    whole, recent = 0, 1
    # Where this epoch's events start, and those that the whole forest knows.
    start, oldest = 0, 0
    for i in range(len(at_us)):
        n_passed = at_us[i] // epoch_us - at_us[start] // epoch_us
        if n_passed > 0:
            _forget(parents[whole], counts[whole], customer[oldest:i], device[oldest:i], n_customers)
            whole, recent = recent, whole
            if n_passed > 1:
                _forget(parents[whole], counts[whole], customer[start:i], device[start:i], n_customers)
            oldest = start if n_passed == 1 else i
            start = i
        if device[i] < 0:
            continue
        node = n_customers + device[i]
        if customer[i] >= 0:
            _join(parents[whole], counts[whole], customer[i], node)
            _join(parents[recent], counts[recent], customer[i], node)
        result[i] = counts[whole, _root(parents[whole], node)]
    return result
