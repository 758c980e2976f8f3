"""Components over two epochs, in both engines, against a graph library that sees all edges at once."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array  # type: ignore[import-untyped]  # ships no types
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]  # ships no types

from quatrain.fintech.features.graph import components
from quatrain.fintech.features.names import EPOCH_US
from quatrain.fintech.features.online_graph import Components

N_CUSTOMERS, N_DEVICES = 60, 80


def test_components_are_those_of_the_edges_of_two_epochs() -> None:
    """Epochs with events, without, and skipped; events without a device or a customer."""
    rng = np.random.default_rng(0)
    epoch = np.sort(rng.choice([0, 1, 2, 3, 5, 6, 9], 700))
    at_us = np.sort(epoch * EPOCH_US + rng.integers(0, EPOCH_US, 700))
    customer = rng.integers(-1, N_CUSTOMERS, 700, dtype=np.int32)
    device = rng.integers(-1, N_DEVICES, 700, dtype=np.int32)
    found = components(at_us, customer, device, (N_CUSTOMERS, N_DEVICES), EPOCH_US)
    online, largest = Components(), 0
    for i in range(700):
        is_edge = (
            (np.arange(700) <= i) & (at_us // EPOCH_US >= at_us[i] // EPOCH_US - 1) & (customer >= 0) & (device >= 0)
        )
        edges = (np.ones(is_edge.sum()), (customer[is_edge], N_CUSTOMERS + device[is_edge]))
        n_nodes = N_CUSTOMERS + N_DEVICES
        label = connected_components(coo_array(edges, shape=(n_nodes, n_nodes)), directed=False)[1]
        wanted = (label[:N_CUSTOMERS] == label[N_CUSTOMERS + device[i]]).sum() if device[i] >= 0 else 0
        assert found[i] == wanted
        online.add(int(at_us[i]), *(str(code) if code >= 0 else None for code in (customer[i], device[i])))
        assert device[i] < 0 or online.customers(str(device[i])) == wanted
        largest = max(largest, wanted)
    assert largest > 20


def test_an_edge_that_came_late_counts_in_its_own_epoch() -> None:
    """One of the epoch before joins what is held; one older than that joins nothing."""
    graph = Components()
    graph.add(10 * EPOCH_US, "a", "d")
    graph.add(9 * EPOCH_US, "b", "d")
    graph.add(8 * EPOCH_US, "c", "d")
    assert graph.customers("d") == 2
    graph.add(11 * EPOCH_US, "e", "f")
    assert [graph.customers(device) for device in ("d", "f", "never seen")] == [1, 1, 0]
