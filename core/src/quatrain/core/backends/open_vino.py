"""OpenVINO on the CPU, in float32 whatever the processor would rather do."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core import hardware
from quatrain.core.backends.buckets import BUCKETS
from quatrain.core.backends.protocol import Arrays, BackendError, Port
from quatrain.core.errors import require

if TYPE_CHECKING:
    import openvino  # type: ignore[import-untyped]  # ships no types

# OpenVINO's names of element types, as ONNX Runtime spells them.
_TYPES = {
    "f16": "float16", "f32": "float", "f64": "double", "boolean": "bool",
    "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
    "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64",
}  # fmt: skip


def open_session(onnx: bytes, *, threads: int | None = None) -> OpenVinoSession:
    """Return the graph compiled by OpenVINO; raises BackendError for operators that it does not have."""
    openvino = require("openvino", package="quatrain-core[openvino]")
    core = openvino.Core()
    try:
        return OpenVinoSession(core, core.read_model(onnx), threads=threads or hardware.cpu_limit())
    except RuntimeError as error:
        raise BackendError(f"openvino does not take this graph: {_reason(error)}") from error


class OpenVinoSession:
    """A graph in OpenVINO; a batch of a bucket's size gets kernels made for just that size."""

    def __init__(self, core: openvino.Core, model: openvino.Model, *, threads: int) -> None:
        self._core = core
        self._model = model
        self._options = _options(threads)
        self._inputs = [_port(each) for each in model.inputs]
        self._outputs = [_port(each) for each in model.outputs]
        self._lock = threading.Lock()
        self._any_size = _Requests(core.compile_model(model, "CPU", self._options))
        self._of_size: dict[int, _Requests] = {}

    def get_inputs(self) -> Sequence[Port]:
        """Return the graph's inputs."""
        return self._inputs

    def get_outputs(self) -> Sequence[Port]:
        """Return the graph's outputs."""
        return self._outputs

    def run(self, output_names: Sequence[str] | None, arrays: Arrays, /) -> list[NDArray[Any]]:
        """Return the named outputs; raises BackendError for what OpenVINO cannot compute."""
        known = [port.name for port in self._outputs]
        places = range(len(known)) if output_names is None else [known.index(name) for name in output_names]
        fed = [arrays[port.name] for port in self._inputs]
        try:
            with self._requests(len(fed[0])).one() as request:
                # Shared and not copied in; out it must be copied, since the request writes there again.
                answers = request.infer(fed, share_inputs=True, share_outputs=True)
                return [np.array(answers[place]) for place in places]
        except RuntimeError as error:
            raise BackendError(f"openvino cannot compute this batch: {_reason(error)}") from error

    def _requests(self, n_rows: int) -> _Requests:
        if n_rows not in BUCKETS:
            return self._any_size
        with self._lock:
            if n_rows not in self._of_size:
                self._of_size[n_rows] = self._compiled(n_rows)
        return self._of_size[n_rows]

    def _compiled(self, n_rows: int) -> _Requests:
        shapes = [each.get_partial_shape() for each in self._model.inputs]
        if not all(shape[0].is_dynamic and all(size.is_static for size in list(shape)[1:]) for shape in shapes):
            return self._any_size
        fixed = self._model.clone()
        fixed.reshape(
            {each.get_any_name(): [n_rows, *(size.get_length() for size in list(shape)[1:])]
             for each, shape in zip(self._model.inputs, shapes, strict=True)}
        )  # fmt: skip
        try:
            return _Requests(self._core.compile_model(fixed, "CPU", self._options))
        except RuntimeError:
            # A graph may name a batch in its constants; at any size it still runs.
            return self._any_size


class _Requests:
    """Inference requests of one compiled model; each serves one thread at a time."""

    def __init__(self, compiled: openvino.CompiledModel) -> None:
        self._compiled = compiled
        self._idle: queue.LifoQueue[openvino.InferRequest] = queue.LifoQueue()

    @contextmanager
    def one(self) -> Iterator[openvino.InferRequest]:
        """Give a request that no other thread uses."""
        try:
            request = self._idle.get_nowait()
        except queue.Empty:
            request = self._compiled.create_infer_request()
        try:
            yield request
        finally:
            self._idle.put(request)


def _options(threads: int) -> dict[str, Any]:
    from openvino import properties
    from openvino.properties import hint  # type: ignore[import-untyped]  # ships no types

    return {
        # On processors with AMX the default is bfloat16, which keeps eight bits of the fraction.
        hint.inference_precision: "f32",
        hint.execution_mode: hint.ExecutionMode.ACCURACY,
        hint.performance_mode: hint.PerformanceMode.LATENCY,
        hint.enable_cpu_pinning: False,
        properties.inference_num_threads: threads,
        properties.num_streams: 1,
    }


def _port(node: Any) -> Port:
    name = node.get_element_type().get_type_name()
    return Port(name=node.get_any_name(), type=f"tensor({_TYPES.get(name, name)})")


def _reason(error: Exception) -> str:
    """Return the lines of OpenVINO's report that say what is wrong; others name its own sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    findings = [line.removeprefix("-- ") for line in lines if line.startswith("-- ")]
    return "; ".join(findings) or (lines[-1] if lines else type(error).__name__)
