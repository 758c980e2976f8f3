"""What a graph costs as ONNX Runtime runs it: multiply-accumulates, the share in integers, and time."""

from __future__ import annotations

import json
import math
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quatrain.core.compression.measures import Arrays
from quatrain.core.compression.sessions import looking_session
from quatrain.core.inference import Session

# Kernels that multiply by int8 weights or activations, by the place of their weights among the inputs.
_INTEGER_CONV = {"QLinearConv": 3, "ConvInteger": 1}
_INTEGER_MATMUL = frozenset(
    {"QLinearMatMul", "QGemm", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"}
)
_FLOAT_CONV = {"Conv": 1, "FusedConv": 1, "NhwcFusedConv": 1}
# What MatMulNBits computes in is up to its accuracy level, which a profile does not tell: it counts as float.
_FLOAT_MATMUL = frozenset({"MatMul", "Gemm", "FusedMatMul", "FusedGemm", "MatMulNBits"})
# CPU seconds that one measurement takes at least, so that the clock's grain does not show.
_LEAST_SECONDS = 2e-3


@dataclass(frozen=True)
class Cost:
    """What one row costs: multiply-accumulates, those in integer kernels, and how many such kernels run."""

    macs: int
    integer_macs: int
    integer_kernels: int

    @property
    def integer_share(self) -> float:
        """Share of multiply-accumulates done in integers, in [0, 1]."""
        return self.integer_macs / self.macs if self.macs else 0.0


def cost_of(onnx: bytes, inputs: Arrays) -> Cost:
    """Return what ONNX Runtime ran for the first row of `inputs`, read from its own profile.

    A graph may hold int8 weights and still be computed in float: only kernels that ran count. Counted are
    convolutions and matrix products.
    """
    macs = integer_macs = integer_kernels = 0
    for kernel, sources, target in _profile(onnx, {name: array[:1] for name, array in inputs.items()}):
        n = _macs(kernel, sources, target)
        macs += n
        if n and (kernel in _INTEGER_CONV or kernel in _INTEGER_MATMUL):
            integer_macs += n
            integer_kernels += 1
    return Cost(macs, integer_macs, integer_kernels)


def cpu_milliseconds(sessions: Mapping[str, Session], inputs: Arrays, *, rounds: int = 15) -> dict[str, list[float]]:
    """Return the CPU milliseconds per call of each session, one figure a round, the sessions taking turns.

    Within a round the machine is in one mood, so compare round by round. CPU time is that of the
    whole process: open the sessions with one thread, and let nothing else run in it.
    """
    calls = {name: _calls_needed(session, inputs) for name, session in sessions.items()}
    taken: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds):
        for name, session in sessions.items():
            taken[name].append(_milliseconds(session, inputs, calls[name]))
    return taken


def median_ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """Return the median over the rounds of slow / fast."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def _milliseconds(session: Session, inputs: Arrays, n_calls: int) -> float:
    start = time.process_time()
    for _ in range(n_calls):
        session.run(None, inputs)
    return (time.process_time() - start) / n_calls * 1e3


def _calls_needed(session: Session, inputs: Arrays) -> int:
    session.run(None, inputs)
    return max(1, math.ceil(_LEAST_SECONDS * 1e3 / max(_milliseconds(session, inputs, 3), 1e-6)))


def _profile(onnx: bytes, inputs: Arrays) -> list[tuple[str, list[list[int]], list[int]]]:
    """Return (kernel, shapes of its inputs, shape of its first output) of each kernel that ran."""
    with tempfile.TemporaryDirectory() as folder:
        # One level below the last: the last one pads channels to the machine's vectors, which would count as work.
        session = looking_session(onnx, level="extended", profiled_to=Path(folder) / "profile")
        session.run(None, dict(inputs))
        events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    ran = [event["args"] for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    return [
        (args["op_name"], _shapes(args["input_type_shape"]), _shapes(args["output_type_shape"])[0])
        for args in ran
        if args.get("output_type_shape")
    ]


def _shapes(described: list[dict[str, list[int]]]) -> list[list[int]]:
    return [next(iter(entry.values()), []) for entry in described]


def _macs(kernel: str, sources: list[list[int]], target: list[int]) -> int:
    place = _INTEGER_CONV.get(kernel, _FLOAT_CONV.get(kernel))
    if place is not None:
        return math.prod(target) * math.prod(sources[place][1:])  # (O, I / groups, kh, kw)
    if kernel in _INTEGER_MATMUL or kernel in _FLOAT_MATMUL:
        return math.prod(target) * sources[0][-1]
    return 0
