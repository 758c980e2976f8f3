"""Any iterator in, an iterator of answers out: reading, decoding and computing at the same time, in bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.backends.golden import InvalidOutputError
from quatrain.core.backends.memory import Halving
from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.channels import Channel
from quatrain.core.errors import UserError
from quatrain.core.inputs import Arrays, check_inputs

# What an item of its own may fail with; anything else is a bug, ends the stream and is raised.
ITEM_ERRORS = (UserError, ValueError, OSError)
# Batches on their way between two threads: one being made, one waiting.
_BATCHES_AHEAD = 2

Rows = NDArray[Any] | Mapping[str, NDArray[Any]]
Compute = Callable[[Arrays], dict[str, NDArray[Any]]]


@dataclass(frozen=True)
class Answer:
    """What became of the item at `index`: its outputs, or the error that it alone had."""

    index: int
    outputs: Mapping[str, NDArray[Any]] | None
    error: Exception | None = None

    def __getitem__(self, name: str) -> NDArray[Any]:
        if self.outputs is None:
            raise self.error or KeyError(name)
        return self.outputs[name]


@dataclass(frozen=True)
class _Item:
    index: int
    arrays: Arrays
    error: Exception | None = None

    @property
    def n_rows(self) -> int:
        return len(next(iter(self.arrays.values()))) if self.arrays else 0


def stream(
    items: Iterable[Any],
    compute: Compute,
    *,
    inputs: tuple[TensorSpec, ...],
    decode: Callable[[Any], Rows] | None = None,
    batch_size: int = 64,
    workers: int = 2,
    ahead: int | None = None,
) -> Iterator[Answer]:
    """Yield one answer for each item, in their order; see `Model.stream`."""
    if batch_size < 1 or workers < 1 or (ahead is not None and ahead < 1):
        raise ValueError(f"batch_size, workers and ahead must be at least 1, got {batch_size}, {workers}, {ahead}")
    return _Stream(
        items, compute, inputs, decode, batch_size=batch_size, workers=workers, ahead=ahead or 2 * batch_size
    ).answers()


class _Stream:
    """One thread reads, several decode, one computes; the caller's thread takes what comes."""

    def __init__(
        self,
        items: Iterable[Any],
        compute: Compute,
        inputs: tuple[TensorSpec, ...],
        decode: Callable[[Any], Rows] | None,
        *,
        batch_size: int,
        workers: int,
        ahead: int,
    ) -> None:
        self._items = items
        self._compute = Halving(compute)
        self._inputs = inputs
        self._decode = decode
        self._batch_size = batch_size
        self._workers = workers
        self._decoded: Channel[Future[_Item]] = Channel(ahead)
        self._answers: Channel[list[Answer]] = Channel(_BATCHES_AHEAD)
        self._failure: BaseException | None = None

    def answers(self) -> Iterator[Answer]:
        """Yield the answers; threads start with the first and end with the last, or when the caller closes."""
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="quatrain-decode")
        threads = [
            threading.Thread(target=self._guarded, args=args, name=f"quatrain-{args[0].__name__.strip('_')}")
            for args in ((self._read, self._decoded, pool), (self._run, self._answers))
        ]
        try:
            for thread in threads:
                thread.start()
            for several in self._answers:
                yield from several
            if self._failure is not None:
                raise self._failure
        finally:
            self._answers.close()
            self._decoded.close()
            for thread in threads:
                thread.join()
            pool.shutdown(cancel_futures=True)

    def _guarded(self, work: Callable[..., None], target: Channel[Any], *arguments: Any) -> None:
        """Do a thread's work; what it raises is raised again where the answers are taken."""
        try:
            work(*arguments)
        except BaseException as error:
            # Carried to the caller's thread, whatever it is: in this one nobody would see it.
            self._failure = self._failure or error
        finally:
            target.finish()

    def _read(self, pool: ThreadPoolExecutor) -> None:
        source = iter(self._items)
        try:
            for index, item in enumerate(source):
                if not self._decoded.put(pool.submit(self._item, index, item)):
                    return
        finally:
            # A generator's own clean-up runs in the thread that ran it.
            if hasattr(source, "close"):
                source.close()

    def _item(self, index: int, item: Any) -> _Item:
        try:
            rows = item if self._decode is None else self._decode(item)
            return _Item(index, check_inputs(self._inputs, _with_batch(self._inputs, rows)))
        except ITEM_ERRORS as error:
            return _Item(index, {}, error)

    def _run(self) -> None:
        for group in _grouped(self._results(), self._batch_size):
            if not self._answers.put(self._computed(group)):
                return

    def _results(self) -> Iterator[_Item]:
        """Yield what was decoded; a bug in the decoder ends it, so that the items before are still answered."""
        for future in self._decoded:
            if (error := future.exception()) is not None:
                self._failure = self._failure or error
                return
            yield future.result()

    def _computed(self, group: list[_Item]) -> list[Answer]:
        good = [item for item in group if item.error is None]
        outputs: dict[int, dict[str, NDArray[Any]]] = {}
        errors: dict[int, Exception] = {item.index: item.error for item in group if item.error is not None}
        try:
            outputs = self._together(good)
        except InvalidOutputError:
            # One row without a number must not cost its neighbours their answers.
            for item in good:
                try:
                    outputs |= self._together([item])
                except InvalidOutputError as error:
                    errors[item.index] = error
        return [Answer(item.index, outputs.get(item.index), errors.get(item.index)) for item in group]

    def _together(self, items: list[_Item]) -> dict[int, dict[str, NDArray[Any]]]:
        """Return the outputs by index, computed in batches of the stream's size."""
        if not items:
            return {}
        arrays = _joined([item.arrays for item in items])
        n_rows = sum(item.n_rows for item in items)
        parts = [
            self._compute({name: array[start : start + self._batch_size] for name, array in arrays.items()})
            for start in range(0, n_rows, self._batch_size)
        ]
        outputs = _joined(parts)
        found, start = {}, 0
        for item in items:
            # Copied, so that keeping one answer does not keep its whole batch.
            stop = start + item.n_rows
            is_all = stop - start == n_rows
            found[item.index] = outputs if is_all else {name: a[start:stop].copy() for name, a in outputs.items()}
            start = stop
        return found


