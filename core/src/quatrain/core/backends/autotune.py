"""Choosing a backend by measurement: whoever reproduces the golden outputs is timed, bucket by bucket."""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from quatrain.core import hardware
from quatrain.core.backends import choices as kept
from quatrain.core.backends.buckets import BUCKETS, sized
from quatrain.core.backends.choices import Choices
from quatrain.core.backends.golden import answer, first_line, largest_difference, verified_session
from quatrain.core.backends.protocol import Arrays, BackendError, Session
from quatrain.core.backends.registry import DEFAULT, is_installed, opener_of
from quatrain.core.bundle.manifest import BundleError
from quatrain.core.bundle.open import Bundle
from quatrain.core.errors import UserError

_LOG = logging.getLogger(__name__)
# Rounds of taking turns; the best of them counts, since others are disturbed by other processes.
ROUNDS = 7
# Seconds that one measurement takes at least, so that the clock's grain does not show.
_LEAST_SECONDS = 2e-3
# Seconds per call above which one call a round is enough.
_LONG_SECONDS = 0.2
# What another backend must be faster by than the default: less is noise, and costs memory and start-up.
_LEAST_GAIN = 0.03


def candidates() -> tuple[str, ...]:
    """Return the backends that are worth timing here without being asked for.

    On a CPU torch's are left out: importing torch takes seconds, compiling minutes.
    """
    found = [DEFAULT]
    if is_installed("openvino"):
        found.append("openvino")
    if kept.fingerprint()["gpus"]:
        import onnxruntime  # type: ignore[import-untyped]  # ships no types

        built = onnxruntime.get_available_providers()
        found += ["onnxruntime-cuda"] if "CUDAExecutionProvider" in built else []
        found += ["onnxruntime-tensorrt"] if "TensorrtExecutionProvider" in built else []
        found += ["torch", "torch-compile", "aoti"] if is_installed("torch") else []
    return tuple(found)


def tuned(
    bundle: Bundle,
    *,
    reference: str,
    threads: int | None = None,
    names: Sequence[str] | None = None,
    is_fresh: bool = False,
    rounds: int = ROUNDS,
) -> Choices:
    """Return the fastest backend of each bucket, measured now unless a current measurement is kept.

    `names` None means `candidates()`; ONNX Runtime, whose answers the others are held to, is always
    among them. `is_fresh` measures in any case. Raises UserError where the cache cannot be written.
    """
    threads = threads or hardware.cpu_limit()
    key = kept.key_of(bundle.digest, threads=threads)
    wanted = tuple(dict.fromkeys((DEFAULT, *(candidates() if names is None else names))))
    with kept.locked(key):
        found = None if is_fresh else kept.read(key)
        if found is not None and (names is None or set(wanted) <= {*found.seconds, *found.refused}):
            return found
        choices = _measured(bundle, key, wanted, reference=reference, threads=threads, rounds=rounds)
        kept.write(choices)
    _LOG.info("fastest backends of %s by rows: %s", reference, choices.text())
    return choices


def seconds_per_call(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
    least_seconds: float = _LEAST_SECONDS,
) -> dict[str, list[float]]:
    """Return the seconds of each call, one figure a round, the calls taking turns.

    Short calls are repeated until a figure takes `least_seconds`.
    """
    repeats = {name: _repeats(call, clock, least_seconds) for name, call in calls.items()}
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = clock()
            for _ in range(repeats[name]):
                call()
            taken[name].append((clock() - start) / repeats[name])
    return taken


def clock_of(threads: int) -> Callable[[], float]:
    """Return the clock that measures a call: CPU time on one thread, which other processes do not disturb."""
    return time.process_time if threads == 1 and not kept.fingerprint()["gpus"] else time.perf_counter


def _measured(
    bundle: Bundle, key: dict[str, Any], names: Sequence[str], *, reference: str, threads: int, rounds: int
) -> Choices:
    sessions, refused = _opened(bundle, names, reference=reference, threads=threads)
    golden, _ = bundle.golden()
    seconds: dict[str, dict[int, float]] = {name: {} for name in sessions}
    backends: dict[int, str] = {}
    for bucket in BUCKETS:
        rows = sized(golden, bucket)
        for name, reason in _disagreeing(sessions, bundle, rows, reference=reference).items():
            refused[name] = f"with {bucket} rows {reason}"
            seconds.pop(name)
            sessions.pop(name)
        output_names = [spec.name for spec in bundle.manifest.outputs]
        calls = {name: _call(session, output_names, rows) for name, session in sessions.items()}
        taken = seconds_per_call(calls, rounds=rounds, clock=clock_of(threads))
        for name in sessions:
            seconds[name][bucket] = min(taken[name])
        backends[bucket] = _fastest({name: seconds[name][bucket] for name in sessions}, taken)
    # A backend that was refused at a later bucket serves none.
    backends = {bucket: name if name in sessions else DEFAULT for bucket, name in backends.items()}
    return Choices(key=key, backends=backends, seconds=seconds, refused=refused)


def _opened(
    bundle: Bundle, names: Sequence[str], *, reference: str, threads: int
) -> tuple[dict[str, Session], dict[str, str]]:
    sessions: dict[str, Session] = {}
    refused: dict[str, str] = {}
    for name in names:
        try:
            opener = opener_of(name)
            sessions[name] = verified_session(bundle, opener, backend=name, reference=reference, threads=threads)
        except (BackendError, BundleError) as error:
            if name == DEFAULT:
                raise
            refused[name] = first_line(error)
    return sessions, refused


def _disagreeing(sessions: Mapping[str, Session], bundle: Bundle, rows: Arrays, *, reference: str) -> dict[str, str]:
    """Return the reason against each session that is farther from ONNX Runtime than the golden tolerance."""
    wanted = answer(sessions[DEFAULT], bundle.manifest, rows, reference=reference)
    reasons = {}
    for name, session in sessions.items():
        try:
            given = answer(session, bundle.manifest, rows, reference=reference)
        except UserError as error:
            reasons[name] = first_line(error)
            continue
        worst = max(
            largest_difference(given[output], wanted[output])[0]
            if given[output].shape == wanted[output].shape
            else math.inf
            for output in wanted
        )
        if worst > bundle.manifest.golden_atol:
            reasons[name] = f"it differs by {worst:.3g}, at most {bundle.manifest.golden_atol:g} is allowed"
    return reasons


def _call(session: Session, output_names: Sequence[str], rows: Arrays) -> Callable[[], object]:
    return lambda: session.run(output_names, rows)


def _fastest(best: Mapping[str, float], taken: Mapping[str, Sequence[float]]) -> str:
    """Return the fastest, the default unless another is clearly faster, by its best and by its median round."""
    name = min(best, key=lambda each: best[each])
    is_clear = best[name] <= best[DEFAULT] * (1 - _LEAST_GAIN) and statistics.median(taken[name]) < statistics.median(
        taken[DEFAULT]
    )
    return name if is_clear else DEFAULT


def _repeats(call: Callable[[], object], clock: Callable[[], float], least_seconds: float) -> int:
    for _ in range(2):
        call()
    start = time.perf_counter()
    call()
    if time.perf_counter() - start > _LONG_SECONDS:
        return 1
    start = clock()
    for _ in range(3):
        call()
    return max(1, math.ceil(least_seconds / max((clock() - start) / 3, 1e-7)))
