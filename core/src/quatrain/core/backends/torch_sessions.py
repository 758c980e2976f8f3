"""The sealed graph run by torch: operator by operator, or compiled for each bucket."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from numpy.typing import NDArray

from quatrain.core import hardware
from quatrain.core.backends.buckets import in_buckets
from quatrain.core.backends.protocol import Arrays, BackendError, Port
from quatrain.core.backends.torch_graph import TorchGraph, torch_graph

# What torch and the operators written for it raise for what they do not cover.
_FAILURES = (RuntimeError, ValueError, TypeError, IndexError)
Run = Callable[[list[torch.Tensor], int], Sequence[torch.Tensor]]


def open_eager(onnx: bytes, *, threads: int | None = None) -> TorchSession:
    """Return the graph run by torch as it is, on the GPU where there is one.

    `threads` are those of torch in this process, which has one number for all its modules.
    """
    graph = torch_graph(onnx).to(device())
    return TorchSession("torch", graph, lambda tensors, _: graph(*tensors), threads=threads, is_padded=False)


def open_compiled(onnx: bytes, *, threads: int | None = None) -> TorchSession:
    """Return the graph compiled by torch.compile: each bucket when it is first used, which takes seconds to minutes."""
    graph = torch_graph(onnx).to(device())
    # The body has code of its own for each graph; the module around it has one for all, and
    # dynamo gives up on code that was compiled eight times.
    compiled = torch.compile(graph.body, dynamic=False, options=compiler_options(device()))
    lock = threading.Lock()

    def run(tensors: list[torch.Tensor], _: int) -> Sequence[torch.Tensor]:
        # CUDA graphs answer into memory of their own, one call at a time.
        with lock:
            answers = compiled(*tensors)
            return [answer.clone() for answer in answers] if device().type == "cuda" else answers

    return TorchSession("torch-compile", graph, run, threads=threads, is_padded=True)


class TorchSession:
    """A graph in torch that takes and gives NumPy arrays, in float32 without TF32."""

    def __init__(self, name: str, graph: TorchGraph, run: Run, *, threads: int | None, is_padded: bool) -> None:
        self._name = name
        self._graph = graph
        self._run = run
        self._is_padded = is_padded
        self._threads = threads or hardware.cpu_limit()
        self._device = device()
        self._of_thread = threading.local()

    def get_inputs(self) -> Sequence[Port]:
        """Return the graph's inputs."""
        return self._graph.inputs

    def get_outputs(self) -> Sequence[Port]:
        """Return the graph's outputs."""
        return self._graph.outputs

    def run(self, output_names: Sequence[str] | None, arrays: Arrays, /) -> list[NDArray[Any]]:
        """Return the named outputs; raises BackendError for what torch cannot compute or compile."""
        self._limit_threads()
        known = [port.name for port in self._graph.outputs]
        n_rows = len(next(iter(arrays.values())))
        try:
            answers = in_buckets(arrays, self._answers) if self._is_padded else self._answers(dict(arrays), n_rows)
        except _FAILURES as error:
            reason = str(error).strip().partition("\n")[0]
            raise BackendError(f"{self._name} cannot compute this batch of {n_rows}: {reason}") from error
        places = range(len(known)) if output_names is None else [known.index(name) for name in output_names]
        return [answers[place] for place in places]

    def _answers(self, arrays: dict[str, NDArray[Any]], n_rows: int) -> list[NDArray[Any]]:
        tensors = [_tensor(arrays[port.name]).to(self._device) for port in self._graph.inputs]
        with torch.inference_mode(), exact(self._device):
            outputs = self._run(tensors, n_rows)
        answers: list[NDArray[Any]] = [output.cpu().contiguous().numpy() for output in outputs]
        if self._is_padded and any(len(answer) != n_rows for answer in answers):
            raise RuntimeError("an output does not have one row for each row of the input")
        return answers

    def _limit_threads(self) -> None:
        # OpenMP keeps the number for each calling thread.
        if not getattr(self._of_thread, "is_limited", False):
            torch.set_num_threads(self._threads)
            self._of_thread.is_limited = True


def device() -> torch.device:
    """Return the first GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compiler_options(target: torch.device) -> dict[str, Any]:
    """Return what the compiler is told: weights are constants, and on a GPU calls are replayed as CUDA graphs."""
    if target.type == "cuda":
        return {"triton.cudagraphs": True, "max_autotune": True}
    return {"freezing": True}


def exact(target: torch.device) -> AbstractContextManager[None]:
    """Return a context in which a GPU's convolutions keep all bits of float32; products do by default."""
    return torch.backends.cudnn.flags(allow_tf32=False) if target.type == "cuda" else nullcontext()


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    # torch has no read-only tensors and warns of arrays that are.
    return torch.from_numpy(array if array.flags.writeable else array.copy())