def _grouped(items: Iterable[_Item], n_rows: int) -> Iterator[list[_Item]]:
    """Yield items in groups of at least so many rows; a group's rows have one shape."""
    group: list[_Item] = []
    rows = 0
    shape: object = None
    for item in items:
        own = {name: array.shape[1:] for name, array in item.arrays.items()}
        if group and own and shape is not None and (own != shape or rows + item.n_rows > n_rows):
            yield group
            group, rows, shape = [], 0, None
        group.append(item)
        rows += item.n_rows
        shape = own or shape
        # Items that all fail have no rows; their answers must not pile up either.
        if rows >= n_rows or len(group) >= 2 * n_rows:
            yield group
            group, rows, shape = [], 0, None
    if group:
        yield group


def _joined(several: list[Any]) -> dict[str, NDArray[Any]]:
    if len(several) == 1:
        return dict(several[0])
    return {name: np.concatenate([arrays[name] for arrays in several]) for name in several[0]}


def _with_batch(inputs: tuple[TensorSpec, ...], rows: Rows) -> Rows:
    """Return one row as a batch of one; what has its batch dimension stays as it is."""
    if isinstance(rows, np.ndarray):
        return rows[None] if len(inputs) == 1 and rows.ndim == len(inputs[0].shape) - 1 else rows
    if not isinstance(rows, Mapping):
        return rows
    ranks = {spec.name: len(spec.shape) for spec in inputs}
    is_row = all(isinstance(array, np.ndarray) and array.ndim == ranks.get(name, 0) - 1 for name, array in rows.items())
    return {name: array[None] for name, array in rows.items()} if is_row else rows
