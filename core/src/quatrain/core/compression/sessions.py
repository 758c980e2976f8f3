"""ONNX Runtime sessions for looking at a graph rather than for serving it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from onnxruntime import InferenceSession  # type: ignore[import-untyped]  # ships no types

_FATAL_ONLY = 4


def looking_session(
    onnx: bytes,
    *,
    level: Literal["disabled", "basic", "extended"],
    saved_to: Path | None = None,
    profiled_to: Path | None = None,
) -> InferenceSession:
    """Return a session of one thread whose graph is optimised up to `level` only.

    `saved_to` gets the optimised graph. `profiled_to` begins the name of the profile, and packs no
    weights ahead, since packed ones have no shape there.
    """
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    options.intra_op_num_threads = 1
    options.graph_optimization_level = {
        "disabled": levels.ORT_DISABLE_ALL,
        "basic": levels.ORT_ENABLE_BASIC,
        "extended": levels.ORT_ENABLE_EXTENDED,
    }[level]
    if saved_to is not None:
        options.optimized_model_filepath = str(saved_to)
    if profiled_to is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profiled_to)
        options.add_session_config_entry("session.disable_prepacking", "1")
    return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
