"""ONNX Runtime: the default on the CPU, and on CUDA or TensorRT with the CPU behind them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from quatrain.core import hardware
from quatrain.core.backends.protocol import Arrays, Session
from quatrain.core.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from onnxruntime import InferenceSession  # type: ignore[import-untyped]  # ships no types

_LOG = logging.getLogger(__name__)
# ONNX Runtime's own severities; its messages also come as exceptions, so stderr need not repeat them.
_FATAL_ONLY = 4
_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
# TF32 keeps ten bits of the fraction: no golden output of a float32 model would be reproduced.
_OPTIONS: dict[str, dict[str, str]] = {"cuda": {"use_tf32": "0"}}


def open_session(onnx: bytes, *, threads: int | None = None, providers: Sequence[str] = ("cpu",)) -> Session:
    """Return an ONNX Runtime session; `threads` None follows affinity and the cgroup's quota.

    `providers` are tried in this order: "tensorrt", "cuda", "cpu". One that is not there or fails,
    at opening or later, is left out with one warning, and the CPU gives the answers.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    for provider in providers:
        if provider not in _PROVIDERS:
            raise UsageError(f"unknown provider {provider!r}{did_you_mean(provider, _PROVIDERS)}")
    wanted = [provider for provider in _present(providers) if provider != "cpu"]
    if not wanted:
        session: Session = _opened(onnx, threads, [])
        return session
    return _WithFallback(onnx, threads, wanted)


def open_cuda(onnx: bytes, *, threads: int | None = None) -> Session:
    """Return a session on the GPU, on the CPU with a warning where there is none."""
    return open_session(onnx, threads=threads, providers=("cuda",))


def open_tensorrt(onnx: bytes, *, threads: int | None = None) -> Session:
    """Return a session on the GPU by TensorRT, what it cannot run by CUDA, and on the CPU without either."""
    return open_session(onnx, threads=threads, providers=("tensorrt", "cuda"))


def runtime_errors() -> tuple[type[Exception], ...]:
    """Return ONNX Runtime's exceptions, which have no base class of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # type: ignore[import-untyped]  # ships no types

    return tuple(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))


class _WithFallback:
    """A session on a GPU that goes on on the CPU when the GPU fails, with one warning."""

    def __init__(self, onnx: bytes, threads: int | None, providers: Sequence[str]) -> None:
        self._onnx = onnx
        self._threads = threads
        self._lock = threading.Lock()
        self._is_on_cpu = False
        try:
            self._session = _opened(onnx, threads, providers)
        except _failures() as error:
            self._session = self._on_cpu(error)
        # ONNX Runtime leaves out a provider whose libraries it cannot load, and goes on.
        missing = [name for name in providers if _PROVIDERS[name] not in self._session.get_providers()]
        if missing and not self._is_on_cpu:
            _LOG.warning("ONNX Runtime cannot load %s here and goes on without; run `quatrain doctor`", missing)

    def get_inputs(self) -> Sequence[Any]:
        """Return the graph's inputs."""
        return list(self._session.get_inputs())

    def get_outputs(self) -> Sequence[Any]:
        """Return the graph's outputs."""
        return list(self._session.get_outputs())

    def run(self, output_names: Sequence[str] | None, arrays: Arrays, /) -> list[NDArray[Any]]:
        """Return the named outputs."""
        session = self._session
        try:
            return list(session.run(output_names, arrays))
        except _failures() as error:
            with self._lock:
                if not self._is_on_cpu:
                    self._session = self._on_cpu(error)
            if session is self._session:
                raise
        return list(self._session.run(output_names, arrays))

    def _on_cpu(self, error: Exception) -> InferenceSession:
        self._is_on_cpu = True
        reason = str(error).strip().partition("\n")[0]
        _LOG.warning("ONNX Runtime fails on the GPU and goes on on the CPU: %s", reason)
        return _opened(self._onnx, self._threads, [])


def _failures() -> tuple[type[Exception], ...]:
    return (*runtime_errors(), RuntimeError, ValueError)


def _present(providers: Sequence[str]) -> list[str]:
    """Return the providers that this build of ONNX Runtime has, with one warning for the others."""
    if set(providers) <= {"cpu"}:
        return list(providers)
    import onnxruntime

    built = onnxruntime.get_available_providers()
    missing = [provider for provider in providers if _PROVIDERS[provider] not in built]
    if missing:
        names = ", ".join(missing)
        _LOG.warning("this ONNX Runtime has no %s and goes on without; `pip install onnxruntime-gpu` has it", names)
    return [provider for provider in providers if provider not in missing]


def _opened(onnx: bytes, threads: int | None, providers: Sequence[str]) -> InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or hardware.cpu_limit()
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    # Workers that spin between calls burn a core each while a batch job reads its next file.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    listed = [(_PROVIDERS[name], _OPTIONS.get(name, {})) for name in [*providers, "cpu"]]
    # Its own fallback prints to stdout, where --json promises one object and nothing else.
    return onnxruntime.InferenceSession(onnx, options, providers=listed, enable_fallback=0)
