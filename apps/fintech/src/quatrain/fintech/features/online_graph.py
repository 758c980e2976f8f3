"""Which customers and devices hang together, as the online engine knows it."""

from __future__ import annotations

from quatrain.fintech.features.names import EPOCH_US
from quatrain.fintech.features.online_plan import KeyFeatures
from quatrain.fintech.features.transaction import Order


class Components:
    """Customers by connected component, of the edges since the start of the previous 30-day epoch.

    One forest holds those edges, a second one those since the start of the present epoch, which
    takes over when it ends: no edge is ever taken out of a forest.
    """

    def __init__(self) -> None:
        self._whole = _Forest()
        self._recent = _Forest()
        self._epoch: int | None = None

    def add(self, at_us: int, customer: str | None, device: str | None) -> None:
        """Take in an edge; one that is older than the edges held is nothing any more."""
        epoch = at_us // EPOCH_US
        if self._epoch is None or epoch > self._epoch:
            is_next = self._epoch is not None and epoch == self._epoch + 1
            self._whole, self._recent = (self._recent if is_next else _Forest()), _Forest()
            self._epoch = epoch
        if customer is None or device is None or epoch < self._epoch - 1:
            return
        self._whole.join(customer, device)
        if epoch == self._epoch:
            self._recent.join(customer, device)

    def customers(self, device: str) -> int:
        """Return how many customers hang together with a device now."""
        return self._whole.customers(device)


def customers_at(order: Order, device: str, sides: tuple[KeyFeatures, KeyFeatures]) -> int:
    """Return how many customers hung together with a device at an earlier event; costs as much as they have events.

    `sides` are the histories of customers and of devices.
    """
    start_us = (order[0] // EPOCH_US - 1) * EPOCH_US
    reached: tuple[set[str], set[str]] = (set(), {device})
    waiting = [(device, 1)]
    while waiting:
        node, side = waiting.pop()
        for other in sides[side].linked(node, start_us, order):
            if other not in reached[1 - side]:
                reached[1 - side].add(other)
                waiting.append((other, 1 - side))
    return len(reached[0])


class _Forest:
    """Union-find over customers and devices that counts the customers of each tree."""

    def __init__(self) -> None:
        self._nodes: tuple[dict[str, int], dict[str, int]] = ({}, {})
        self._parent: list[int] = []
        self._count: list[int] = []

    def join(self, customer: str, device: str) -> None:
        one, other = self._root(self._node(0, customer)), self._root(self._node(1, device))
        if one != other:
            if self._count[one] < self._count[other]:
                one, other = other, one
            self._parent[other] = one
            self._count[one] += self._count[other]

    def customers(self, device: str) -> int:
        node = self._nodes[1].get(device)
        return 0 if node is None else self._count[self._root(node)]

    def _node(self, side: int, id_: str) -> int:
        node = self._nodes[side].setdefault(id_, len(self._parent))
        if node == len(self._parent):
            self._parent.append(node)
            self._count.append(1 - side)
        return node

    def _root(self, node: int) -> int:
        parent = self._parent
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node
