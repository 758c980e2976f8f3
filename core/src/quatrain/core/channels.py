"""A bounded queue between two threads that either side may close."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Channel(Generic[T]):
    """At most `size` items on their way; who puts waits for room, who iterates for items."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._is_finished = False
        self._is_closed = False

    def put(self, item: T) -> bool:
        """Wait for room and add the item; return False, and drop it, once the reader has closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or len(self._items) < self._size)
            if self._is_closed:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def finish(self) -> None:
        """Say that nothing more comes; what is on its way still arrives."""
        with self._changed:
            self._is_finished = True
            self._changed.notify_all()

    def close(self) -> None:
        """Say that nothing more is wanted; what is on its way is dropped."""
        with self._changed:
            self._is_closed = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._items) or self._is_finished or self._is_closed)
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
