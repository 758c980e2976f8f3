"""Feeding a GPU: bytes go up from pinned memory while the batch before is computed; calls are replayed as graphs.

The same functions run on the CPU, where there is nothing to pin and nothing to capture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

# torch gives these classes no types.
_CUDA: Any = torch.cuda
Call = Callable[[torch.Tensor], torch.Tensor]
# One batch is being computed while the next is on its way.
_BUFFERS = 2
# Calls before a capture: lazy initialisation and the choice of kernels must be over (PyTorch, "CUDA semantics").
_WARM_UP_CALLS = 3


class Uploads:
    """Two pinned host buffers and two device buffers, taking turns; what is given is filled up to the batch size."""

    def __init__(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> None:
        is_cuda = device.type == "cuda"
        self._device = device
        self._host = [torch.empty(tuple(shape), dtype=dtype, pin_memory=is_cuda) for _ in range(_BUFFERS)]
        self._there = [torch.empty(tuple(shape), dtype=dtype, device=device) for _ in range(_BUFFERS)]
        self._copying = _CUDA.Stream(device) if is_cuda else None
        self._copied: list[Any] = [_CUDA.Event() if is_cuda else None for _ in range(_BUFFERS)]
        self._used: list[Any] = [_CUDA.Event() if is_cuda else None for _ in range(_BUFFERS)]

    def of(self, batches: Iterable[NDArray[Any]]) -> Iterator[tuple[torch.Tensor, int]]:
        """Yield (tensor on the device, rows that count) of each batch; a tensor is valid until the next but one."""
        waiting: tuple[int, int] | None = None
        for turn, batch in enumerate(batches):
            place = turn % _BUFFERS
            self._send(place, batch)
            if waiting is not None:
                yield self._received(*waiting)
                self._release(waiting[0])
            waiting = (place, len(batch))
        if waiting is not None:
            yield self._received(*waiting)

    def _send(self, place: int, batch: NDArray[Any]) -> None:
        n_rows = len(batch)
        if n_rows > len(self._host[place]):
            raise ValueError(f"expected at most {len(self._host[place])} rows, got {n_rows}")
        if self._copying is not None:
            # The host buffer is written again only when its copy is over, the device's when its batch is computed.
            self._copied[place].synchronize()
            self._copying.wait_event(self._used[place])
        host = self._host[place].numpy()
        host[:n_rows] = batch
        host[n_rows:] = batch[-1:]
        with torch.cuda.stream(self._copying) if self._copying is not None else nullcontext():
            self._there[place].copy_(self._host[place], non_blocking=True)
            if self._copying is not None:
                self._copied[place].record(self._copying)

    def _received(self, place: int, n_rows: int) -> tuple[torch.Tensor, int]:
        if self._copying is not None:
            torch.cuda.current_stream(self._device).wait_event(self._copied[place])
        return self._there[place], n_rows

    def _release(self, place: int) -> None:
        """Note that all work on the buffer is queued by now; the next copy into it waits for that."""
        if self._copying is not None:
            self._used[place].record(torch.cuda.current_stream(self._device))


def replayed(call: Call, example: torch.Tensor) -> Call:
    """Return `call` captured as a CUDA graph for inputs of the example's shape; on the CPU `call` itself.

    The answer lies in memory of the graph's own and is valid until the next call.
    """
    if example.device.type != "cuda":
        return call
    source = example.clone()
    side = _CUDA.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_UP_CALLS):
            call(source)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answer = call(source)

    def replay(x: torch.Tensor) -> torch.Tensor:
        source.copy_(x, non_blocking=True)
        graph.replay()
        return answer

    return replay


def half(target: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which products are in bfloat16 with float32 sums."""
    return torch.autocast(target.type, dtype=torch.bfloat16)


def answers(batches: Iterable[NDArray[Any]], call: Call, uploads: Uploads) -> Iterator[NDArray[Any]]:
    """Yield the answers to batches in host memory, in order, each fetched while the next one is computed."""
    waiting: tuple[torch.Tensor, int, Any] | None = None
    for there, n_rows in uploads.of(batches):
        answer = call(there).float()
        on_host = torch.empty(answer.shape, pin_memory=answer.is_cuda)
        on_host.copy_(answer, non_blocking=True)
        is_there = _CUDA.Event() if answer.is_cuda else None
        if is_there is not None:
            is_there.record()
        if waiting is not None:
            yield _fetched(*waiting)
        waiting = (on_host, n_rows, is_there)
    if waiting is not None:
        yield _fetched(*waiting)


def _fetched(on_host: torch.Tensor, n_rows: int, is_there: Any) -> NDArray[np.float32]:
    if is_there is not None:
        is_there.synchronize()
    found: NDArray[np.float32] = on_host[:n_rows].numpy().copy()
    return found
